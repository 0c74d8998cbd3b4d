"""Evenly spaced calls (GCRA), by the clock of the Redis server.

    lines.place(key, Spacing(0.206, 0.004), 1.0)  ->  CallSlot(at=1041.273, due=1041.273)
    lines.place(key, Spacing(0.206, 0.004), 1.0)  ->  CallSlot(wait=0.106)  # none to be had yet

throttled-py's GCRA keeps the line: its bucket holds one call and what comes up within `AHEAD` seconds, so
that a place is taken before its moment and none is lost to whoever wakes up late. One spacing serves calls a
second and calls a minute. As calls are evenly spaced, a line whose past is not known begins one interval
after the latest moment that anybody may have a place for.
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

# Of what is allowed: the rest is room for calls that reach the service later than they were sent.
SECOND_USED, MINUTE_USED = 0.965, 0.985
AHEAD = 0.2  # seconds before its moment that a place may be taken
HOUR = 3600.0  # seconds: throttled-py's periods are whole seconds, and its counts whole numbers
UNITS = 1000  # of a bucket that one call costs
CALLS = "calls"
SLOWED = 1.5  # intervals: a next place that is further away was put there at a lower rate
FORGETTING = 0.0005  # seconds that the shortest trip to Redis grows a trip, so that a slower network shows


@dataclass(frozen=True)
class CallSlot:
    """When a call is to be made, on this process's monotonic clock; ``due`` is the earliest that may mean.

    ``wait`` above 0: no place was taken, and none will be to be had for so many seconds.
    """

    at: float = 0.0
    due: float = math.inf
    wait: float = 0.0


@dataclass(frozen=True)
class Spacing:
    """Seconds between two calls, and how late one may be without crowding those after it."""

    interval: float
    tolerance: float


def spacing(limits: Limits) -> Spacing | None:
    """Tell how far apart calls must be; None: there is no limit on their rate."""
    counts = [(limits.per_second, 1.0, SECOND_USED), (limits.per_minute, 60.0, MINUTE_USED)]
    known = [(count, period, used) for count, period, used in counts if count is not None]
    if not known:
        return None
    interval = max(period / (count * used) for count, period, used in known)
    # Two thirds of the room are for what happens to a call after it has left us.
    return Spacing(interval, min(count * interval - period for count, period, _ in known) / 3)


class CallSchedule:
    """The lines of all accounts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._store = _Store(client)
        self._trip = 0.0

    def place(self, key: str, apart: Spacing | None, share: float) -> CallSlot:
        """Take the next place in a line, at a share of its rate; without a line, any moment will do."""
        if apart is None:
            return CallSlot()
        interval = apart.interval / share
        sent = time.monotonic()
        result = self._limit(key, interval, UNITS, AHEAD)
        received = time.monotonic()
        if result.state.reset_after > SLOWED * interval + 2 * AHEAD:
            # It was slower before, or the server's clock was set back.
            self.restart(key, apart, share)
        if result.limited:
            # Not all at the same time, or all workers would wake up together, and get in each other's way.
            return CallSlot(wait=result.state.retry_after + random.uniform(0.001, AHEAD / 4))
        # The bucket is as it was before when the call after this one may be made.
        until = max(0.0, result.state.reset_after - interval)
        self._trip = min(received - sent, self._trip + FORGETTING)
        # When Redis looked at its clock we cannot know: never early by the one bound, late by the other.
        return CallSlot(received + until, sent + self._trip + until)

    def restart(self, key: str, apart: Spacing | None, share: float = 1.0) -> None:
        """Begin a line anew: the next place is one interval after all that others may have taken."""
        if apart is None:
            return
        interval = apart.interval / share
        # throttled-py has no call that forgets a bucket.
        self._client.delete(self._limiter(key, interval, UNITS, HOUR)._prepare_key(CALLS))
        self._limit(key, interval, round(UNITS * (interval + AHEAD) / interval), HOUR)

    def keep(self, key: str, moment: CallSlot, apart: Spacing | None) -> bool:
        """Tell whether a call may be made now; one that is a little late puts off all after it by as much."""
        if apart is None:
            return True
        late, paid = time.monotonic() - moment.due, 0.0
        # Putting them off takes its time, too: it may have to be done again.
        while late - paid > apart.tolerance:
            if late > max(apart.interval, 4 * apart.tolerance):
                return False
            self._limit(key, apart.interval, round(UNITS * (late - paid) / apart.interval), HOUR)
            late, paid = time.monotonic() - moment.due, late
        return True

    def _limit(self, key: str, interval: float, units: int, ahead: float) -> RateLimitResult:
        return self._limiter(key, interval, units, ahead).limit(CALLS, units)

    def _limiter(self, key: str, interval: float, units: int, ahead: float) -> GCRARateLimiter:
        rate = Rate(timedelta(seconds=HOUR), max(1, round(HOUR * UNITS / interval)))
        quota = Quota(rate, burst=units + round(UNITS * ahead / interval))
        return GCRARateLimiter(quota, self._store, key_prefix=key)


class _Backend(RedisStoreBackend):
    """throttled-py's backend over a client that is there already."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self._shared = cast(SyncRedisClientP, client)

    def get_client(self) -> SyncRedisClientP:
        """Give the client."""
        return self._shared


class _Store(RedisStore):
    """throttled-py's store over a client that is there already."""

    def __init__(self, client: redis.Redis) -> None:
        self._backend = _Backend(client)
