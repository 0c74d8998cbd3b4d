"""Everything on record about one item of a `reason` or `translate` run.

    trace_item("correct", "p1#2")  ->  ItemTrace(state="done", claims=[...], calls=[...], result={...}, ...)

Rows are as the ledger has them. A call that served several items at once is none of one item's.
"""

from dataclasses import dataclass
from typing import Any

from producers import run_progress
from shared.ledger import item_history, runs


@dataclass(frozen=True)
class ItemTrace:
    """One item: the entry or the question it is about, who worked on it, what was asked for it, its end."""

    run: str
    kind: str
    unit: str
    key: str
    number: int
    state: str
    reason: str | None
    not_before_at: float | None
    problem: str
    questions: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    result: dict[str, Any] | None


def trace_item(run: str, key: str) -> ItemTrace:
    """Tell everything on record of an item, named by its key (``p1#2``, or an entry's id) or its number.

    Raises:
        UserError: there is no such run or item; the message names those with a name like it.
    """
    known = runs.get_run(run)
    unit = run_progress.unit(known)
    item = item_history.read(run, key, unit)
    entry = runs.load_entry(run, item.entry)
    asked = [entry.questions[item.question]] if unit == "question" else entry.questions
    return ItemTrace(
        run=run,
        kind=known.kind,
        unit=unit,
        key=item.key,
        number=item.number,
        state=item.state,
        reason=item.reason,
        not_before_at=item.not_before_at,
        problem=entry.problem,
        questions=[question.model_dump(include={"question", "options", "answer"}) for question in asked],
        claims=item.claims,
        calls=item.calls,
        result=item.result,
    )
