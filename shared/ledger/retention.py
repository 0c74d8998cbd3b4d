"""Drop the texts of old runs' votes; their figures stay.

drop("round1")    votes: letters, scores and tokens stay; text, thinking and outputs are gone
"""

from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import controls, engine, runs, schema
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN

votes, calls, items = schema.votes.c, schema.calls.c, schema.items.c
_NONE = {"thinking": None, "output": None, "detail": None, "first_text": None}


@dataclass(frozen=True)
class Dropped:
    """A run whose texts were or would be dropped: its votes, and the bytes of their texts."""

    run: str
    votes: int
    bytes: int


def due(older_than: float) -> list[Run]:
    """Give the infer runs that ended more than ``older_than`` seconds ago and have their votes' texts.

    Runs whose votes an open run takes are left out.
    """
    everything = runs.list_runs()
    last = sa.select(items.run, sa.func.max(items.settled_at), sa.func.count().filter(items.state.in_(OPEN)))
    with engine.streaming() as connection:
        ended = {
            run: at for run, at, open_items in connection.execute(last.group_by(items.run)) if not open_items
        }
        before = engine.now(connection) - older_than
    used = {name for run in everything if run.name not in ended for name in controls.answered_from(run)}
    return [
        run
        for run in everything
        if run.kind == "infer" and run.texts_dropped_at is None and run.name not in used
        if (at := ended.get(run.name)) is not None and at < before
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


def drop(run: str) -> None:
    """Drop the texts of a run's votes; a repeated call completes an interrupted one."""
    _mark(run)
    for first in controls.ranges(run):
        _drop_some(run, first)


@engine.retried
def _mark(run: str) -> None:
    # First: from now on, whatever needs the texts refuses the run.
    with engine.writing() as connection:
        at = {"texts_dropped_at": engine.now(connection)}
        connection.execute(schema.runs.update().where(schema.runs.c.name == run).values(at))


@engine.retried
def _drop_some(run: str, first: int) -> None:
    with engine.writing() as connection:
        for table, values in ((schema.votes, {"text": "", **_NONE}), (schema.calls, {"reply": None})):
            which = table.c.run == run, table.c.number.between(first, first + controls.CHUNK - 1)
            connection.execute(table.update().where(*which).values(values))
