"""Who works on what: claim, heartbeat, settle, release, expire.

    claim([Infer(run="round1", item=41)], "host:812:9f", lease=15)  ->  [Claim(..., attempt=1, fence=1)]

A claim is one compare-and-set, `pending -> leased`, that raises attempt and fence and sets a lease. Every
later write says `WHERE fence = mine`: of two workers that hold the same question, one writes. What is to be
done with a question is not known here.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from shared import ledger, schema
from shared.jobs import KINDS, Job
from shared.schema import State
from shared.voting import Answer, Vote

items = schema.items.c


@dataclass(frozen=True)
class Claim:
    """The right to work on one item until its lease ends.

    ``losses`` counts how often work on it was lost in a row: a question that may kill its worker shows here.
    """

    job: Job
    key: str
    entry: int
    question: int
    attempt: int
    fence: int
    losses: int


@dataclass(frozen=True)
class Ballot:
    """One vote as the ledger keeps it; ``score`` is the scorer's probability of soundness."""

    text: str
    letter: str | None
    score: float | None
    accepted: bool
    tokens: int


@dataclass(frozen=True)
class Settled:
    """The end of a claim's work: votes, and the answer if there is one; without, the item goes again."""

    claim: Claim
    ballots: Sequence[Ballot]
    answer: Answer | None
    outcome: str
    scorer: str | None = None


def claim(jobs: Iterable[Job], worker: str, lease: float) -> list[Claim]:
    """Claim what can be claimed of ``jobs``; what is done, dead, leased or not yet due is left out."""
    claimed = []
    with ledger.writing() as connection:
        now = ledger.now(connection)
        # One order for all: two workers that claim the same rows cannot wait for each other.
        for job in sorted(set(jobs), key=lambda job: (job.run, job.item)):
            taken = _claim_one(connection, job, worker, now, lease)
            if taken is not None:
                claimed.append(taken)
    return claimed


def _claim_one(connection: sa.Connection, job: Job, worker: str, now: float, lease: float) -> Claim | None:
    row = connection.execute(
        schema.items.update()
        .where(items.run == job.run, items.number == job.item)
        .where(items.state == State.PENDING, items.not_before <= now)
        .values(
            state=State.LEASED,
            attempt=items.attempt + 1,
            fence=items.fence + 1,
            holder=worker,
            lease_until=now + lease,
        )
        .returning(items.key, items.entry, items.question, items.attempt, items.fence, items.losses)
    ).one_or_none()
    if row is None:
        return None
    taken = Claim(job, *row)
    connection.execute(
        schema.attempts.insert().values(
            run=job.run,
            number=job.item,
            fence=taken.fence,
            attempt=taken.attempt,
            worker=worker,
            claimed_at=now,
        )
    )
    return taken


def heartbeat(worker: str, lease: float) -> int:
    """Extend all leases of a worker; give how many it holds."""
    with ledger.writing() as connection:
        return connection.execute(
            schema.items.update()
            .where(items.state == State.LEASED, items.holder == worker)
            .values(lease_until=ledger.now(connection) + lease)
        ).rowcount


def still_holds(connection: sa.Connection, held: Claim) -> bool:
    """Tell, within a transaction, whether a claim is still its worker's."""
    query = sa.select(items.number).where(*_same(held), items.state == State.LEASED)
    return connection.scalar(query) is not None


def _same(held: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return items.run == held.job.run, items.number == held.job.item, items.fence == held.fence


def holds(held: Claim) -> bool:
    """Tell whether a claim is still its worker's."""
    with ledger.reading() as connection:
        return still_holds(connection, held)


def forgive(connection: sa.Connection, held: Claim) -> None:
    """Count no loss before this moment any more, since the work on an item has come further."""
    connection.execute(schema.items.update().where(*_same(held)).values(losses=0))


def settle(ends: Iterable[Settled]) -> list[Settled]:
    """Write the ends of claims in one transaction; give those that still held their claim.

    A claim whose lease ran out and whose item somebody else took writes nothing: not a vote, not an answer.
    """
    with ledger.writing() as connection:
        now = ledger.now(connection)
        return [end for end in ends if _settle_one(connection, end, now)]


def _settle_one(connection: sa.Connection, end: Settled, now: float) -> bool:
    state = State.PENDING if end.answer is None else State.DONE
    changes = {"settled_at": None if end.answer is None else now, "losses": 0, "sent_at": None}
    if not _let_go(connection, end.claim, state, now, end.outcome, changes):
        return False
    where = {"run": end.claim.job.run, "number": end.claim.job.item, "attempt": end.claim.attempt}
    if end.ballots:
        rows = [
            {**where, "place": place, "scorer": end.scorer, **ballot.__dict__}
            for place, ballot in enumerate(end.ballots)
        ]
        connection.execute(schema.votes.insert(), rows)
    if end.answer is not None:
        values = {"letter": end.answer.letter, "how": end.answer.how, "support": end.answer.support}
        connection.execute(schema.answers.insert().values(**where, **values, answered_at=now))
    return True


def complete(
    claim: Claim,
    value: dict[str, Any],
    outcome: str = "done",
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> bool:
    """Write an item's result, and whatever ``also`` writes with it; tell whether the claim still held."""
    with ledger.writing() as connection:
        now = ledger.now(connection)
        if not _let_go(connection, claim, State.DONE, now, outcome, {"settled_at": now, "losses": 0}):
            return False
        row = {"run": claim.job.run, "number": claim.job.item, "value": value}
        connection.execute(schema.results.insert().values(**row))
        also(connection)
        return True


def bury(claim: Claim, reason: str) -> bool:
    """Settle an item as dead, for a reason that another try would not change."""
    with ledger.writing() as connection:
        now = ledger.now(connection)
        changes = {"reason": reason, "settled_at": now}
        return _let_go(connection, claim, State.DEAD, now, f"dead: {reason}", changes)


def release(claims: Iterable[Claim], reason: str, delay: float = 0.0) -> list[Job]:
    """Give items back untouched, as at a shutdown: no attempt charged, no loss counted."""
    released = []
    with ledger.writing() as connection:
        now = ledger.now(connection)
        for held in claims:
            changes = {"attempt": items.attempt - 1, "not_before": now + delay, "sent_at": None}
            if _let_go(connection, held, State.PENDING, now, f"released: {reason}", changes):
                released.append(held.job)
    return released


def put_off(held: Claim, reason: str, delay: float) -> bool:
    """Give an item back whose work failed for a reason that passes: another round, in ``delay`` seconds."""
    with ledger.writing() as connection:
        now = ledger.now(connection)
        changes: dict[str, Any] = {"not_before": now + delay, "sent_at": None, "losses": 0}
        return _let_go(connection, held, State.PENDING, now, f"again: {reason}", changes)


def release_all(worker: str, reason: str) -> list[Job]:
    """Give back everything a worker holds, as `release` does."""
    with ledger.reading() as connection:
        rows = connection.execute(
            sa.select(schema.items, schema.runs.c.kind)
            .join(schema.runs, schema.runs.c.name == items.run)
            .where(items.state == State.LEASED, items.holder == worker)
        ).all()
    return release([_held(row) for row in rows], reason)


def _held(row: Any) -> Claim:
    job = KINDS[row.kind](run=row.run, item=row.number)
    return Claim(job, row.key, row.entry, row.question, row.attempt, row.fence, row.losses)


def lose(claims: Iterable[Claim], reason: str, max_losses: int) -> list[Job]:
    """Give items back whose work was lost to a death in the house (an engine's, an unexplained error's).

    No attempt is charged, but the loss is counted: `max_losses` in a row make an item dead. Gives the jobs
    that are pending again.
    """
    again = []
    with ledger.writing() as connection:
        now = ledger.now(connection)
        for held in claims:
            # Not as the claim knew it: what was lost before may have been forgiven since.
            before = connection.scalar(sa.select(items.losses).where(*_same(held))) or 0
            state, changes = _after_loss(before + 1, reason, max_losses, now)
            if _let_go(connection, held, state, now, f"lost: {reason}", changes) and state is State.PENDING:
                again.append(held.job)
    return again


def expire(max_losses: int) -> int:
    """Take back every item whose lease has run out; give how many.

    Its worker is dead, or has been silent too long: should it wake, the fence keeps it from writing.
    """
    with ledger.writing() as connection:
        now = ledger.now(connection)
        rows = connection.execute(
            sa.select(schema.items, schema.runs.c.kind)
            .join(schema.runs, schema.runs.c.name == items.run)
            .where(items.state == State.LEASED, items.lease_until < now)
            .with_for_update(skip_locked=True, of=schema.items)
        ).all()
        for row in rows:
            reason = f"its worker {row.holder} went silent"
            state, changes = _after_loss(row.losses + 1, reason, max_losses, now)
            _let_go(connection, _held(row), state, now, f"lost: {reason}", changes)
        return len(rows)


def _after_loss(losses: int, reason: str, max_losses: int, now: float) -> tuple[State, dict[str, Any]]:
    changes: dict[str, Any] = {"losses": losses, "attempt": items.attempt - 1, "sent_at": None}
    if losses < max_losses:
        return State.PENDING, changes
    dead = {"reason": f"its work was lost {losses} times in a row, last: {reason}", "settled_at": now}
    return State.DEAD, changes | dead


def _let_go(
    connection: sa.Connection,
    held: Claim,
    state: State,
    now: float,
    outcome: str,
    changes: dict[str, Any],
) -> bool:
    kept = connection.execute(
        schema.items.update()
        .where(*_same(held), items.state == State.LEASED)
        .values(state=state, holder=None, lease_until=None, **changes)
    ).rowcount
    if kept:
        attempts = schema.attempts.c
        connection.execute(
            schema.attempts.update()
            .where(attempts.run == held.job.run, attempts.number == held.job.item)
            .where(attempts.fence == held.fence)
            .values(ended_at=now, outcome=outcome)
        )
    return bool(kept)


def earlier_ballots(job: Job) -> list[Vote]:
    """Read all votes of a question's finished rounds, in the order in which they were sampled."""
    columns = schema.votes.c
    query = (
        sa.select(columns.letter, columns.score)
        .where(columns.run == job.run, columns.number == job.item)
        .order_by(columns.attempt, columns.place)
    )
    with ledger.reading() as connection:
        return [Vote(*row) for row in connection.execute(query)]


def recorded_rounds(run: str, numbers: Sequence[int]) -> dict[int, list[list[sa.Row[Any]]]]:
    """Read the votes (text, tokens) of some of a run's questions, round by round, in their order."""
    columns = schema.votes.c
    query = (
        sa.select(columns.number, columns.attempt, columns.text, columns.tokens)
        .where(columns.run == run, columns.number.in_(numbers))
        .order_by(columns.number, columns.attempt, columns.place)
    )
    found: dict[int, list[list[sa.Row[Any]]]] = {}
    with ledger.reading() as connection:
        rows = connection.execute(query)
        for (number, _), votes in itertools.groupby(rows, key=attrgetter("number", "attempt")):
            found.setdefault(number, []).append(list(votes))
    return found


def make_due(*runs: str) -> int:
    """Let no pending item of some runs wait for its time any longer; give how many did."""
    with ledger.writing() as connection:
        return connection.execute(
            schema.items.update()
            .where(items.run.in_(runs), items.state == State.PENDING)
            .where(items.not_before > ledger.now(connection))
            .values(not_before=0.0, sent_at=None)
        ).rowcount


def revive(run: str, reason: str = "", recount: bool = False) -> int:
    """Make a run's dead items pending again, their losses forgiven; give how many.

    With a ``reason``, only those are whose own begins so. ``recount`` forgets their attempts too, which an
    item with votes must not: they are numbered by attempt.
    """
    changes: dict[str, Any] = {"state": State.PENDING, "losses": 0, "reason": None, "settled_at": None}
    if recount:
        changes["attempt"] = 0
    with ledger.writing() as connection:
        return connection.execute(
            schema.items.update()
            .where(items.run == run, items.state == State.DEAD)
            .where(items.reason.startswith(reason, autoescape=True))
            .values(**changes, not_before=0.0, sent_at=None)
        ).rowcount


# Leases with a name, such as the reconcile loop's


def hold(name: str, holder: str, lease: float) -> bool:
    """Take or extend a named lock; tell whether it is held now."""
    locks = schema.locks
    with ledger.writing() as connection:
        now = ledger.now(connection)
        taken = connection.execute(
            locks.update()
            .where(locks.c.name == name, sa.or_(locks.c.holder == holder, locks.c.until < now))
            .values(holder=holder, until=now + lease)
        ).rowcount
        if taken:
            return True
        # A savepoint, since on PostgreSQL a refused insert would spoil the whole transaction.
        try:
            with connection.begin_nested():
                connection.execute(locks.insert().values(name=name, holder=holder, until=now + lease))
        except sa.exc.IntegrityError:
            return False
        return True


def swap_fact(name: str, value: str) -> bool:
    """Note a fact about the world outside; tell whether another one was known before."""
    facts = schema.facts
    with ledger.writing() as connection:
        before = connection.scalar(sa.select(facts.c.value).where(facts.c.name == name))
        if before is None:
            connection.execute(facts.insert().values(name=name, value=value))
        elif before != value:
            connection.execute(facts.update().where(facts.c.name == name).values(value=value))
        return before not in (None, value)
