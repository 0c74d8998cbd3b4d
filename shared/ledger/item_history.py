"""Read everything on record about one item: its claims, votes, answer, calls and result.

read("round1", "p1#2")  ->  ItemHistory(number=41, state="done", claims=[{"fence": 1, ...}], ...)
"""

import difflib
from dataclasses import dataclass
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
        item = _find(connection, run, name, word)
        put_off = item.state == State.PENDING and item.not_before > engine.now(connection)
        return ItemHistory(
            number=item.number,
            key=item.key,
            entry=item.entry,
            question=item.question,
            state=item.state,
            reason=item.reason,
            not_before_at=item.not_before if put_off else None,
            claims=_rows_of(connection, schema.attempts, item, "fence"),
            votes=_rows_of(connection, schema.votes, item, "attempt", "place"),
            answer=next(iter(_rows_of(connection, schema.answers, item)), None),
            calls=_rows_of(connection, schema.calls, item, "id"),
            result=next((row["value"] for row in _rows_of(connection, schema.results, item)), None),
        )


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
    connection: sa.Connection, table: sa.Table, item: sa.Row[Any], *order: str
) -> list[dict[str, Any]]:
    query = (
        sa.select(*(column for column in table.c if column.name not in ("run", "number")))
        .where(table.c.run == item.run, table.c.number == item.number)
        .order_by(*(table.c[name] for name in order))
    )
    return [dict(row._mapping) for row in connection.execute(query)]
