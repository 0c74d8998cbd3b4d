"""AR-LSAT: passages with their questions, or a row a question with an index from 0.

{"id": "2000_1-G_1", "passage": "……", "questions": [{"question": "……", "options": [...], "answer": "B"}]}
{"context": "……", "question": "……", "answers": ["甲", "乙"], "label": 1, "id_string": "2000_1-G_1_2"}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from producers.layouts.types import Layout, RowProblem, found

_ASKED = Flat(name="", question="question", options=("options",), answer="answer")


@dataclass(frozen=True)
class Passage(Layout):
    """A passage with a list of questions."""

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        questions = row.get("questions") if isinstance(row, dict) and "passage" in row else None
        return isinstance(questions, list) and all(isinstance(asked, dict) for asked in questions)

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`."""
        if not isinstance(row, dict) or not isinstance(row.get("questions"), list):
            raise RowProblem("", found(row, "an object with a passage and questions"))
        questions = [_asked(at, asked) for at, asked in enumerate(row["questions"])]
        name = {"id": row["id"]} if row.get("id") not in (None, "") else {}
        passage = row.get("passage")
        return {**name, "problem": "" if passage is None else passage, "questions": questions}

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        return {**row, "questions": [_ASKED.fill(asked, letters) for asked in row["questions"]]}

    def own_field(self, field: str) -> str:
        """See `Layout`."""
        return "passage" if field == "problem" else field


def _asked(at: int, asked: Any) -> dict[str, Any]:
    try:
        question: dict[str, Any] = _ASKED.entry(asked)["questions"][0]
    except RowProblem as error:
        raise RowProblem(f"questions[{at}].{error.field}".rstrip("."), error.problem) from None
    return question


def _passage_id(name: Any) -> Any:
    """Derive the passage's id from a question's: ``2000_1-G_1_2`` -> ``2000_1-G_1``; ``val_7`` has none."""
    return name.rpartition("_")[0] if isinstance(name, str) and name.count("_") > 1 else name


LAYOUTS = (
    Passage("ar-lsat"),
    Flat(
        name="lsat",
        grouped=True,
        id="id_string",
        entry_id=_passage_id,
        problem="context",
        question="question",
        options=("answers",),
        answer="label",
        notation="index-0",
        needs={"context": str, "question": str, "answers": list},
    ),
)
