"""Convert the results of a `reason` or `translate` run into data set entries.

    {"id": "p1", "problem": "……", "questions": [{"question": "……", "options": ["甲", "乙"], "answer": "A",
        "reasoning": "……答案是：A", "votequeue": {"label": "correct", ...}}]}

Only this run's answers and texts are included; a program stands beside the data's own reasonings. Questions
without a text from this run are left out, and so are entries without questions. User fields are kept. Entries
are streamed.
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
from shared.voices import REASONING


@dataclass(frozen=True)
class Export:
    """One entry, the number of items behind it, and the number of their dropped parts."""

    entry: dict[str, Any] | None
    items: int
    dropped: int


def entries(run: Run) -> Iterator[dict[str, Any]]:
    """Return the entries generated so far, in data set order.

    Raises:
        UserError: it is a run of another kind.
    """
    return (export.entry for export in exports(run) if export.entry is not None)


def exports(run: Run) -> Iterator[Export]:
    """Return the entries generated so far with counts of dropped parts; raises as `entries` does."""
    if run.kind not in DATA_QUEUES:
        raise UserError(
            f"run {run.name!r} is a {run.kind} run: only {' and '.join(DATA_QUEUES)} runs make texts"
        )
    if run.kind == "reason":
        voice = run.options.get("voice", REASONING)
        return (_with_texts(*item, run.options["label"], voice) for item in results.by_entry(run.name))
    return _translated(run)


def _translated(run: Run) -> Iterator[Export]:
    for _, value in results.of_run(run.name):
        yield Export(legacy_entries.renamed(value["entry"]), 1, len(value.get("dropped", ())))


def _with_texts(text: str, values: list[tuple[int, dict[str, Any]]], label: str, voice: str) -> Export:
    source = legacy_entries.renamed(json_text.loads(text))
    asked = Entry.model_validate(source).questions
    merged = _with_reasonings if voice == REASONING else _with_program
    questions = [
        # Use the parsed answer: in the source text it may be missing or blank.
        merged(source["questions"][index], asked[index].answer, value["texts"], label)
        for index, value in values
        if value["texts"]
    ]
    dropped = sum(len(value.get("dropped", ())) for _, value in values)
    return Export({**source, "questions": questions} if questions else None, len(questions), dropped)


def _with_reasonings(
    question: dict[str, Any], answer: str | None, texts: list[dict[str, Any]], label: str
) -> dict[str, Any]:
    fields = _fields(texts, label)
    if program := (question.get("votequeue") or {}).get("program"):
        fields["votequeue"] = {**fields.get("votequeue", {}), "program": program}
    old = {"reasoning", "wrong", "votequeue"} - fields.keys()
    kept = {name: value for name, value in question.items() if name not in old}
    return {**kept, "answer": answer, **fields}


def _with_program(
    question: dict[str, Any], answer: str | None, texts: list[dict[str, Any]], label: str
) -> dict[str, Any]:
    # The reasonings stay: a question can be an example with both.
    provenance = {**(question.get("votequeue") or {}), "program": _provenance(texts[0], label)}
    return {**question, "answer": answer, "program": texts[0]["text"], "votequeue": provenance}


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
