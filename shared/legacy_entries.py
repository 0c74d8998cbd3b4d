"""Read entries that earlier versions exported, whose notes stood among the user's own fields.

    {"id": "p1~synonym", ..., "origin": "synonym", "group": "0f3c…"}
        ->  {"id": "p1~synonym", ..., "votequeue": {"origin": "synonym", "group": "0f3c…"}}

Only what no user can have written by chance is taken for theirs; any other field of these names is a user's.
"""

from typing import Any

# Those of that time: no later strategy has written such an entry.
_STRATEGIES = ("back-translation", "synonym", "variant")
_MADE = {"label", "origin", "provider", "model", "prompt"}


def renamed(entry: dict[str, Any]) -> dict[str, Any]:
    """Give an entry with what older versions noted in its present place; any other entry as it is."""
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
        and all(isinstance(question, dict) and _noted(question) for question in questions)
    )


def _noted(question: dict[str, Any]) -> bool:
    wrong = question.get("wrong")
    texts = [question, *(wrong if isinstance(wrong, list) else [])]
    return any(isinstance(text, dict) and "votequeue" in text for text in texts)


def _question(question: Any) -> Any:
    if not isinstance(question, dict) or "votequeue" in question:
        return question
    found = _text(question)
    wrong = question.get("wrong")
    if isinstance(wrong, list):
        texts = list(map(_text, wrong))
        if any(one is not other for one, other in zip(texts, wrong, strict=True)):
            found = {**found, "wrong": texts}
    return found


def _text(text: Any) -> Any:
    if not isinstance(text, dict) or "votequeue" in text or not _is_made(text.get("made")):
        return text
    return {"votequeue" if name == "made" else name: value for name, value in text.items()}


def _is_made(made: Any) -> bool:
    return (
        isinstance(made, dict)
        and made.keys() == _MADE
        and made["origin"] in ("reason", *_STRATEGIES)
        and all(value is None or isinstance(value, str) for value in made.values())
    )
