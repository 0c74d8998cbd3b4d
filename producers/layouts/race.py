"""RACE: an article with several questions, or a row a question as on the hub.

{"id": "high1.txt", "article": "……", "questions": ["……"], "options": [["甲", "乙"]], "answers": ["A"]}
{"example_id": "high1.txt", "article": "……", "question": "……", "options": ["甲", "乙"], "answer": "A"}
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts.flat import Flat
from producers.layouts.notations import NOTATIONS
from producers.layouts.types import Layout, RowProblem, found

_LISTS = ("questions", "options", "answers")


@dataclass(frozen=True)
class Article(Layout):
    """An article with parallel lists of questions, options and answers."""

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        return isinstance(row, dict) and "article" in row and isinstance(row.get("questions"), list)

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`."""
        questions, options, answers = self._lists(row)
        asked = [
            {"question": question, "options": texts, "answer": _letter(at, answer, texts)}
            for at, (question, texts, answer) in enumerate(zip(questions, options, answers, strict=True))
        ]
        name = {"id": row["id"]} if row.get("id") not in (None, "") else {}
        return {**name, "problem": row.get("article"), "questions": asked}

    def _lists(self, row: Any) -> list[list[Any]]:
        if not isinstance(row, dict):
            raise RowProblem("", found(row, "an object"))
        questions = row.get("questions")
        if not isinstance(questions, list):
            raise RowProblem("questions", found(questions, "a list"))
        lists = [questions]
        for name in _LISTS[1:]:
            values = row.get(name, [None] * len(questions) if name == "answers" else None)
            if not isinstance(values, list) or len(values) != len(questions):
                raise RowProblem(name, found(values, f"a list of {len(questions)}, one for each question"))
            lists.append(values)
        return lists

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        return {**row, "answers": [next(letters) or "" for _ in row["questions"]]}

    def own_field(self, field: str) -> str:
        """See `Layout`."""
        place = re.sub(r"^questions(\[\d+\])\.(question|options)", _named, field)
        return "article" if place == "problem" else place


def _named(match: re.Match[str]) -> str:
    return ("questions" if match[2] == "question" else "options") + match[1]


def _letter(at: int, answer: Any, options: Any) -> str | None:
    if not isinstance(options, list) or len(options) < 2:
        raise RowProblem(f"options[{at}]", found(options, "a list of options: the row is not single-choice"))
    return NOTATIONS["letter"].read(f"answers[{at}]", answer, options)


LAYOUTS = (
    Article("race-article"),
    Flat(
        name="race",
        grouped=True,
        id="example_id",
        problem="article",
        question="question",
        options=("options",),
        answer="answer",
        needs={"article": str, "question": str, "options": list},
    ),
)
