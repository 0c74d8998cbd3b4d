"""Pauses that services asked for, kept in the broker's Redis.

    of("chat")      ->  [Slowdown("chat/m@1f0c22aa", "chat (api.deepseek.com) says 429: ...", left=41.5)]
    forget("chat")  ->  the same; workers then call at once, at the full rate

Long pauses are in the ledger too (`calls.pauses`).
"""

import json
from dataclasses import dataclass
from typing import Any

import redis

from shared import broker

SUFFIX = ":pace"


@dataclass(frozen=True)
class Slowdown:
    """A service that is not called for ``left`` seconds, or (0) at a reduced rate; ``message`` is its own."""

    service: str
    message: str
    left: float


def key(service: str) -> str:
    """Give the prefix of all keys of a service."""
    return f"{broker.KEY_PREFIX}limit:{service}"


def of(provider: str) -> list[Slowdown]:
    """List the paused services of a provider.

    Raises:
        ServiceUnreachable: the broker does not answer.
    """
    try:
        return [slowdown for _, slowdown in _slowdowns(provider) if slowdown.left]
    except redis.RedisError as error:
        raise broker.unreachable(error) from None


def forget(provider: str) -> list[Slowdown]:
    """Delete the pauses and reduced rates of a provider's services; give them.

    Raises:
        ServiceUnreachable: the broker does not answer.
    """
    try:
        slowdowns = _slowdowns(provider)
        if slowdowns:
            broker.client().delete(*(name for name, _ in slowdowns))
    except redis.RedisError as error:
        raise broker.unreachable(error) from None
    return [slowdown for _, slowdown in slowdowns]


def _slowdowns(provider: str) -> list[tuple[str, Slowdown]]:
    client = broker.client()
    names = sorted(name.decode() for name in client.scan_iter(f"{key(provider)}/*{SUFFIX}", count=1000))
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    stored = zip(names, client.mget(names) if names else [], strict=True)
    return [(name, _slowdown(name, json.loads(record), now)) for name, record in stored if record]


def _slowdown(name: str, record: dict[str, Any], now: float) -> Slowdown:
    service = name.removeprefix(key("")).removesuffix(SUFFIX)
    return Slowdown(service, record.get("said", ""), max(0.0, record["until"] - now))
