"""Read everything on record about items: their claims, votes, answers, calls and results.

read("round1", "p1#2")  ->  ItemHistory(number=41, state="done", claims=[{"fence": 1, ...}], ...)
"""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from shared.errors import UserError
from shared.ledger import engine, schema
from shared.ledger.schema import State

_KEYS_COMPARED = 20_000

items = schema.items.c


@dataclass(frozen=True)
class ItemHistory:
    """One item with its rows of other tables, as dicts by column, without calls for several items.

    ``not_before_at`` is ``None`` unless the item waits for a future time.
    """

    number: int
    key: str
    entry: int
    question: int
    state: str
    reason: str | None
    not_before_at: float | None
    claims: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    answer: dict[str, Any] | None
    calls: list[dict[str, Any]]
    result: dict[str, Any] | None


def read(run: str, name: str, word: str = "question") -> ItemHistory:
    """Read the history of an item that is named by its key or else by its number.

    Raises:
        UserError: there is none; the message calls it ``word`` and names similar keys.
    """
    with engine.reading() as connection:
        return _histories(connection, [_find(connection, run, name, word)])[0]


def chunks(run: str, size: int) -> Iterator[list[ItemHistory]]:
    """Read the histories of all items of a run, in order; each chunk is as of the time when it is read."""
    of_run = sa.select(schema.items).where(items.run == run).order_by(items.number).limit(size)
    last = -1
    while True:
        with engine.reading() as connection:
            found = connection.execute(of_run.where(items.number > last)).all()
            histories = _histories(connection, found) if found else []
        if not histories:
            return
        yield histories
        last = histories[-1].number


def _histories(connection: sa.Connection, found: Sequence[sa.Row[Any]]) -> list[ItemHistory]:
    """Read the histories of successive items of a run."""
    now = engine.now(connection)
    claims = _rows_of(connection, schema.attempts, found, "fence")
    votes = _rows_of(connection, schema.votes, found, "attempt", "place")
    answers = _rows_of(connection, schema.answers, found)
    calls = _rows_of(connection, schema.calls, found, "id")
    results = _rows_of(connection, schema.results, found)
    return [
        ItemHistory(
            number=item.number,
            key=item.key,
            entry=item.entry,
            question=item.question,
            state=item.state,
            reason=item.reason,
            not_before_at=item.not_before if item.state == State.PENDING and item.not_before > now else None,
            claims=claims.get(item.number, []),
            votes=votes.get(item.number, []),
            answer=next(iter(answers.get(item.number, [])), None),
            calls=calls.get(item.number, []),
            result=next((row["value"] for row in results.get(item.number, [])), None),
        )
        for item in found
    ]


def ended(run: str, number: int) -> tuple[str, str | None] | None:
    """Give an item's state, and why it is dead or how its last claim ended; ``None``: there is none."""
    last = schema.attempts.c
    outcome = (
        sa.select(last.outcome)
        .where(last.run == items.run, last.number == items.number, last.ended_at.is_not(None))
        .order_by(last.fence.desc())
        .limit(1)
        .scalar_subquery()
    )
    end = sa.case((items.state == State.DEAD, items.reason), else_=outcome)
    query = sa.select(items.state, end).where(items.run == run, items.number == number)
    with engine.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def _find(connection: sa.Connection, run: str, name: str, word: str) -> sa.Row[Any]:
    item = connection.execute(sa.select(schema.items).where(items.run == run, items.key == name)).first()
    if item is None and name.isascii() and name.isdigit() and len(name) < 10:
        by_number = sa.select(schema.items).where(items.run == run, items.number == int(name))
        item = connection.execute(by_number).first()
    if item is None:
        close = _close_keys(connection, run, name)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UserError(f"run {run!r} has no {word} {name!r}{hint}")
    return item


def _close_keys(connection: sa.Connection, run: str, name: str) -> list[str]:
    of_run = sa.select(items.key).where(items.run == run).order_by(items.number)
    of_entry = of_run.where(items.key.startswith(f"{name}#", autoescape=True)).limit(3)
    if keys := list(connection.scalars(of_entry)):
        return keys
    return difflib.get_close_matches(name, connection.scalars(of_run.limit(_KEYS_COMPARED)).all(), n=3)


def _rows_of(
    connection: sa.Connection, table: sa.Table, found: Sequence[sa.Row[Any]], *order: str
) -> dict[int, list[dict[str, Any]]]:
    """Read a table's rows of successive items, by item."""
    number = table.c.number
    query = (
        sa.select(*(column for column in table.c if column.name != "run"))
        .where(table.c.run == found[0].run, number.between(found[0].number, found[-1].number))
        .order_by(number, *(table.c[name] for name in order))
    )
    rows = (dict(row._mapping) for row in connection.execute(query))
    return {
        at: [{name: value for name, value in row.items() if name != "number"} for row in of_item]
        for at, of_item in itertools.groupby(rows, key=itemgetter("number"))
    }
