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
# A literal, so that the partial indexes of pending items serve (see `schema`).
PENDING = items.state == sa.literal_column(f"'{State.PENDING}'")


def sending(run: str) -> str:
    """Name the lock that a producer holds while it sends a run's first messages."""
    return f"sending:{run}"


def unsent(limit: int, run: str | None = None) -> list[Job]:
    """List items that are due and have no message on the way.

    Without a ``run``, those runs are left out whose producer is still at it.
    """
    locks = schema.locks.c
    with ledger.reading() as connection:
        now = ledger.now(connection)
        names = sa.select(schema.runs.c.name, schema.runs.c.kind).order_by(schema.runs.c.name)
        if run is not None:
            names = names.where(schema.runs.c.name == run)
        else:
            sending_now = sa.exists().where(
                locks.name == sa.literal("sending:") + schema.runs.c.name, locks.until > now
            )
            names = names.where(~sending_now)
        jobs: list[Job] = []
        for name, kind in connection.execute(names).all():
            jobs += _unsent(connection, name, kind, now, limit - len(jobs))
            if len(jobs) >= limit:
                break
        return jobs


def _unsent(connection: sa.Connection, run: str, kind: str, now: float, limit: int) -> list[Job]:
    query = (
        sa.select(items.number)
        .where(items.run == run, PENDING, items.sent_at.is_(None), items.not_before <= now)
        .order_by(items.number)
        .limit(limit)
    )
    return [KINDS[kind](run=run, item=number) for number in connection.scalars(query)]


def left_over(kind: str, limit: int, sent_before: float) -> list[Job]:
    """List items that were claimed before and whose new message nobody took for ``sent_before`` seconds."""
    with ledger.reading() as connection:
        now = ledger.now(connection)
        rows = connection.execute(
            sa.select(items.run, items.number)
            .join(schema.runs, schema.runs.c.name == items.run)
            .where(PENDING, items.fence > items.attempt, items.not_before <= now)
            .where(items.sent_at <= now - sent_before, schema.runs.c.kind == kind)
            .order_by(items.run, items.number)
            .limit(limit)
        )
        return [KINDS[kind](run=name, item=number) for name, number in rows]


@ledger.retried
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
            [
                {"of_run": run, "of_number": number}
                for run, number in sorted((job.run, job.item) for job in jobs)
            ],
        )


@ledger.retried
def forget_sent(older_than: float = 0.0, kind: str | None = None, run: str | None = None) -> int:
    """Take messages for lost: pending items sent more than ``older_than`` seconds ago count as unsent.

    So do those that were sent in the future, since the ledger's clock was put back after it.
    """
    runs = sa.select(schema.runs.c.name)
    if run is not None:
        runs = runs.where(schema.runs.c.name == run)
    if kind is not None:
        runs = runs.where(schema.runs.c.kind == kind)
    with ledger.writing() as connection:
        now = ledger.now(connection)
        lost = sa.or_(items.sent_at <= now - older_than, items.sent_at > now)
        return ledger.update_in_order(
            connection, items.run.in_(runs) & PENDING & lost, {"sent_at": None}, skip=True
        )
