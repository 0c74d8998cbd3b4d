"""Items that need a message, and items whose message was sent.

    unsent(2000)  ->  [Infer(run="round1", item=41), ...]

A message may be lost at any time: only its sending is recorded here. `claims` records who works on an item.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from shared import generators
from shared.jobs import KINDS, Job
from shared.ledger import engine, schema
from shared.ledger.schema import CLAIMED_BEFORE, PENDING, State

items = schema.items.c
EVERY: sa.ColumnElement[bool] = sa.true()
SUSPECT = 3  # consecutive deaths from which an item is suspected as their cause
EXAMINED = 2000  # previously claimed items of a run, among which the longest waiting are chosen


def sending(run: str) -> str:
    """Name the lock that a producer holds while it sends a run's first messages."""
    return f"sending:{run}"


def unsent(
    limit: int, run: str | None = None, *, lost: bool = False, rooms: Mapping[str, int] | None = None
) -> list[Job]:
    """List items that are due and have no message under way, in the order in which to send them.

    The runs of a queue with the highest priority come first, in equal shares and in turn. Runs that are
    paused, cancelled or near their deadline have none. ``rooms`` limits the items of each queue; a queue that
    it does not name has no room. Without a ``run``, runs whose producer is still sending are excluded.
    ``lost``: only items that were claimed before and released, as by a dead worker. Suspects are excluded
    from these: one that comes first each time might kill one worker after another.
    """
    locks = schema.locks.c
    with engine.reading() as connection:
        now = engine.now(connection)
        sending_now = sa.exists().where(
            locks.name == sa.literal("sending:") + schema.runs.c.name, locks.until > now
        )
        which = ~sending_now if run is None else schema.runs.c.name == run
        jobs: list[Job] = []
        active = schema.is_active(now)
        # Each state is read in the order of its index.
        state, order = (
            (sa.and_(CLAIMED_BEFORE, items.losses < SUSPECT), [items.number])
            if lost
            else (PENDING, [items.not_before, items.number])
        )
        due = sa.select(items.number).where(state, items.sent_at.is_(None), items.not_before <= now)
        due = due.order_by(*order)
        by_queue: defaultdict[str, defaultdict[int, list[tuple[str, str]]]]
        by_queue = defaultdict(lambda: defaultdict(list))
        for name, kind, queue, priority in _open_runs(connection, sa.and_(which, active)):
            by_queue[queue][priority].append((name, kind))
        for queue, ranks in by_queue.items():
            left = min(limit - len(jobs), limit if rooms is None else rooms.get(queue, 0))
            for _, members in sorted(ranks.items(), reverse=True):
                shares = _equal_shares(connection, members, left, due)
                left -= sum(map(len, shares))
                in_turn = itertools.chain.from_iterable(itertools.zip_longest(*shares))
                jobs += filter(None, in_turn)
        return jobs


def _equal_shares(
    connection: sa.Connection, members: Sequence[tuple[str, str]], room: int, due: sa.Select[tuple[int]]
) -> list[list[Job]]:
    """Read jobs of runs, given with their kinds, in equal shares of a room; ``due`` selects their numbers."""
    shares: dict[str, list[Job]] = {name: [] for name, _ in members}
    left, wanting = room, members
    while wanting and left > 0:
        capped = []
        for at, (name, kind) in enumerate(wanting):
            before = len(shares[name])
            most = before + math.ceil(left / (len(wanting) - at))
            found = connection.scalars(due.where(items.run == name).limit(most))
            shares[name] = [KINDS[kind](run=name, item=number) for number in found]
            left -= len(shares[name]) - before
            capped += [(name, kind)] if len(shares[name]) == most else []
        wanting = capped  # what the others do not need is theirs
    return list(shares.values())


def of_active_runs(jobs: Sequence[Job]) -> list[Job]:
    """Give those of some jobs whose runs are active."""
    with engine.reading() as connection:
        which = schema.runs.c.name.in_({job.run for job in jobs}), schema.is_active(engine.now(connection))
        active = set(connection.scalars(sa.select(schema.runs.c.name).where(*which)))
    return [job for job in jobs if job.run in active]


_REARRANGE = "rearrange "  # prefix of the facts that name queues whose messages are to be sent anew


@engine.retried
def rearrange(queue: str) -> None:
    """Request that the messages of a queue are sent anew, since a run is to come before others."""
    with engine.writing() as connection:
        now = str(engine.now(connection))
        engine.put(connection, schema.facts, {"name": _REARRANGE + queue}, {"value": now})


def put_in_turn(run: str, queue: str) -> None:
    """Request `rearrange` if messages of other runs are before those of a run."""
    with engine.reading() as connection:
        active = sa.and_(schema.runs.c.name != run, schema.is_active(engine.now(connection)))
        others = _open_runs(connection, active, [queue])
    if others:
        rearrange(queue)


def to_rearrange() -> dict[str, str]:
    """Give the queues whose messages are to be sent anew, each with its request."""
    facts = schema.facts.c
    query = sa.select(facts.name, facts.value).where(facts.name.startswith(_REARRANGE))
    with engine.reading() as connection:
        return {name.removeprefix(_REARRANGE): value for name, value in connection.execute(query)}


@engine.retried
def rearranged(queue: str, request: str) -> None:
    """Delete a request to send the messages of a queue anew, if there is no later one."""
    facts = schema.facts.c
    with engine.writing() as connection:
        same = facts.name == _REARRANGE + queue, facts.value == request
        connection.execute(schema.facts.delete().where(*same))


def count_unsent(run: str) -> int:
    """Count a run's pending items without a message under way."""
    query = sa.select(sa.func.count()).where(
        items.run == run, items.state == State.PENDING, items.sent_at.is_(None)
    )
    with engine.reading() as connection:
        return connection.scalar(query) or 0


def left_over(queues: Collection[str], limit: int, sent_before: float) -> list[Job]:
    """List previously claimed items of some queues whose new message nobody took for ``sent_before`` seconds.

    The longest waiting come first.
    """
    waiting: list[tuple[float, str, int, str]] = []
    with engine.reading() as connection:
        now = engine.now(connection)
        for run, kind, *_ in _open_runs(connection, schema.is_active(now), queues):
            # In the order of its index; otherwise the planner uses the index of all pending items.
            query = (
                sa.select(items.sent_at, items.run, items.number)
                .where(items.run == run, CLAIMED_BEFORE, items.not_before + 0 <= now)
                .where(items.sent_at + 0 <= now - sent_before)
                .order_by(items.number)
                .limit(EXAMINED)
            )
            waiting += [(*row, kind) for row in connection.execute(query)]
    return [KINDS[kind](run=run, item=number) for _, run, number, kind in sorted(waiting)[:limit]]


def sent(queue: str) -> dict[Job, float]:
    """Give the active items of a queue that have a message, and when it was sent."""
    under_way = PENDING, items.sent_at.is_not(None)
    with engine.reading() as connection:
        return {
            KINDS[kind](run=run, item=number): at
            for run, kind, *_ in _open_runs(connection, schema.is_active(engine.now(connection)), [queue])
            for number, at in connection.execute(
                sa.select(items.number, items.sent_at).where(items.run == run, *under_way)
            )
        }


def oldest_messages() -> dict[str, float]:
    """Give the age in seconds of the oldest message of each queue that nobody has taken."""
    ages: dict[str, float] = {}
    with engine.reading() as connection:
        now = engine.now(connection)
        for run, _, queue, _ in _open_runs(connection, schema.is_active(now)):
            sent = items.run == run, PENDING, items.sent_at.is_not(None)
            if (first := connection.scalar(sa.select(sa.func.min(items.sent_at)).where(*sent))) is not None:
                ages[queue] = max(ages.get(queue, 0.0), now - first)
    return ages


def open_queues() -> list[str]:
    """Name the queues of the runs that have pending items."""
    with engine.reading() as connection:
        return sorted({queue for _, _, queue, _ in _open_runs(connection)})


def _open_runs(
    connection: sa.Connection, which: sa.ColumnElement[bool] = EVERY, queues: Collection[str] | None = None
) -> list[tuple[str, str, str, int]]:
    """Name the runs among some, or in some queues, that have pending items; give kind, queue and priority."""
    pending = [
        sa.exists().where(items.run == schema.runs.c.name, PENDING, sent)
        for sent in (items.sent_at.is_(None), items.sent_at.is_not(None))
    ]
    columns = schema.runs.c
    query = sa.select(columns.name, columns.kind, columns.options, columns.priority)
    query = query.where(which, sa.or_(*pending))
    rows = connection.execute(query.order_by(columns.name))
    named = [(name, kind, generators.queue_of(kind, options), rank) for name, kind, options, rank in rows]
    return [each for each in named if queues is None or each[2] in queues]


@engine.retried
def mark_sent(jobs: Sequence[Job], before: Mapping[Job, float] = MappingProxyType({})) -> None:
    """Record that messages were sent; ``before``: when those were first sent that are sent anew."""
    ordered = sorted(jobs, key=lambda job: (job.run, job.item))
    with engine.writing() as connection:
        now = engine.now(connection)
        which = engine.among(connection.dialect.name)
        for (_, at), alike in itertools.groupby(ordered, key=lambda job: (job.run, before.get(job, now))):
            for some in engine.chunks(alike):
                engine.update_in_order(connection, which.params(engine.keys(some)), {"sent_at": at})


@engine.retried
def forget_sent(older_than: float = 0.0, queue: str | None = None, run: str | None = None) -> int:
    """Presume messages lost: pending items sent more than ``older_than`` seconds ago count as unsent.

    So do those with a future sending time, which the ledger's clock was set back after.
    """
    which = EVERY if run is None else schema.runs.c.name == run
    queues = None if queue is None else [queue]
    with engine.writing() as connection:
        now = engine.now(connection)
        return sum(
            engine.update_in_order(
                connection, sa.and_(items.run == name, PENDING, lost), {"sent_at": None}, skip=True
            )
            for name, *_ in _open_runs(connection, which, queues)
            # Two statements: the index serves each condition, but not their disjunction.
            for lost in (items.sent_at <= now - older_than, items.sent_at > now)
        )


def worked_on(jobs: Iterable[Job]) -> set[Job]:
    """Give the jobs that are claimed now."""
    with engine.reading() as connection:
        return {
            KINDS[kind](run=run, item=number)
            for kind, run, numbers in _by_run(jobs)
            for number in connection.scalars(
                sa.select(items.number).where(
                    items.run == run, items.number.in_(numbers), items.state == State.LEASED
                )
            )
        }


@engine.retried
def forget_taken(jobs: Iterable[Job], older_than: float) -> int:
    """Presume jobs' messages lost that were sent more than ``older_than`` seconds ago; give how many."""
    with engine.writing() as connection:
        late = sa.and_(PENDING, items.sent_at <= engine.now(connection) - older_than)
        return sum(
            engine.update_in_order(
                connection,
                sa.and_(items.run == run, items.number.in_(numbers), late),
                {"sent_at": None},
                skip=True,
            )
            for _, run, numbers in _by_run(jobs)
        )


def _by_run(jobs: Iterable[Job]) -> Iterator[tuple[str, str, list[int]]]:
    places = sorted({(job.queue, job.run, job.item) for job in jobs})
    for (kind, run), members in itertools.groupby(places, key=lambda place: place[:2]):
        yield kind, run, [number for _, _, number in members]


# Retrying items that wait or are dead


@engine.retried
def make_due(*runs: str) -> int:
    """Make all pending items of some runs due now; give how many were not."""
    with engine.writing() as connection:
        where = items.run.in_(runs) & (items.state == State.PENDING)
        late = where & (items.not_before > engine.now(connection))
        return engine.update_in_order(connection, late, {"not_before": 0.0, "sent_at": None})


@engine.retried
def revive(run: str, reason: str = "") -> int:
    """Make a run's dead items pending again, their deaths reset; give how many.

    With a ``reason``, only items whose reason begins with it. Only the rounds on record count as attempts.
    """
    changes: dict[str, Any] = {"state": State.PENDING, "losses": 0, "reason": None, "settled_at": None}
    # Older ledgers have no rounds, only their votes.
    recorded = [
        sa.select(sa.func.max(table.c.attempt))
        .where(table.c.run == items.run, table.c.number == items.number)
        .scalar_subquery()
        for table in (schema.rounds, schema.votes)
    ]
    changes["attempt"] = sa.func.coalesce(*recorded, 0)
    dead = (items.run == run) & (items.state == State.DEAD)
    with engine.writing() as connection:
        which = dead & items.reason.startswith(reason, autoescape=True)
        return engine.update_in_order(connection, which, {**changes, "not_before": 0.0, "sent_at": None})
