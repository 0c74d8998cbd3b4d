"""Read everything on record about one question of an `infer` run.

history("round1", "p1#2")  ->  History(state="done", claims=[...], votes=[...], ...)
"""

from dataclasses import dataclass
from typing import Any

from producers import run_progress
from shared.ledger import item_history, runs


@dataclass(frozen=True)
class History:
    """Everything that happened to one question; rows as the ledger has them."""

    run: str
    key: str
    number: int
    state: str
    reason: str | None
    problem: str
    question: str
    options: list[str]
    gold: str | None
    claims: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    answer: dict[str, Any] | None


def history(run: str, question: str) -> History:
    """Tell everything that happened to a question, named by its key (``p1#2``) or its item number.

    Raises:
        UserError: there is no such run or question; the message names those with a name like it.
    """
    run_progress.require_questions(run)
    item = item_history.read(run, question)
    entry = runs.load_entry(run, item.entry)
    asked = entry.questions[item.question]
    return History(
        run=run,
        key=item.key,
        number=item.number,
        state=item.state,
        reason=item.reason,
        problem=entry.problem,
        question=asked.question,
        options=asked.options,
        gold=asked.answer,
        claims=item.claims,
        votes=item.votes,
        answer=item.answer,
    )
