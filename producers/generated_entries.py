"""Turn what a `reason` or `translate` run made into entries of the data format.

    {"id": "p1", "problem": "……", "questions": [{"question": "……", "options": ["甲", "乙"], "answer": "A",
        "reasoning": "……答案是：A", "votequeue": {"label": "correct", ...}}]}

Of answers and reasonings only what the run itself made is there: a question without a text of this run is
left out, and an entry of which nothing is left. The user's own fields stay. Entries are read a few at a time.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from shared import json_text, legacy_entries
from shared.dataset import Entry
from shared.errors import UserError
from shared.jobs import DATA_QUEUES
from shared.ledger import engine, schema
from shared.ledger.runs import Run

items, results, texts = schema.items.c, schema.results.c, schema.entries.c


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
    return _reasoned(run) if run.kind == "reason" else _translated(run)


def _translated(run: Run) -> Iterator[Export]:
    query = (
        sa.select(results.value)
        .select_from(schema.results.join(schema.items, _of_one_item()))
        .where(results.run == run.name)
        .order_by(items.number)
    )
    with engine.streaming() as connection:
        for value in connection.scalars(query):
            yield Export(legacy_entries.renamed(value["entry"]), 1, len(value.get("dropped", ())))


def _reasoned(run: Run) -> Iterator[Export]:
    of_one_entry = sa.and_(texts.run == items.run, texts.position == items.entry)
    query = (
        sa.select(items.entry, items.question, results.value, texts.text)
        .select_from(schema.results.join(schema.items, _of_one_item()).join(schema.entries, of_one_entry))
        .where(results.run == run.name)
        .order_by(items.number)
    )
    label = run.options["label"]
    with engine.streaming() as connection:
        rows = connection.execute(query)
        for _, group in itertools.groupby(rows, key=attrgetter("entry")):
            yield _with_texts(list(group), label)


def _of_one_item() -> sa.ColumnElement[bool]:
    return sa.and_(items.run == results.run, items.number == results.number)


def _with_texts(rows: list[sa.Row[Any]], label: str) -> Export:
    source = legacy_entries.renamed(json_text.loads(rows[0].text))
    asked = Entry.model_validate(source).questions
    questions = [
        # The answer is taken as it was read, since it may be missing or blank in the text.
        _anew(source["questions"][row.question], asked[row.question].answer, _made(row.value["texts"], label))
        for row in rows
        if row.value["texts"]
    ]
    dropped = sum(len(row.value.get("dropped", ())) for row in rows)
    return Export({**source, "questions": questions} if questions else None, len(questions), dropped)


def _anew(question: dict[str, Any], answer: str | None, made: dict[str, Any]) -> dict[str, Any]:
    old = {"reasoning", "wrong", "votequeue"} - made.keys()
    kept = {name: value for name, value in question.items() if name not in old}
    return {**kept, "answer": answer, **made}


def _made(found: list[dict[str, Any]], label: str) -> dict[str, Any]:
    if label == "correct":
        return {"reasoning": found[0]["text"], "votequeue": _maker(found[0], label)}
    return {
        "wrong": [
            {"answer": text["letter"], "reasoning": text["text"], "votequeue": _maker(text, label)}
            for text in found
        ]
    }


def _maker(text: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "label": label,
        "origin": "reason",
        "provider": text["provider"],
        "model": text["model"],
        "prompt": text["prompt"],
    }
