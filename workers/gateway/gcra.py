"""Evenly spaced calls (GCRA), by the clock of the Redis server.

    schedule.reserve(key, Spacing(0.206, 0.004), 1.0)  ->  CallSlot(at=1041.273, due=1041.273)
    schedule.reserve(key, Spacing(0.206, 0.004), 1.0)  ->  CallSlot(wait=0.106)  # too early to reserve

throttled-py's GCRA stores the theoretical arrival time (TAT) of the next call. Its burst is one call and the
calls of `BURST` seconds, so that a caller reserves its slot ahead of time and is not late. One emission
interval serves calls a second and calls a minute. A schedule with unknown history starts one interval after
the latest TAT that may have been reserved.
"""

import math
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import redis
from throttled import Quota, Rate, RateLimitResult, RedisStore, RedisStoreBackend
from throttled.rate_limiter.gcra import GCRARateLimiter
from throttled.types import SyncRedisClientP

from shared.providers import Limits

# Shares of the limits; the rest is a margin for calls that reach the service later than they were sent.
SECOND_SHARE, MINUTE_SHARE = 0.965, 0.985
BURST = 0.2  # seconds before its arrival time that a slot may be reserved
HOUR = 3600.0  # seconds: throttled-py's periods are whole seconds, and its counts whole numbers
UNITS = 1000  # units of the bucket that one call costs
CALLS = "calls"
SLOWED = 1.5  # intervals: a TAT further ahead than this stems from a lower rate
DECAY = 0.0005  # seconds that the least round trip grows by each time, to follow a slower network


@dataclass(frozen=True)
class CallSlot:
    """A call's arrival time on this process's monotonic clock; ``due`` is its lower bound, ``at`` its upper.

    ``wait`` above 0: nothing was reserved; try again in so many seconds.
    """

    at: float = 0.0
    due: float = math.inf
    wait: float = 0.0


@dataclass(frozen=True)
class Spacing:
    """The emission interval in seconds, and how late a call may be without delaying the next ones."""

    interval: float
    tolerance: float


def spacing(limits: Limits) -> Spacing | None:
    """Give the spacing that limits require; None: the rate is not limited."""
    counts = [(limits.per_second, 1.0, SECOND_SHARE), (limits.per_minute, 60.0, MINUTE_SHARE)]
    limited = [(count, period, used) for count, period, used in counts if count is not None]
    if not limited:
        return None
    interval = max(period / (count * used) for count, period, used in limited)
    # Two thirds of the margin are for delays after a call was sent.
    return Spacing(interval, min(count * interval - period for count, period, _ in limited) / 3)


class CallSchedule:
    """The call schedules of all accounts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._store = _Store(client)
        self._round_trip = 0.0

    def reserve(self, key: str, spacing: Spacing | None, share: float) -> CallSlot:
        """Reserve the next slot, at a share of the rate; without a spacing, the call may be made at once."""
        if spacing is None:
            return CallSlot()
        interval = spacing.interval / share
        sent = time.monotonic()
        result = self._limit(key, interval, UNITS, BURST)
        received = time.monotonic()
        if result.state.reset_after > SLOWED * interval + 2 * BURST:
            # The rate was lower before, or the server's clock was set back.
            self.reset(key, spacing, share)
        if result.limited:
            # A random part, so that workers do not retry at the same moment.
            return CallSlot(wait=result.state.retry_after + random.uniform(0.001, BURST / 4))
        # Until this slot: the next one's TAT, less one interval.
        until = max(0.0, result.state.reset_after - interval)
        self._round_trip = min(received - sent, self._round_trip + DECAY)
        # Redis read its clock between `sent` and `received`: `at` is never early, `due` never late.
        return CallSlot(received + until, sent + self._round_trip + until)

    def reset(self, key: str, spacing: Spacing | None, share: float = 1.0) -> None:
        """Reset a schedule: the next slot is one interval after any that may have been reserved."""
        if spacing is None:
            return
        interval = spacing.interval / share
        # throttled-py has no call to delete a bucket.
        self._client.delete(self._limiter(key, interval, UNITS, HOUR)._prepare_key(CALLS))
        self._limit(key, interval, round(UNITS * (interval + BURST) / interval), HOUR)

    def hold(self, key: str, slot: CallSlot, spacing: Spacing | None) -> bool:
        """Tell whether a slot still holds now; a slightly late call delays the TAT by as much."""
        if spacing is None:
            return True
        late, deferred = time.monotonic() - slot.due, 0.0
        # The delay takes time itself, so it may have to be repeated.
        while late - deferred > spacing.tolerance:
            if late > max(spacing.interval, 4 * spacing.tolerance):
                return False
            self._limit(key, spacing.interval, round(UNITS * (late - deferred) / spacing.interval), HOUR)
            late, deferred = time.monotonic() - slot.due, late
        return True

    def _limit(self, key: str, interval: float, units: int, burst: float) -> RateLimitResult:
        return self._limiter(key, interval, units, burst).limit(CALLS, units)

    def _limiter(self, key: str, interval: float, units: int, burst: float) -> GCRARateLimiter:
        rate = Rate(timedelta(seconds=HOUR), max(1, round(HOUR * UNITS / interval)))
        quota = Quota(rate, burst=units + round(UNITS * burst / interval))
        return GCRARateLimiter(quota, self._store, key_prefix=key)


class _Backend(RedisStoreBackend):
    """throttled-py's backend over an existing client."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self._shared = cast(SyncRedisClientP, client)

    def get_client(self) -> SyncRedisClientP:
        """Give the client."""
        return self._shared


class _Store(RedisStore):
    """throttled-py's store over an existing client."""

    def __init__(self, client: redis.Redis) -> None:
        self._backend = _Backend(client)
