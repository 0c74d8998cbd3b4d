"""Build the new entry of a strategy, and record what was dropped.

    Augmented({"id": "p1~synonym", "problem": "……", "questions": [{..., "votequeue": {...}}],
               "votequeue": {"origin": "synonym", "group": "0f3c…"}},
              [Dropped(2, "option B is empty")], "2 of 3 questions")

The new entry is in the recipe's format and records the provenance of every text.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.dataset import Entry, Question, TextProvenance, WrongReasoning, key
from shared.options import Augmentation


@dataclass(frozen=True)
class Dropped:
    """A question of the old entry (numbered from 1) that the new one lacks, and the reason."""

    question: int
    reason: str


@dataclass(frozen=True)
class Augmented:
    """A new entry in the recipe's format, and one line on it for Flower and `trace`."""

    entry: dict[str, Any]
    dropped: list[Dropped]
    line: str

    @property
    def value(self) -> dict[str, Any]:
        """Give the entry in the ledger's form."""
        return {"entry": self.entry, "dropped": [asdict(question) for question in self.dropped]}


def new_entry(
    source: Entry,
    options: Augmentation,
    problem: str,
    questions: Sequence[Question],
    only: int | None = None,
) -> dict[str, Any]:
    """Build an entry derived from ``source``, or (``only``) from one of its questions, from 0."""
    base = str(source.id) if only is None else key(source.id, only)
    return {
        "id": f"{base}~{options.strategy}",
        "problem": problem,
        "questions": [_question(question, options) for question in questions],
        "votequeue": {"origin": options.strategy, "group": source.group},
    }


def _question(question: Question, options: Augmentation) -> dict[str, Any]:
    label = "correct" if question.reasoning and question.answer else None
    fields = question.model_dump(include={"question", "options", "answer", "reasoning"}, exclude_none=True)
    if question.wrong:
        fields["wrong"] = [_wrong(wrong, options) for wrong in question.wrong]
    return {**fields, "votequeue": _provenance(label, options)}


def _wrong(wrong: WrongReasoning, options: Augmentation) -> dict[str, Any]:
    return {"answer": wrong.answer, "reasoning": wrong.reasoning, "votequeue": _provenance("wrong", options)}


def _provenance(label: str | None, options: Augmentation) -> dict[str, Any]:
    provenance = TextProvenance(
        label=label,
        origin=options.strategy,
        provider=options.provider,
        model=options.model,
        prompt=options.prompt,
    )
    return provenance.model_dump()
