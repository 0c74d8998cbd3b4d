"""Drop the texts of old runs' votes; their figures stay.

drop(Ended("round1", ...))    votes: letters, scores and tokens stay; text, thinking and outputs are gone
"""

from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import controls, engine, runs, schema
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, Control

votes, calls, items = schema.votes.c, schema.calls.c, schema.items.c
_NONE = {"thinking": None, "output": None, "detail": None, "first_text": None}


@dataclass(frozen=True)
class Ended:
    """A run, when it had its last result, and why it must keep its texts, if so, at a moment."""

    name: str
    last: float
    seen_at: float
    kept_because: str | None


@dataclass(frozen=True)
class Dropped:
    """A run whose texts were or would be dropped: its votes, and the bytes of their texts."""

    run: str
    votes: int
    bytes: int


def ended(older_than: float) -> list[Ended]:
    """Give the runs that may have texts; these are kept for ``older_than`` seconds after the last result."""
    everything = runs.list_runs()
    last = sa.select(items.run, sa.func.max(items.settled_at), sa.func.count().filter(items.state.in_(OPEN)))
    with engine.streaming() as connection:
        rows = connection.execute(last.group_by(items.run))
        ends = {run.name: (0.0, 0) for run in everything} | {name: (at or 0.0, n) for name, at, n in rows}
        now = engine.now(connection)
    opened = [run for run in everything if ends[run.name][1]]
    takers = {name: run.name for run in opened for name in controls.answered_from(run)}

    def why_kept(run: Run) -> str | None:
        if run.kind != "infer":
            return f"it is a {run.kind} run"
        if run in opened:
            return "it is not finished"
        if run.name in takers:
            return f"run {takers[run.name]}, which is open, takes its votes"
        return "its last result is too recent" if ends[run.name][0] >= now - older_than else None

    return [
        Ended(run.name, ends[run.name][0], now, why_kept(run))
        for run in everything
        if run.control != Control.DELETING and (run.texts_dropped_at or 0.0) <= ends[run.name][0]
    ]


def size(run: str) -> Dropped:
    """Count a run's votes, and the bytes of their texts and of the replies of services."""
    with engine.streaming() as connection:
        texts = [votes[name] for name in ("text", *_NONE)]
        total = sum((_bytes(connection, column) for column in texts), sa.literal(0))
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(total), 0)).where(votes.run == run)
        count, in_votes = connection.execute(query).one()
        replies = sa.func.coalesce(sa.func.sum(_bytes(connection, calls.reply)), 0)
        in_calls = connection.scalar(sa.select(replies).where(calls.run == run)) or 0
    return Dropped(run, count, int(in_votes) + int(in_calls))


def _bytes(connection: sa.Connection, column: sa.ColumnElement[str | None]) -> sa.ColumnElement[int]:
    if connection.dialect.name == "postgresql":
        return sa.func.coalesce(sa.func.octet_length(column), 0)
    return sa.func.coalesce(sa.func.length(sa.cast(column, sa.LargeBinary)), 0)


def drop(run: Ended) -> None:
    """Drop the texts of a run's votes up to its last result."""
    # First: from now on, whatever needs the texts refuses the run. If this is interrupted, they are not older
    # than its last result, so that the next call completes it.
    _mark(run.name, run.last)
    for first in controls.ranges(run.name):
        _drop_some(run, first)
    _mark(run.name, run.seen_at)


@engine.retried
def _mark(run: str, at: float) -> None:
    with engine.writing() as connection:
        update = schema.runs.update().where(schema.runs.c.name == run)
        connection.execute(update.values(texts_dropped_at=at))


@engine.retried
def _drop_some(run: Ended, first: int) -> None:
    numbers = first, first + controls.CHUNK - 1
    # Questions may have been added or retried meanwhile.
    settled = sa.select(items.number).where(
        items.run == run.name, items.number.between(*numbers), items.settled_at <= run.last
    )
    with engine.writing() as connection:
        for table, values in ((schema.votes, {"text": "", **_NONE}), (schema.calls, {"reply": None})):
            which = table.c.run == run.name, table.c.number.between(*numbers), table.c.number.in_(settled)
            connection.execute(table.update().where(*which).values(values))
