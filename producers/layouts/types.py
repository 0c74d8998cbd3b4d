"""What a layout of rows is: how its rows are recognised, read as an entry, and answered.

    row    {"passage": null, "question": "谁高？", "options": ["(A)甲", "(B)乙"], "label": "A"}
    entry  {"problem": "", "questions": [{"question": "谁高？", "options": [...], "answer": "A"}]}

A row is what one line, item or record of a file holds: an object, a list of cells of a table without a
header, or the lines of a block of text.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared import json_text


class RowProblem(Exception):
    """A row that cannot be used: its field, and why."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field, self.problem = field, problem


@dataclass(frozen=True)
class Layout(ABC):
    """A layout of rows.

    ``grouped``: neighbouring rows with the same id and problem are one entry. ``headerless``: rows are the
    cells of a table without a header; ``blocks``: the lines of a block of text.
    """

    name: str
    grouped: bool = False
    headerless: bool = False
    blocks: bool = False

    @abstractmethod
    def recognises(self, row: Any) -> bool:
        """Tell whether a row has the fields of this layout beyond doubt."""

    @abstractmethod
    def entry(self, row: Any) -> dict[str, Any]:
        """Convert a row into an entry; without ``id`` it is numbered.

        Raises:
            RowProblem: the row is not a single-choice question.
        """

    @abstractmethod
    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """Return a row with its answers filled in, one letter a question; ``None`` leaves a blank."""

    def own_field(self, field: str) -> str:
        """Translate the name of an entry's field into the row's."""
        return field

    def record(self) -> dict[str, Any]:
        """Describe the layout for the ledger."""
        return {"format": self.name}


def path_value(row: Any, path: str) -> Any:
    """Look up a field by its name, or by a path such as ``choices.text``; a missing one is ``None``.

    A path through a list of objects collects the values of all of them.
    """
    if not isinstance(row, dict) or path in row:
        return row.get(path) if isinstance(row, dict) else None
    name, _, rest = path.partition(".")
    inner = row.get(name) if rest else None
    if isinstance(inner, list):
        return [path_value(item, rest) for item in inner]
    return path_value(inner, rest) if rest else None


def with_value(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a row with one field replaced."""
    name, _, rest = path.partition(".")
    if path in row or not rest or not isinstance(row.get(name), dict):
        return {**row, path: value}
    return {**row, name: with_value(row[name], rest, value)}


def text_of(value: Any) -> Any:
    """Give the text of a number; other values are unchanged."""
    number = isinstance(value, int | json_text.Number) and not isinstance(value, bool)
    return json_text.dumps(value) if number else value


def found(value: Any, expected: str) -> str:
    """Phrase what a field holds and should hold."""
    return f"found {json_text.shown(value)}, expected {expected}"
