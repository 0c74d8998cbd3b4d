"""LogiQA: blocks of text, or JSON in the fields of its versions.

b                {"id": 1, "text": "甲比乙高。", "question": "谁高？", "options": ["乙", "甲"], "answer": 1}
甲比乙高。        {"context": "甲比乙高。", "query": "谁高？", "options": ["乙", "甲"], "correct_option": 1}
谁高？           {"label": "b", "context": "甲比乙高。", "question": "谁高？", "options": ["乙", "甲"]}
A.乙
B.甲
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from producers.layouts.notations import NOTATIONS
from producers.layouts.types import Layout, RowProblem, found

_BEFORE_OPTIONS = 3  # letter, problem, question


@dataclass(frozen=True)
class Block(Layout):
    """The lines of a block: letter, problem, question, options."""

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        if not isinstance(row, list) or len(row) < _BEFORE_OPTIONS + 2 or len(row[0].strip()) != 1:
            return False
        return str(row[0]).strip().isalpha() and str(row[_BEFORE_OPTIONS]).startswith("A")

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`."""
        if not isinstance(row, list) or len(row) < _BEFORE_OPTIONS + 2:
            raise RowProblem("", found(row, "lines for letter, problem, question and at least two options"))
        label, problem, question, *options = row
        answer = NOTATIONS["small-letter"].read("its first line", label, options)
        return {
            "problem": problem,
            "questions": [{"question": question, "options": options, "answer": answer}],
        }

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        return [NOTATIONS["small-letter"].write(next(letters), row[_BEFORE_OPTIONS:], (), row[0]), *row[1:]]


def _json(name: str, problem: str, question: str, answer: str, notation: str, kind: Any) -> Flat:
    return Flat(
        name=name,
        id="id",
        problem=problem,
        question=question,
        options=("options",),
        answer=answer,
        notation=notation,
        needs={problem: str, question: str, "options": list, answer: kind},
    )


LAYOUTS = (
    Block("logiqa-text", blocks=True),
    _json("logiqa2", "text", "question", "answer", "index-0", (int, type(None))),
    _json("logiqa-index", "context", "query", "correct_option", "index-0", (int, type(None))),
    _json("logiqa-letter", "context", "question", "label", "small-letter", (str, type(None))),
)
