"""Progress of runs, read from the ledger: which runs there are, their items by state, dead items.

    progress_of("round1")  ->  RunProgress(run="round1", total=1328, states={"done": 412, ...}, ...)

Nothing is written here, no message sent and nothing printed.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from producers import console, time_left
from producers.time_left import Votes
from shared import broker
from shared.errors import ServiceUnreachable, UserError
from shared.ledger import engine, runs, schema
from shared.ledger.schema import OPEN, State
from shared.strategies import STRATEGIES

RATE_WINDOW = 300.0  # seconds that the present rate looks back
IDLE_AFTER = 15.0  # seconds without a claim after which nobody seems to be there

items, attempts = schema.items.c, schema.attempts.c


def unit(run: runs.Run) -> str:
    """Give the word for an item of a run: ``question``, ``entry`` or ``job``."""
    if run.kind == "translate":
        strategy = STRATEGIES.get(run.options["strategy"])
        return "question" if strategy and strategy.per_question else "entry"
    return "question" if run.kind in ("infer", "reason") else "job"


@dataclass(frozen=True)
class RunProgress:
    """How far a run is. Rate: items settled a minute; eta and idle: seconds; ``rounds[state][attempt]``.

    ``eta_rests_on`` says what the time left is worked out from, ``eta_at_most`` that it cannot take longer.
    ``votes`` are those of a run whose votes are sampled. Of the pending items, ``put_off`` wait for a time to
    come, the first of them for ``due_at``.
    """

    run: str
    kind: str
    unit: str
    source: str
    created_at: float
    total: int
    states: dict[str, int]
    rounds: dict[str, dict[int, int]]
    rate: float
    eta: float | None
    eta_at_most: bool
    eta_rests_on: str | None
    votes: Votes | None
    idle: float
    held_in_kind: int
    put_off: int
    due_at: float | None
    result: dict[str, Any] | None

    @property
    def open(self) -> int:
        """Count the items that have no end yet."""
        return sum(self.states[state] for state in OPEN)

    @property
    def settled(self) -> int:
        """Count the items that have an end, good or bad."""
        return self.total - self.open

    @property
    def share(self) -> float:
        """Give how much of the work is done, from 0 to 1: by votes where they are known, else by items."""
        if self.votes is not None and self.votes.total:
            return self.votes.done / self.votes.total
        return self.settled / self.total if self.total else 1.0

    @property
    def stalled(self) -> bool:
        """Tell whether items wait for a worker, and none has shown itself for a while."""
        due = self.states[State.PENDING] - self.put_off
        return due > 0 and not self.held_in_kind and self.idle > IDLE_AFTER


def progress_of(name: str) -> RunProgress:
    """Tell how far a run is.

    Raises:
        UserError: there is no such run.
    """
    run = runs.get_run(name)
    with engine.reading() as connection:
        now = engine.now(connection)
        rounds = _rounds(connection, name)
        begun, last = _first_and_last_claim(connection, name)
        settled, latest = _settled_since(connection, name, now - RATE_WINDOW)
        held = connection.scalar(_held_query(run.kind)) or 0
        put_off, due_at = _put_off(connection, name, now)
        result = _result(connection, name) if run.kind == "train" else None
        states = {state.value: sum(rounds[state].values()) for state in State}
        open_items = sum(states[state] for state in OPEN)
        votes = time_left.votes(connection, run, open_items)
    seconds = max(min(RATE_WINDOW, now - (begun or now)), 1.0)
    eta = time_left.by_items(open_items, settled, console.count(settled, unit(run)), seconds, RATE_WINDOW)
    # While fewer items wait than are held, they end together: only their votes tell how far they are.
    if votes is not None and states[State.PENDING] < max(states[State.LEASED], 1):
        eta = time_left.by_votes(votes) or eta
    if open_items:
        rate = 60 * settled / seconds
    else:
        rate = 60 * sum(states.values()) / max((latest or now) - (begun or now), 1.0)
    return RunProgress(
        run=name,
        kind=run.kind,
        unit=unit(run),
        source=run.source,
        created_at=run.created_at,
        total=sum(states.values()),
        states=states,
        rounds=rounds,
        rate=rate,
        eta=eta.seconds if eta else None,
        eta_at_most=eta is not None and eta.at_most,
        eta_rests_on=eta.rests_on if eta else None,
        votes=votes,
        idle=now - max(last or 0.0, run.created_at),
        held_in_kind=held,
        put_off=put_off,
        due_at=due_at,
        result=result,
    )


def _rounds(connection: sa.Connection, run: str) -> dict[str, dict[int, int]]:
    query = (
        sa.select(items.state, items.attempt, sa.func.count())
        .where(items.run == run)
        .group_by(items.state, items.attempt)
        .order_by(items.attempt)
    )
    found: dict[str, dict[int, int]] = {state.value: {} for state in State}
    for state, attempt, count in connection.execute(query):
        found[state][attempt] = count
    return found


def _first_and_last_claim(connection: sa.Connection, run: str) -> tuple[float | None, float | None]:
    columns = (
        sa.func.min(attempts.claimed_at),
        sa.func.max(attempts.claimed_at),
        sa.func.max(attempts.ended_at),
    )
    begun, claimed, ended = connection.execute(sa.select(*columns).where(attempts.run == run)).one()
    return begun, max(claimed, ended or claimed) if claimed else None


def _settled_since(connection: sa.Connection, run: str, since: float) -> tuple[int, float | None]:
    recent = sa.func.count().filter(items.settled_at > since)
    query = sa.select(recent, sa.func.max(items.settled_at)).where(items.run == run)
    count, latest = connection.execute(query).one()
    return count, latest


def _put_off(connection: sa.Connection, run: str, now: float) -> tuple[int, float | None]:
    query = sa.select(sa.func.count(), sa.func.min(items.not_before)).where(
        items.run == run, items.state == State.PENDING, items.not_before > now
    )
    count, first = connection.execute(query).one()
    return count, first


def _result(connection: sa.Connection, run: str) -> dict[str, Any] | None:
    return connection.scalar(sa.select(schema.results.c.value).where(schema.results.c.run == run))


def _held_query(kind: str) -> sa.Select[tuple[int]]:
    return (
        sa.select(sa.func.count())
        .select_from(schema.items.join(schema.runs, schema.runs.c.name == items.run))
        .where(items.state == State.LEASED, schema.runs.c.kind == kind)
    )


def waiting(kind: str) -> int | None:
    """Count the messages in a queue; ``None`` where the broker does not answer."""
    try:
        return broker.waiting(kind)
    except ServiceUnreachable:
        return None


def overview() -> list[tuple[runs.Run, dict[str, int]]]:
    """List all runs, oldest first, with their items counted by state."""
    query = sa.select(items.run, items.state, sa.func.count()).group_by(items.run, items.state)
    found: dict[str, dict[str, int]] = {}
    with engine.reading() as connection:
        for run, state, count in connection.execute(query):
            found.setdefault(run, {})[state] = count
    return [
        (run, {state.value: found.get(run.name, {}).get(state, 0) for state in State})
        for run in runs.list_runs()
    ]


def count_items(run: str) -> int:
    """Count a run's items."""
    return sum(runs.count_states(run).values())


def count_unsent(run: str) -> int:
    """Count the items that are pending and have no message on the way."""
    query = sa.select(sa.func.count()).where(
        items.run == run, items.state == State.PENDING, items.sent_at.is_(None)
    )
    with engine.reading() as connection:
        return connection.scalar(query) or 0


def require_questions(run: str) -> runs.Run:
    """Look up a run that answers questions.

    Raises:
        UserError: there is no such run, or it has none.
    """
    found = runs.get_run(run)
    if found.kind != "infer":
        raise UserError(
            f"run {run!r} is a {found.kind} run, which has no questions: see `votequeue status {run}`"
        )
    return found


@dataclass(frozen=True)
class Dead:
    """An item that was given up, and why."""

    number: int
    key: str
    reason: str
    attempt: int
    losses: int
    settled_at: float


def dead(run: str) -> list[Dead]:
    """List a run's dead items."""
    runs.get_run(run)
    columns = items.number, items.key, items.reason, items.attempt, items.losses, items.settled_at
    query = sa.select(*columns).where(items.run == run, items.state == State.DEAD).order_by(items.number)
    with engine.reading() as connection:
        return [Dead(*row) for row in connection.execute(query)]
