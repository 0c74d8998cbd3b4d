"""Convert entries exported by earlier versions, which kept votequeue's metadata among the user's own fields.

    {"id": "p1~synonym", ..., "origin": "synonym", "group": "0f3c…"}
        ->  {"id": "p1~synonym", ..., "votequeue": {"origin": "synonym", "group": "0f3c…"}}

Only fields that a user cannot have written by chance are converted; others of the same names are the user's.
"""

from typing import Any

# The strategies of those versions; later strategies never wrote such entries.
_STRATEGIES = ("back-translation", "synonym", "variant")
_METADATA = {"label", "origin", "provider", "model", "prompt"}


def renamed(entry: dict[str, Any]) -> dict[str, Any]:
    """Move the metadata of an older version's entry to its present field; return other entries unchanged."""
    questions = entry.get("questions")
    if "votequeue" in entry or not isinstance(questions, list):
        return entry
    new = list(map(_question, questions))
    if all(one is other for one, other in zip(new, questions, strict=True)):
        return entry
    if not _is_augmented(entry, new):
        return {**entry, "questions": new}
    kept = {name: value for name, value in entry.items() if name not in ("origin", "group")}
    return {
        **kept,
        "questions": new,
        "votequeue": {"origin": entry["origin"], "group": entry["group"]},
    }


def _is_augmented(entry: dict[str, Any], questions: list[Any]) -> bool:
    origin, name = entry.get("origin"), entry.get("id")
    return (
        origin in _STRATEGIES
        and isinstance(entry.get("group"), str)
        and isinstance(name, str)
        and name.endswith(f"~{origin}")
        and all(isinstance(question, dict) and _has_metadata(question) for question in questions)
    )


def _has_metadata(question: dict[str, Any]) -> bool:
    wrong = question.get("wrong")
    texts = [question, *(wrong if isinstance(wrong, list) else [])]
    return any(isinstance(text, dict) and "votequeue" in text for text in texts)


def _question(question: Any) -> Any:
    if not isinstance(question, dict) or "votequeue" in question:
        return question
    converted = _text(question)
    wrong = question.get("wrong")
    if isinstance(wrong, list):
        texts = list(map(_text, wrong))
        if any(one is not other for one, other in zip(texts, wrong, strict=True)):
            converted = {**converted, "wrong": texts}
    return converted


def _text(text: Any) -> Any:
    if not isinstance(text, dict) or "votequeue" in text or not _is_metadata(text.get("made")):
        return text
    return {"votequeue" if name == "made" else name: value for name, value in text.items()}


def _is_metadata(fields: Any) -> bool:
    return (
        isinstance(fields, dict)
        and fields.keys() == _METADATA
        and fields["origin"] in ("reason", *_STRATEGIES)
        and all(value is None or isinstance(value, str) for value in fields.values())
    )
