"""The limiter: a call begins when all limits of its account allow it, across all workers.

    with limiter.admit(service, needs) as turn: # one of the calls at once, one of the day's
        turn.await_moment()                     # its place in the line, its tokens of the minute
        reply = model.complete(prompt)
    turn.answered(Usage(640, 310))              # what it did not use is there for others

All of it is kept under ``votequeue:limit:<service>`` in the broker's Redis, but a day's quota in the ledger.
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import redis

from shared.errors import Exhausted, Refused
from shared.ledger import calls, engine
from shared.providers import PROVIDERS
from workers.gateway.backoff import Backoffs
from workers.gateway.gcra import CallSchedule
from workers.gateway.limiter_recovery import LimiterRecovery
from workers.gateway.permit import LimiterState, RedisPermit
from workers.gateway.semaphore import Semaphores
from workers.gateway.token_window import TokenWindows
from workers.ports import Needs, Service


class RedisLimiter:
    """Keeps all workers of an account within its limits; one serves all the threads of a process.

    ``hold``: seconds after which a slot is free whose worker died; longer than any call takes.
    """

    def __init__(self, client: redis.Redis, stopping: threading.Event, hold: float = 150.0) -> None:
        lines, tokens = CallSchedule(client), TokenWindows(client)
        memories = LimiterRecovery(client, lines, tokens, hold)
        self._books = LimiterState(
            Backoffs(client), lines, tokens, Semaphores(client, hold), memories, stopping
        )

    @contextlib.contextmanager
    def admit(self, service: Service, needs: Needs) -> Iterator[RedisPermit]:
        """Wait until one of the calls at once is ours.

        Raises:
            Exhausted: the day's quota is used up, or the service wants a long pause.
            Interrupted: the worker stops.
            Refused: no minute has so many tokens.
            ServiceUnreachable: the broker does not answer.
        """
        _refuse_too_many(service, needs.likely.tokens)
        turn = RedisPermit(self._books, service, needs)
        try:
            turn.enter()
            _count_for_today(service)
            yield turn
        finally:
            turn.leave()


def _refuse_too_many(service: Service, tokens: int) -> None:
    most = service.limits.tokens_per_minute
    if most is not None and tokens > most:
        raise Refused(
            f"the call may use {tokens} tokens, but {service.provider}/{service.model} allows {most} "
            "a minute: ask for fewer, or raise its tokens_per_minute in VOTEQUEUE_LIMITS"
        )


def _count_for_today(service: Service) -> None:
    most = service.limits.per_day
    if most is None:
        return
    zone = ZoneInfo(PROVIDERS[service.provider].timezone)
    with engine.reading() as connection:
        now = datetime.fromtimestamp(engine.now(connection), zone)
    if calls.use_quota(service.name, now.date().isoformat(), most):
        return
    reset = datetime.combine(now.date() + timedelta(days=1), time(), zone)
    # Not reset - now: within one zone that is wall time, and wrong where a day has no 24 hours.
    delay = reset.timestamp() - now.timestamp()
    raise Exhausted(
        f"{calls.OWN_QUOTA}the day's {most} calls to {service.provider}/{service.model} are made: "
        f"the next ones are allowed from {reset:%Y-%m-%d %H:%M} {zone.key}",
        delay,
    )
