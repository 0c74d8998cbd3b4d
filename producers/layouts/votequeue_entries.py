"""The layout of votequeue itself: a row is an entry.

{"id": "p1", "problem": "甲比乙高。", "questions": [{"question": "谁高？", "options": [...], "answer": "A"}]}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts.types import Layout
from shared import dataset

NAME = "votequeue"


@dataclass(frozen=True)
class Entries(Layout):
    """Entries as they are."""

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        return isinstance(row, dict) and {"problem", "questions"} <= row.keys()

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`; `dataset.checked` finds all problems."""
        entry: dict[str, Any] = row
        return entry

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        return dataset.filled(row, letters)


LAYOUTS = (Entries(NAME),)
