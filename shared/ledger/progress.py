"""Progress of runs: items by state and attempt, claims, votes, and dead items.

of_run(run, window=300.0)  ->  RunCounts(rounds={"done": {1: 400, 2: 12}, ...}, settled=81, ...)
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.ledger import engine, runs, sampling_progress, schema
from shared.ledger.runs import Run
from shared.ledger.sampling_progress import Sampled
from shared.ledger.schema import State
from shared.options import Sampling

items, attempts = schema.items.c, schema.attempts.c


@dataclass(frozen=True)
class RunCounts:
    """Counts of a run at one moment (``now``); times by the ledger's clock, in seconds since the epoch.

    ``rounds[state][attempt]`` counts items; ``settled`` those that ended within the window, ``settled_at`` is
    the last end of all. ``seen_at`` is when a claim last began or ended. ``held_in_kind`` counts the items of
    all runs of the kind that are claimed now. Of the pending items, ``put_off`` wait for a future time, the
    first for ``due_at``; ``put_off_by`` is how its last claim ended.
    ``sampled`` is what workers report of a run that samples votes, ``votes`` how many votes are recorded.
    """

    now: float
    rounds: dict[str, dict[int, int]]
    begun_at: float | None
    seen_at: float | None
    settled: int
    settled_at: float | None
    held_in_kind: int
    put_off: int
    due_at: float | None
    put_off_by: str | None
    result: dict[str, Any] | None
    sampled: Sampled | None
    votes: int


@dataclass(frozen=True)
class Dead:
    """A dead item, and the reason."""

    number: int
    key: str
    reason: str
    attempt: int
    losses: int
    settled_at: float


def of_run(run: Run, window: float) -> RunCounts:
    """Count a run's items, claims and votes in one transaction; the ``window`` is in seconds."""
    with engine.reading() as connection:
        now = engine.now(connection)
        rounds = _rounds(connection, run.name)
        begun_at, seen_at = _claim_times(connection, run.name)
        recent = sa.func.count().filter(items.settled_at > now - window)
        ends = sa.select(recent, sa.func.max(items.settled_at)).where(items.run == run.name)
        settled, settled_at = connection.execute(ends).one()
        held_in_kind = _held_in_kind(connection, run.kind)
        put_off, due_at, put_off_by = _put_off(connection, run.name, now)
        of_training = sa.select(schema.results.c.value).where(schema.results.c.run == run.name)
        result = connection.scalar(of_training) if run.kind == "train" else None
        sampled = _sampled(connection, run)
        votes = sa.select(sa.func.count()).where(schema.votes.c.run == run.name)
        return RunCounts(
            now=now,
            rounds=rounds,
            begun_at=begun_at,
            seen_at=seen_at,
            settled=settled,
            settled_at=settled_at,
            held_in_kind=held_in_kind,
            put_off=put_off,
            due_at=due_at,
            put_off_by=put_off_by,
            result=result,
            sampled=sampled,
            votes=(connection.scalar(votes) if sampled else None) or 0,
        )


def _rounds(connection: sa.Connection, run: str) -> dict[str, dict[int, int]]:
    query = (
        sa.select(items.state, items.attempt, sa.func.count())
        .where(items.run == run)
        .group_by(items.state, items.attempt)
        .order_by(items.attempt)
    )
    rounds: dict[str, dict[int, int]] = {state.value: {} for state in State}
    for state, attempt, count in connection.execute(query):
        rounds[state][attempt] = count
    return rounds


def _claim_times(connection: sa.Connection, run: str) -> tuple[float | None, float | None]:
    first, last = sa.func.min(attempts.claimed_at), sa.func.max(attempts.claimed_at)
    query = sa.select(first, last, sa.func.max(attempts.ended_at)).where(attempts.run == run)
    begun, claimed, ended = connection.execute(query).one()
    return begun, max(claimed, ended or claimed) if claimed else None


def _put_off(connection: sa.Connection, run: str, now: float) -> tuple[int, float | None, str | None]:
    waits = items.run == run, items.state == State.PENDING, items.not_before > now
    query = sa.select(sa.func.count(), sa.func.min(items.not_before)).where(*waits)
    count, due_at = connection.execute(query).one()
    first = sa.select(items.number).where(*waits).order_by(items.not_before, items.number).limit(1)
    ends = sa.select(attempts.outcome).where(attempts.run == run, attempts.number == first.scalar_subquery())
    return count, due_at, connection.scalar(ends.order_by(attempts.fence.desc()).limit(1))


def _held_in_kind(connection: sa.Connection, kind: str) -> int:
    query = (
        sa.select(sa.func.count())
        .select_from(schema.items.join(schema.runs, schema.runs.c.name == items.run))
        .where(items.state == State.LEASED, schema.runs.c.kind == kind)
    )
    return connection.scalar(query) or 0


def _sampled(connection: sa.Connection, run: Run) -> Sampled | None:
    samples = run.kind == "infer" and Sampling.of_record(run.options).votes_of is None
    return sampling_progress.of_run(connection, run.name) if samples else None


def overview() -> list[tuple[Run, dict[str, int]]]:
    """List all runs, oldest first, with their items counted by state."""
    query = sa.select(items.run, items.state, sa.func.count()).group_by(items.run, items.state)
    with engine.reading() as connection:
        counts = {(run, state): count for run, state, count in connection.execute(query)}
    return [
        (run, {state.value: counts.get((run.name, state.value), 0) for state in State})
        for run in runs.list_runs()
    ]


def put_off() -> dict[str, int]:
    """Count by run the pending items that are scheduled for later."""
    with engine.reading() as connection:
        later = schema.PENDING & (items.not_before > engine.now(connection))
        query = sa.select(items.run, sa.func.count()).where(later).group_by(items.run)
        return dict(connection.execute(query).tuples().all())


def dead(run: str) -> list[Dead]:
    """List a run's dead items.

    Raises:
        UserError: there is no such run.
    """
    runs.get_run(run)
    columns = items.number, items.key, items.reason, items.attempt, items.losses, items.settled_at
    query = sa.select(*columns).where(items.run == run, items.state == State.DEAD).order_by(items.number)
    with engine.reading() as connection:
        return [Dead(*row) for row in connection.execute(query)]
