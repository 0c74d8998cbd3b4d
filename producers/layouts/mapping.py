"""A layout that the user describes: `--map question=stem --map options=A,B,C,D --map answer=label`.

of_arguments(["question=stem", "options=A,B"], "letter")  ->  Flat("map", question="stem", options=("A", "B"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from shared.errors import UserError

NAME = "map"
_FIELDS = ("id", "problem", "question", "options", "answer", "reasoning")


@dataclass(frozen=True, kw_only=True)
class _Mapped(Flat):
    """A layout of the user's; ``fields`` are the pairs of which it was built."""

    fields: tuple[tuple[str, str], ...]

    def record(self) -> dict[str, Any]:
        return {**super().record(), "fields": dict(self.fields), "answers": self.notation}


def of_arguments(arguments: Sequence[str], answers: str) -> Flat:
    """Build a layout from the values of `--map`.

    Raises:
        UserError: a value is not FIELD=NAME, a field is unknown, or question or options are missing.
    """
    fields: dict[str, str] = {}
    for argument in arguments:
        field, equals, name = argument.partition("=")
        if not equals or field not in _FIELDS:
            raise UserError(f"--map {argument}: expected FIELD=NAME, with FIELD one of {', '.join(_FIELDS)}")
        fields[field] = name
    for field in ("question", "options"):
        if field not in fields:
            raise UserError(f"--map {field}=NAME is missing: say which field of the rows holds the {field}")
    return of_fields(fields, answers)


def of_fields(fields: Mapping[str, str], answers: str) -> Flat:
    """Build a layout from the names of its fields."""
    return _Mapped(
        name=NAME,
        question=fields["question"],
        options=tuple(fields["options"].split(",")),
        answer=fields.get("answer"),
        problem=fields.get("problem"),
        id=fields.get("id"),
        reasoning=fields.get("reasoning"),
        notation=answers,
        fields=tuple(fields.items()),
    )
