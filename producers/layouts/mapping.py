"""A layout that the user describes: `--map question=stem --map options=A,B,C,D --map answer=label`.

of_arguments(["question=stem", "options=A,B"], "letter")  ->  Mapped(question="stem", options=("A", "B"), ...)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from shared.errors import UserError

NAME = "map"
_FIELDS = ("id", "problem", "question", "options", "answer", "reasoning")


@dataclass(frozen=True, kw_only=True)
class Mapped(Flat):
    """A layout of the user's; ``fields`` are the pairs of which it was built."""

    fields: tuple[tuple[str, str], ...]

    def absent(self, rows: Sequence[dict[str, Any]]) -> str | None:
        """Give the first argument of `--map` with a name that none of the rows has.

        Reasonings and answers may begin later, or be missing altogether.
        """
        for field, names in self.fields:
            for name in names.split(",") if field == "options" else [names]:
                there = any(name in row or name.partition(".")[0] in row for row in rows)
                if not there and field not in ("answer", "reasoning"):
                    return f"{field}={name}"
        return None

    def record(self) -> dict[str, Any]:
        """See `Layout`."""
        return {**super().record(), "fields": dict(self.fields), "answers": self.notation}


def of_arguments(arguments: Sequence[str], answers: str) -> Mapped:
    """Build a layout from the values of `--map`.

    Raises:
        UserError: a value is not FIELD=NAME, a field is unknown or given twice, or question or options are
            missing.
    """
    fields: dict[str, str] = {}
    for argument in arguments:
        field, equals, name = argument.partition("=")
        names = name.split(",") if field == "options" else [name]
        if not equals or field not in _FIELDS or not all(names):
            raise UserError(f"--map {argument}: expected FIELD=NAME, with FIELD one of {', '.join(_FIELDS)}")
        if field in fields or len(set(names)) < len(names):
            raise UserError(f"--map {argument}: {field} or one of its names is given twice: take one out")
        fields[field] = name
    for field in ("question", "options"):
        if field not in fields:
            raise UserError(f"--map {field}=NAME is missing: say which field of the rows holds the {field}")
    return of_fields(fields, answers)


def of_fields(fields: Mapping[str, str], answers: str) -> Mapped:
    """Build a layout from the names of its fields; answers need a place in any case."""
    return Mapped(
        name=NAME,
        question=fields["question"],
        options=tuple(fields["options"].split(",")),
        answer=fields.get("answer", "answer"),
        problem=fields.get("problem"),
        id=fields.get("id"),
        reasoning=fields.get("reasoning"),
        notation=answers,
        fields=tuple(fields.items()),
    )
