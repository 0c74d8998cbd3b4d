"""Control over runs: pause, resume, cancel and delete them, and set their priority.

    cancel("round1")  ->  916    questions that will have no answer; those answered stay

Workers look here what they must stop. Changes of many rows are made in chunks, so that no other writer waits
for long.
"""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.errors import InvalidOption, UserError
from shared.ledger import engine, outbox, runs, schema
from shared.ledger.calls import UNDER_WAY
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, Control, State

CHUNK = 2000  # rows that one transaction changes
HIGHEST_PRIORITY = 1_000_000_000
_KEPT = (schema.runs, schema.models)  # tables with a column ``run`` whose rows are not a run's own
items = schema.items.c


@dataclass(frozen=True)
class Deleted:
    """The number of rows that were deleted, and runs that learned something from the run."""

    rows: int
    learners: list[str]


@engine.retried
def _set(run: Run, **values: Any) -> None:
    """Change a run, unless it is cancelled or being deleted."""
    columns = schema.runs.c
    with engine.writing() as connection:
        open_run = columns.name == run.name, columns.control.in_((Control.ACTIVE, Control.PAUSED))
        connection.execute(schema.runs.update().where(*open_run).values(**values))


def pause(name: str) -> None:
    """Let no worker claim items of a run; what is being sampled is finished.

    Raises:
        UserError: there is no such run, or it is cancelled.
    """
    run = runs.require_open(name)
    _set(run, control=Control.PAUSED)
    outbox.rearrange(run.queue)  # without its messages


def resume(name: str) -> None:
    """Lift a pause; raises as `pause`."""
    _set(runs.require_open(name), control=Control.ACTIVE)


def set_priority(name: str, priority: int) -> None:
    """Set a run's priority: messages of runs with a higher one are sent first.

    Raises:
        UserError: as `pause`, or it is not a whole number that the ledger can store.
    """
    if type(priority) is not int or abs(priority) > HIGHEST_PRIORITY:
        most = f"{HIGHEST_PRIORITY:,}"
        raise InvalidOption("N", f"expected a whole number from -{most} to {most}, not {priority!r}")
    run = runs.require_open(name)
    _set(run, priority=priority)
    outbox.rearrange(run.queue)


def cancel(name: str) -> int:
    """End all open items of a run without a result; return their number.

    Workers stop the work on them within seconds, and cannot write its results. A repeated call ends what an
    interrupted one left. A run without open items stays as it is.

    Raises:
        UserError: there is no such run.
    """
    run = runs.get_run(name)
    if not run.cancelled and not _count_open(name):
        return 0
    _set(run, control=Control.CANCELLED)
    ended = sum(_cancel_some(name, first) for first in ranges(name))
    outbox.rearrange(run.queue)
    return ended


def _count_open(run: str) -> int:
    states = runs.count_states(run)
    return sum(states[state] for state in OPEN)


def ranges(run: str) -> Iterator[int]:
    """Give the first number of each `CHUNK` of a run's items."""
    with engine.reading() as connection:
        last = connection.scalar(sa.select(sa.func.max(items.number)).where(items.run == run))
    return iter(range(0, -1 if last is None else last + 1, CHUNK))


@engine.retried
def _cancel_some(run: str, first: int) -> int:
    def within(table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.run == run, table.c.number.between(first, first + CHUNK - 1))

    with engine.writing() as connection:
        now = engine.now(connection)
        ends = {"state": State.CANCELLED, "settled_at": now, "holder": None, "lease_until": None}
        which = sa.and_(within(schema.items), items.state.in_(OPEN))
        if ended := engine.update_in_order(connection, which, ends):
            open_claims = within(schema.attempts), schema.attempts.c.ended_at.is_(None)
            outcome = {"ended_at": now, "outcome": State.CANCELLED}
            connection.execute(schema.attempts.update().where(*open_claims).values(outcome))
            connection.execute(schema.early_votes.delete().where(within(schema.early_votes)))
        return ended


def ended(names: Collection[str]) -> list[str]:
    """Give those of some runs whose work must stop: they are cancelled, or near their deadline."""
    columns = schema.runs.c
    with engine.reading() as connection:
        near = columns.deadline - schema.SAMPLING_ENDS <= engine.now(connection)
        which = sa.or_(near, columns.control.not_in((Control.ACTIVE, Control.PAUSED)))
        return list(connection.scalars(sa.select(columns.name).where(columns.name.in_(names), which)))


def delete(name: str) -> Deleted:
    """Delete all rows of a run; paid texts, examples, prompts and trained models stay.

    Its name cannot be used again. A repeated call completes an interrupted one.

    Raises:
        UserError: there is no such run, it is being worked on, or another run needs it.
    """
    run = runs.find_run(name) or runs.get_run(name)
    others = [other for other in runs.list_runs() if other.name != name]
    _require_deletable(run, others)
    _mark_deleting(name)
    own = (table for table in schema.metadata.sorted_tables if "run" in table.c and table not in _KEPT)
    rows = sum(_delete_rows(table, name) for table in own)
    _delete_run(name)
    outbox.rearrange(run.queue)
    return Deleted(rows + 1, [other.name for other in others if name in _learned_from(other)])


def _require_deletable(run: Run, others: Collection[Run]) -> None:
    name, calls = run.name, schema.calls.c
    if not run.cancelled and (count := _count_open(name)):
        raise UserError(f"run {name!r} has {count} open items: `votequeue cancel {name}` first")
    if users := [other.name for other in others if name in answered_from(other)]:
        raise UserError(f"run {name!r} is needed by {', '.join(users)}: delete those runs first")
    with engine.reading() as connection:
        recent = calls.ended_at.is_(None), calls.begun_at > engine.now(connection) - UNDER_WAY
        if under_way := connection.scalar(sa.select(sa.func.count()).where(calls.run == name, *recent)):
            raise UserError(f"{under_way} calls of run {name!r} are under way: try again in a minute")


def answered_from(run: Run) -> list[str]:
    """Name the runs whose votes or answers a run takes."""
    votes_of, redo_of = run.options.get("votes_of") or [], run.options.get("redo_of")
    return [*([votes_of] if isinstance(votes_of, str) else votes_of), *([redo_of] if redo_of else [])]


def _learned_from(run: Run) -> list[str]:
    named = [run.options.get(option) or "" for option in ("weights_from", "budget_from")]
    calibration = run.options.get("calibration") or {"runs": []}
    return [*(part.strip() for names in named for part in str(names).split(",")), *calibration["runs"]]


@engine.retried
def _mark_deleting(name: str) -> None:
    update = schema.runs.update().where(schema.runs.c.name == name)
    with engine.writing() as connection:
        connection.execute(update.values(control=Control.DELETING))


def _delete_rows(table: sa.Table, run: str) -> int:
    total = 0
    while count := _delete_some(table, run):
        total += count
    return total


@engine.retried
def _delete_some(table: sa.Table, run: str) -> int:
    begun = time.monotonic()
    with engine.writing() as connection:
        row = sa.literal_column("rowid" if connection.dialect.name == "sqlite" else "ctid", sa.String)
        some = sa.select(row).select_from(table).where(table.c.run == run).limit(CHUNK)
        which: sa.ColumnElement[bool] = row.in_(some)
        if connection.dialect.name == "postgresql":  # an array, so that it is no scan of the table
            which = row == sa.func.any(sa.func.array(some.scalar_subquery()))
        count = connection.execute(table.delete().where(which)).rowcount
    time.sleep(min(time.monotonic() - begun, 0.5))  # for other writers, which wait for SQLite's one lock
    return count


@engine.retried
def _delete_run(name: str) -> None:
    with engine.writing() as connection:
        connection.execute(schema.runs.delete().where(schema.runs.c.name == name))
        connection.execute(schema.locks.delete().where(schema.locks.c.name == outbox.sending(name)))
        now = str(engine.now(connection))
        engine.put(connection, schema.facts, {"name": runs.deleted(name)}, {"value": now})
