"""Read the results of `reason` and `translate` runs in chunks.

of_run("more")  ->  (0, {"entry": {"id": "p1~1", ...}, "dropped": []}), (1, ...), ...
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from shared.ledger import engine, schema
from shared.ledger.calls import NOT_MADE

items, results, entries = schema.items.c, schema.results.c, schema.entries.c


@dataclass(frozen=True)
class Timing:
    """The times of a run's first claim, its last settled item and its calls, in seconds (UTC)."""

    begun_at: float | None
    ended_at: float | None
    calls_at: list[float]


def of_run(run: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a run's results with their item numbers, in item order."""
    query = sa.select(results.number, results.value).where(results.run == run).order_by(results.number)
    with engine.streaming() as connection:
        yield from connection.execute(query).tuples()


def by_entry(run: str) -> Iterator[tuple[str, list[tuple[int, dict[str, Any]]]]]:
    """Read entries as in the file, each with its questions' results by index."""
    of_item = sa.and_(items.run == results.run, items.number == results.number)
    of_entry = sa.and_(entries.run == items.run, entries.position == items.entry)
    query = (
        sa.select(items.entry, items.question, results.value, entries.text)
        .select_from(schema.results.join(schema.items, of_item).join(schema.entries, of_entry))
        .where(results.run == run)
        .order_by(items.number)
    )
    with engine.streaming() as connection:
        for _, group in itertools.groupby(connection.execute(query), key=attrgetter("entry")):
            rows = list(group)
            yield rows[0].text, [(row.question, row.value) for row in rows]


def not_among(run: str, known: Collection[int]) -> list[tuple[int, dict[str, Any]]]:
    """Read the results of a run's items, except for the item numbers in ``known``."""
    with engine.reading() as connection:
        numbers = set(connection.scalars(sa.select(results.number).where(results.run == run)))
        values = sa.select(results.value).where(results.run == run)
        return [
            (number, connection.execute(values.where(results.number == number)).scalar_one())
            for number in sorted(numbers.difference(known))
        ]


def timing(run: str) -> Timing:
    """Give the times of a run's work and calls."""
    claimed_at, calls = schema.attempts.c.claimed_at, schema.calls.c
    sent = calls.outcome.is_distinct_from(NOT_MADE)
    times = sa.select(calls.begun_at).where(calls.run == run, sent).order_by(calls.begun_at)
    with engine.streaming() as connection:
        return Timing(
            connection.scalar(sa.select(sa.func.min(claimed_at)).where(schema.attempts.c.run == run)),
            connection.scalar(sa.select(sa.func.max(items.settled_at)).where(items.run == run)),
            list(connection.scalars(times)),
        )
