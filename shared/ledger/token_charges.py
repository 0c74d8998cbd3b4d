"""Upper bounds of a call's usage, corrected by observed usage.

    seen = of("chat/m@1f0c22aa")       ->  UsageSeen(replies=16, output_share=3.1, ...)
    seen.bound(Usage(428, 1024))       ->  Usage(428, 3968)

A call is bounded before it is made: its prompt by its tokens, its reply by max_tokens. Some services use more
(a system prompt of their own, thinking beyond max_tokens). Their later calls are bounded by the largest share
of the bound that a reply has used.
"""

import math
from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import engine, schema
from shared.providers import Usage

# Replies after which a service's usage counts as known; until then, concurrency is limited.
PROVEN = 16
# Factor on exceeded bounds: the next reply may use even more than the largest so far.
MARGIN = 1.25
seen = schema.usage_seen.c
_SHARES = ("input_share", "output_share", "characters_share")


@dataclass(frozen=True)
class UsageSeen:
    """Observed usage of a service: number of replies (up to `PROVEN`) and the largest shares of bounds."""

    replies: int = 0
    input_share: float = 0.0
    output_share: float = 0.0
    characters_share: float = 0.0

    def bound(self, most: Usage) -> Usage:
        """Give the bound of a call whose prompt and max_tokens allow ``most``."""
        return Usage(
            _scaled(most.input_tokens, self.input_share),
            _scaled(most.output_tokens, self.output_share),
            _scaled(most.characters, self.characters_share),
        )

    @property
    def others(self) -> int | None:
        """Give how many other calls may be under way until usage is known; None: any number."""
        return None if self.replies >= PROVEN else self.replies


def _scaled(most: int, share: float) -> int:
    return math.ceil(most * _multiple(share))


def _multiple(share: float) -> float:
    return 1.0 if share <= 1 else share * MARGIN


def of(service: str) -> UsageSeen:
    """Give the observed usage of a service."""
    with engine.reading() as connection:
        return _read(connection, service)


def passed(provider: str) -> dict[str, float]:
    """Give the services of a provider that exceeded their calls' bounds, and by which factor."""
    largest = sa.case((seen.input_share > seen.output_share, seen.input_share), else_=seen.output_share)
    query = sa.select(seen.service, largest).where(
        seen.service.startswith(provider + "/", autoescape=True), largest > 1
    )
    with engine.reading() as connection:
        return {service: float(share) for service, share in connection.execute(query.order_by(seen.service))}


def learn(connection: sa.Connection, service: str, most: Usage, used: Usage) -> float:
    """Record a reply's usage against ``most``; give the factor by which later bounds rise (1.0: none)."""
    if used == Usage():
        return 1.0
    shares = (
        _share(used.input_tokens, most.input_tokens),
        _share(used.output_tokens, most.output_tokens),
        _share(used.characters, most.characters),
    )
    before = _read(connection, service)
    largest = (before.input_share, before.output_share, before.characters_share)
    factor = max(1.0, *(_multiple(new) / _multiple(old) for new, old in zip(shares, largest, strict=True)))
    if before.replies < PROVEN or factor > 1:
        engine.insert_missing(connection, schema.usage_seen, [{"service": service}])
        connection.execute(
            schema.usage_seen.update()
            .where(seen.service == service)
            .values(
                replies=seen.replies + 1,
                **{name: _larger(name, new) for name, new in zip(_SHARES, shares, strict=True)},
            )
        )
    return factor


def _larger(name: str, new: float) -> "sa.ColumnElement[float]":
    return sa.case((seen[name] < new, new), else_=seen[name])


def _share(used: int, most: int) -> float:
    return used / most if most else 0.0


def _read(connection: sa.Connection, service: str) -> UsageSeen:
    columns = [seen.replies, *(seen[name] for name in _SHARES)]
    row = connection.execute(sa.select(*columns).where(seen.service == service)).one_or_none()
    return UsageSeen(*row) if row else UsageSeen()
