"""Upper bounds of what a call may be charged, corrected by what replies have shown.

    seen = of("chat/m@1f0c22aa")       ->  UsageSeen(replies=16, output_share=3.1, ...)
    seen.bound(Usage(428, 1024))       ->  Usage(428, 3968)

A call is bounded before it is made: its prompt by its tokens, its reply by max_tokens. A service that uses
more than that (a system prompt of its own, thinking that max_tokens does not end) shows it in its replies,
and its later calls are bounded by the largest share seen.
"""

import math
from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import engine, schema
from shared.providers import Usage

# Replies after which a service has shown what it uses; until then, few calls are made at once.
PROVEN = 16
# Where a bound was passed there is no bound: the next reply may use more than any before it.
MARGIN = 1.25
seen = schema.usage_seen.c
_SHARES = ("input_share", "output_share", "characters_share")


@dataclass(frozen=True)
class UsageSeen:
    """What a service's replies have shown: how many there were (up to `PROVEN`), the largest shares used."""

    replies: int = 0
    input_share: float = 0.0
    output_share: float = 0.0
    characters_share: float = 0.0

    def bound(self, most: Usage) -> Usage:
        """Give what a call may be charged whose prompt and max_tokens allow ``most``."""
        return Usage(
            _passed(most.input_tokens, self.input_share),
            _passed(most.output_tokens, self.output_share),
            _passed(most.characters, self.characters_share),
        )

    @property
    def others(self) -> int | None:
        """Say how many other calls may be under way as long as few have shown what they use; None: any."""
        return None if self.replies >= PROVEN else self.replies


def _passed(most: int, share: float) -> int:
    return math.ceil(most * _multiple(share))


def _multiple(share: float) -> float:
    return 1.0 if share <= 1 else share * MARGIN


def of(service: str) -> UsageSeen:
    """Tell what the replies of a service have shown."""
    with engine.reading() as connection:
        return _read(connection, service)


def passed(provider: str) -> dict[str, float]:
    """Give the services of a provider that used more than their calls allowed, and how many times as much."""
    found = sa.case((seen.input_share > seen.output_share, seen.input_share), else_=seen.output_share)
    query = sa.select(seen.service, found).where(
        seen.service.startswith(provider + "/", autoescape=True), found > 1
    )
    with engine.reading() as connection:
        return {service: float(share) for service, share in connection.execute(query.order_by(seen.service))}


def learn(connection: sa.Connection, service: str, most: Usage, used: Usage) -> float:
    """Note what a reply used of ``most``; give the factor by which later bounds rise (1.0: none)."""
    if used == Usage():
        return 1.0
    shares = (
        _share(used.input_tokens, most.input_tokens),
        _share(used.output_tokens, most.output_tokens),
        _share(used.characters, most.characters),
    )
    before = _read(connection, service)
    known = (before.input_share, before.output_share, before.characters_share)
    factor = max(1.0, *(_multiple(new) / _multiple(old) for new, old in zip(shares, known, strict=True)))
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
