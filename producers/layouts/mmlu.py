"""MMLU: a CSV table without a header, or Parquet with the options in one column and an index.

谁高？,甲,乙,丙,丁,A      {"question": "谁高？", "subject": "logic", "choices": ["甲", "乙"], "answer": 0}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from producers.layouts.notations import NOTATIONS
from producers.layouts.types import Layout, RowProblem, found

_CELLS = 6
_LETTERS = ["A", "B", "C", "D"]


@dataclass(frozen=True)
class Headerless(Layout):
    """Rows of six cells: question, four options, letter."""

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        if not isinstance(row, list) or len(row) != _CELLS or row[-1] not in _LETTERS:
            return False
        # The header of C-Eval's and CMMLU's unlabelled tables ends in D too.
        return row[2:] != _LETTERS

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`."""
        if not isinstance(row, list) or len(row) != _CELLS:
            raise RowProblem("", found(row, "question, four options and a letter"))
        question, *options, label = row
        answer = NOTATIONS["letter"].read("column 6", label, options)
        return {"problem": "", "questions": [{"question": question, "options": options, "answer": answer}]}

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        return [*row[:-1], next(letters) or ""]

    def own_field(self, field: str) -> str:
        """See `Layout`."""
        place = field.removeprefix("questions[0].options[").removesuffix("]")
        return f"column {int(place) + 2}" if place.isdigit() else "column 1"


LAYOUTS = (
    Headerless("mmlu-csv", headerless=True),
    Flat(
        name="mmlu",
        question="question",
        options=("choices",),
        answer="answer",
        notation="index-0",
        needs={"question": str, "choices": list, "answer": (int, type(None))},
    ),
)
