"""Turn what a `reason` or `translate` run made into entries of the data format.

    {"id": "p1", "problem": "……", "questions": [{"question": "……", "options": ["甲", "乙"], "answer": "A",
        "reasoning": "……答案是：A", "votequeue": {"label": "correct", ...}}]}

Of answers and reasonings only what the run itself made is there: a question without a text of this run is
left out, and an entry of which nothing is left. The user's own fields stay. Entries are read a few at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared import json_text, legacy_entries
from shared.dataset import Entry
from shared.errors import UserError
from shared.jobs import DATA_QUEUES
from shared.ledger import results
from shared.ledger.runs import Run


@dataclass(frozen=True)
class Export:
    """One entry, from how many items it comes, and how many parts of these were dropped."""

    entry: dict[str, Any] | None
    items: int
    dropped: int


def entries(run: Run) -> Iterator[dict[str, Any]]:
    """Give what a run has made so far, in the order of its data set.

    Raises:
        UserError: it is a run of another kind.
    """
    return (export.entry for export in exports(run) if export.entry is not None)


def exports(run: Run) -> Iterator[Export]:
    """Give what a run has made so far, with what was dropped on the way; raises as `entries` does."""
    if run.kind not in DATA_QUEUES:
        raise UserError(
            f"run {run.name!r} is a {run.kind} run: only {' and '.join(DATA_QUEUES)} runs make texts"
        )
    if run.kind == "reason":
        return (_with_texts(*item, run.options["label"]) for item in results.by_entry(run.name))
    return _translated(run)


def _translated(run: Run) -> Iterator[Export]:
    for _, value in results.of_run(run.name):
        yield Export(legacy_entries.renamed(value["entry"]), 1, len(value.get("dropped", ())))


def _with_texts(text: str, values: list[tuple[int, dict[str, Any]]], label: str) -> Export:
    source = legacy_entries.renamed(json_text.loads(text))
    asked = Entry.model_validate(source).questions
    questions = [
        # The answer is taken as it was read, since it may be missing or blank in the text.
        _merged(source["questions"][index], asked[index].answer, _fields(value["texts"], label))
        for index, value in values
        if value["texts"]
    ]
    dropped = sum(len(value.get("dropped", ())) for _, value in values)
    return Export({**source, "questions": questions} if questions else None, len(questions), dropped)


def _merged(question: dict[str, Any], answer: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    old = {"reasoning", "wrong", "votequeue"} - fields.keys()
    kept = {name: value for name, value in question.items() if name not in old}
    return {**kept, "answer": answer, **fields}


def _fields(texts: list[dict[str, Any]], label: str) -> dict[str, Any]:
    if label == "correct":
        return {"reasoning": texts[0]["text"], "votequeue": _provenance(texts[0], label)}
    return {
        "wrong": [
            {"answer": text["letter"], "reasoning": text["text"], "votequeue": _provenance(text, label)}
            for text in texts
        ]
    }


def _provenance(text: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "label": label,
        "origin": "reason",
        "provider": text["provider"],
        "model": text["model"],
        "prompt": text["prompt"],
    }
