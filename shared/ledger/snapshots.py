"""The state of the whole ledger, for monitoring; ended runs are counted once.

Snapshots().take()  ->  Snapshot([RunState("round1", "infer", {"done": 412, "pending": 88, ...}, ...)], ...)
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared import generators, model_store
from shared.ledger import calls, engine, models, schema
from shared.ledger.calls import Pause
from shared.ledger.schema import OPEN, PENDING, State
from shared.model_store import Kind

items, runs, spending = schema.items.c, schema.runs.c, schema.spending.c


@dataclass(frozen=True)
class RunState:
    """A run's items by state; ``is_open``: some are not settled.

    ``oldest_message`` is the age in seconds of the oldest message that nobody has taken. ``spent`` and
    ``budget`` are in the settings' currency.
    """

    name: str
    queue: str
    states: Mapping[str, int]
    is_open: bool
    oldest_message: float | None
    spent: float | None
    budget: float | None


@dataclass(frozen=True)
class Snapshot:
    """All runs, live workers by queue, paused services, and the models in use with their kinds."""

    runs: list[RunState]
    workers: Mapping[str, int]
    pauses: list[Pause]
    in_use: list[tuple[Kind, str]]


class Snapshots:
    """Takes snapshots, and remembers the items of ended runs."""

    def __init__(self) -> None:
        self._ended: dict[str, tuple[tuple[int, int], Mapping[str, int]]] = {}

    def take(self) -> Snapshot:
        """Read the ledger. Raises as `engine.reading` does."""
        with engine.reading() as connection:
            now = engine.now(connection)
            states = [self._run(connection, row, now) for row in connection.execute(_RUNS)]
            workers = schema.workers.c
            alive = sa.select(workers.queues).where(workers.lease_until > now, workers.queues.is_not(None))
            consumed = Counter(queue for queues in connection.scalars(alive) for queue in queues)
            last = {kind: models.last_promotion(connection, kind).model for kind in model_store.KINDS}
        in_use = [(kind, name) for kind, name in last.items() if name is not None]
        return Snapshot(states, consumed, calls.every_pause(), in_use)

    def _run(self, connection: sa.Connection, row: Any, now: float) -> RunState:
        # Items of an ended run change only if dead ones are retried, or others are appended.
        sign = row.last, row.dead
        known, counts = self._ended.pop(row.name, (None, {}))
        if row.is_open or known != sign:
            counts = _count(connection, row.name)
        if not row.is_open:
            self._ended[row.name] = sign, counts
        age = _oldest_message(connection, row.name, now) if row.is_open else None
        queue = generators.queue_of(row.kind, row.options)
        return RunState(row.name, queue, counts, bool(row.is_open), age, row.spent, row.budget)


_of_run = items.run == runs.name
_open = sa.or_(*(sa.exists().where(_of_run, items.state == state) for state in OPEN))
# Each subquery reads one entry of an index, or those of dead items.
_last = sa.select(sa.func.max(items.number)).where(_of_run).scalar_subquery()
_dead = sa.select(sa.func.count()).where(_of_run, items.state == State.DEAD).scalar_subquery()
_RUNS = (
    sa.select(runs.name, runs.kind, runs.options, spending.spent, spending.budget)
    .add_columns(_open.label("is_open"), _last.label("last"), _dead.label("dead"))
    .outerjoin(schema.spending, spending.run == runs.name)
    .order_by(runs.created_at, runs.name)
)


def _count(connection: sa.Connection, run: str) -> dict[str, int]:
    query = sa.select(items.state, sa.func.count()).where(items.run == run).group_by(items.state)
    found = dict(connection.execute(query).tuples().all())
    return {state.value: found.get(state, 0) for state in State}


def _oldest_message(connection: sa.Connection, run: str, now: float) -> float | None:
    query = sa.select(sa.func.min(items.sent_at)).where(items.run == run, PENDING, items.sent_at.is_not(None))
    sent_at = connection.scalar(query)
    return None if sent_at is None else max(0.0, now - sent_at)
