"""Explain what is wrong with an entry: the field, what it holds, and what is expected.

    first_problem(error, {"questions": [{"options": ["甲", "乙"], "answer": "b", ...}], ...})
        ->  ("questions[0].answer", 'found "b", expected a letter A–B: write "B"')

The models in `dataset` define the rules; this module only describes violations.
"""

import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from shared import json_text

_LETTERS = string.ascii_uppercase
_WRONG = '"answer" (a wrong letter or null) and "reasoning"'
_EXPECTED = {
    "": "a JSON object",
    "id": "text or a whole number",
    "problem": "text",
    "questions": "a list of at least one question",
    "questions[]": 'an object with "question" and "options"',
    "question": "text",
    "options": f"a list of 2 to {len(_LETTERS)} texts",
    "options[]": "text",
    "reasoning": "text",
    "program": "text",
    "wrong": f"a list of objects with {_WRONG}",
    "wrong[]": f"an object with {_WRONG}",
}
_OWN = dict.fromkeys(("reasoning", "program", "wrong"), "rename the field if it is your own")
# Our own fields: an entry's, and a text's.
_RESERVED = "an object: the name is reserved for what votequeue notes of an entry or a text (docs/data.md)"
# pydantic's names for the types of a union.
_TYPES = ("str", "int", "constrained-str", "constrained-int")
_SURROUNDING = re.compile(r"^[\W_]+|[\W_]+$")
_BEFORE_TEXT = re.compile(r"\W*([A-Z])(?=[^A-Z0-9a-z])")


def first_problem(error: ValidationError, entry: Any) -> tuple[str, str]:
    """Describe the first wrong field of an entry (as it was read): where it is, and what is wrong."""
    first = error.errors()[0]
    way = [part for part in first["loc"] if part not in _TYPES]
    context = first.get("ctx", {})
    if first["type"] == "letter":
        way += context["field"]
    where = ""
    for part in way:
        where = json_text.below(where, part)
    names = [part for part in way if isinstance(part, str)]
    name = (names[-1] if names else "") + ("[]" if way and isinstance(way[-1], int) else "")
    if "votequeue" in names:
        return where, _in_namespace(name, first["type"], first["input"], context)
    question = entry["questions"][way[1]] if way[:1] == ["questions"] and len(way) > 1 else {}
    options = question.get("options") if isinstance(question, dict) else None
    expected = _expected_letter(options, "wrong" in names) if name == "answer" else _EXPECTED[name]
    if first["type"] == "missing":
        return where, f"the field is missing, expected {expected}"
    value = context.get("value", first["input"])
    hint = _hint(name, value, options) if names[-2:] != ["wrong", "reasoning"] else ""
    return where, f"found {_describe_value(name, value)}, expected {expected}" + (f": {hint}" if hint else "")


def _in_namespace(name: str, kind: str, value: Any, context: dict[str, Any]) -> str:
    if kind == "extra_forbidden":
        return "there is no such field in votequeue's own: write your own fields outside of it"
    expected = _RESERVED if name == "votequeue" else "text or null"
    return f"found {json_text.shown(value)}, expected {expected}"


def _describe_value(name: str, value: Any) -> str:
    if name == "options" and isinstance(value, list):
        return "1 option" if len(value) == 1 else f"{len(value)} options"
    return json_text.shown(value)


def _expected_letter(options: Any, wrong: bool) -> str:
    counted = isinstance(options, list) and 2 <= len(options) <= len(_LETTERS)
    letter = f"a letter A–{_LETTERS[len(options) - 1]}" if counted else "a letter"
    return f"{letter} or null" if wrong else letter


def _hint(name: str, value: Any, options: Any) -> str:
    if name == "answer":
        return _letter_hint(value, options if isinstance(options, list) else [])
    if name == "options" and isinstance(value, dict):
        return "write the texts as a list, in the order of their letters"
    if name == "questions" and isinstance(value, dict):
        return "write it as a list, be it of one question"
    if name in ("options[]", "problem", "question") and isinstance(value, int | json_text.Number):
        return f'write "{json_text.dumps(value)}"'
    if name == "problem" and value is None:
        return 'write "" where the question says all'
    return _OWN.get(name, "")


def _letter_hint(value: Any, options: Sequence[Any]) -> str:
    if isinstance(value, str):
        return _text_hint(value, options)
    if isinstance(value, list):
        letter = _intended_letter(value[0], options) if len(value) == 1 else ""
        return f'write "{letter}"' if letter else "a question has one right option"
    is_number = isinstance(value, int | json_text.Number) and not isinstance(value, bool)
    return "options are named by letters, the first is A" if is_number else ""


def _text_hint(value: str, options: Sequence[Any]) -> str:
    if not value.strip():
        return "leave the field out, or write null, where no answer is known"
    plain = _SURROUNDING.sub("", unicodedata.normalize("NFKC", value)).upper()
    if letter := _intended_letter(value, options):
        return f'write "{letter}"' if plain == letter else f'option {letter} has this text, write "{letter}"'
    compact = re.sub(r"[\W_]", "", plain)
    letters = _LETTERS[: len(options)]
    return (
        "a question has one right option" if compact and all(letter in letters for letter in compact) else ""
    )


def _intended_letter(value: Any, options: Sequence[Any]) -> str:
    """Guess the intended letter, for a hint only; empty if it is unclear."""
    if not isinstance(value, str):
        return ""
    letters = _LETTERS[: len(options)]
    texts = [option.strip() for option in options if isinstance(option, str)]
    if texts.count(value.strip()) == 1 and len(texts) == len(options):
        return letters[texts.index(value.strip())]
    plain = unicodedata.normalize("NFKC", value)
    core = _SURROUNDING.sub("", plain).upper()
    if len(core) == 1 and core in letters:
        return core
    lead = _BEFORE_TEXT.match(plain)
    rest = plain[lead.end() :].strip(" .:、,)") if lead else ""
    return lead[1] if lead and lead[1] in letters and rest in texts else ""
