"""Which items have a message on the way, and which want one.

    unsent(2000)  ->  [Infer(run="round1", item=41), ...]

A message may be lost at any time: what is noted here is only what was sent. Who works on what is `claims`'.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from shared import ledger, schema
from shared.jobs import KINDS, Job
from shared.schema import State

items = schema.items.c


def sending(run: str) -> str:
    """Name the lock that a producer holds while it sends a run's first messages."""
    return f"sending:{run}"


def unsent(limit: int, run: str | None = None) -> list[Job]:
    """List items that are due and have no message on the way.

    Without a ``run``, those runs are left out whose producer is still at it.
    """
    query = (
        sa.select(schema.runs.c.kind, items.run, items.number)
        .join(schema.runs, schema.runs.c.name == items.run)
        .where(items.state == State.PENDING, items.sent_at.is_(None))
        .order_by(items.run, items.number)
        .limit(limit)
    )
    with ledger.reading() as connection:
        now = ledger.now(connection)
        locks = schema.locks.c
        busy = sa.exists().where(locks.name == sa.literal("sending:") + items.run, locks.until > now)
        query = query.where(items.run == run) if run is not None else query.where(~busy)
        due = query.where(items.not_before <= now)
        return [KINDS[kind](run=name, item=number) for kind, name, number in connection.execute(due)]


def left_over(kind: str, limit: int, sent_before: float) -> list[Job]:
    """List items whose work was lost and whose new message nobody took for ``sent_before`` seconds."""
    with ledger.reading() as connection:
        now = ledger.now(connection)
        rows = connection.execute(
            sa.select(items.run, items.number)
            .join(schema.runs, schema.runs.c.name == items.run)
            .where(items.state == State.PENDING, items.losses > 0, items.not_before <= now)
            .where(items.sent_at <= now - sent_before, schema.runs.c.kind == kind)
            .order_by(items.run, items.number)
            .limit(limit)
        )
        return [KINDS[kind](run=name, item=number) for name, number in rows]


def mark_sent(jobs: Sequence[Job]) -> None:
    """Note that messages are on the way."""
    if not jobs:
        return
    with ledger.writing() as connection:
        now = ledger.now(connection)
        connection.execute(
            schema.items.update()
            .where(items.run == sa.bindparam("of_run"), items.number == sa.bindparam("of_number"))
            .values(sent_at=now),
            [{"of_run": job.run, "of_number": job.item} for job in jobs],
        )


def forget_sent(older_than: float = 0.0, kind: str | None = None, run: str | None = None) -> int:
    """Take messages for lost: pending items sent more than ``older_than`` seconds ago count as unsent."""
    with ledger.writing() as connection:
        query = schema.items.update().where(
            items.state == State.PENDING,
            items.sent_at.is_not(None),
            items.sent_at <= ledger.now(connection) - older_than,
        )
        if run is not None:
            query = query.where(items.run == run)
        if kind is not None:
            named = sa.select(schema.runs.c.name).where(schema.runs.c.kind == kind)
            query = query.where(items.run.in_(named))
        return connection.execute(query.values(sent_at=None)).rowcount
