"""The limiter: a call begins when all limits of its account allow it, across all workers.

    with limiter.admit(service, needs) as permit: # semaphore, quota of the day
        permit.await_moment()                     # GCRA slot, tokens of the minute
        reply = model.complete(prompt)
    permit.answered(Usage(640, 310))              # releases unused tokens

The state is under ``votequeue:limit:<service>`` in the broker's Redis; quotas of a day are in the ledger.
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
    """Keeps all workers of an account within its limits; all threads of a process share one limiter.

    ``hold``: seconds until the slot of a dead worker is free; longer than any call takes.
    """

    def __init__(self, client: redis.Redis, stopping: threading.Event, hold: float = 150.0) -> None:
        schedule, tokens = CallSchedule(client), TokenWindows(client)
        recovery = LimiterRecovery(client, schedule, tokens, hold)
        self._state = LimiterState(
            Backoffs(client), schedule, tokens, Semaphores(client, hold), recovery, stopping
        )

    @contextlib.contextmanager
    def admit(self, service: Service, needs: Needs) -> Iterator[RedisPermit]:
        """Wait for one of the account's concurrent calls.

        Raises:
            Exhausted: the daily quota is used up, or the service asks for a long pause.
            Interrupted: the worker stops.
            Refused: the call needs more tokens than the limit per minute.
            ServiceUnreachable: the broker does not answer.
        """
        _refuse_too_many(service, needs.likely.tokens)
        permit = RedisPermit(self._state, service, needs)
        try:
            permit.enter()
            _count_for_today(service)
            yield permit
        finally:
            permit.leave()


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
    # Not reset - now: within one zone that is wall time, which is wrong on days without 24 hours.
    delay = reset.timestamp() - now.timestamp()
    raise Exhausted(
        f"{calls.OWN_QUOTA}the day's {most} calls to {service.provider}/{service.model} were made: "
        f"the next ones are allowed from {reset:%Y-%m-%d %H:%M} {zone.key}",
        delay,
    )
