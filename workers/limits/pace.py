"""How fast an account may be called after it said "slow down": one small record that all its callers read.

    Pace(until=1795340012.5, refused=1, factor=0.7)

Nobody calls before ``until`` (seconds, by the clock of the Redis server); from then on the rate is ``factor``
of what is allowed, and grows back by itself. What a rate is, and who calls, is not known here.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.client import Pipeline

SUFFIX = ":pace"
FIRST, LONGEST = 0.5, 60.0  # seconds of a pause whose length the service left open, doubling
SLOWER, LEAST = 0.7, 0.1  # what "slow down" makes of the rate, and the least that it may become
RECOVERY = 0.05  # of the allowed rate, regained a second
FRESH = 1.0  # seconds
# What a process does for the first time takes longer, and a late call crowds those after it: after nothing
# for IDLE seconds, calls are further apart for STARTING seconds.
IDLE, STARTING, START_SHARE = 120.0, 3.0, 0.85
MEMORY = 300.0  # seconds after a pause that a refused call still counts as the next in a row


@dataclass(frozen=True)
class Pace:
    """The record; ``refused`` counts the pauses in a row without a successful call since."""

    until: float = 0.0
    refused: int = 0
    factor: float = 1.0

    def share(self, now: float) -> float:
        """Give the share of the allowed rate that may be used now, in (0, 1]."""
        return min(1.0, self.factor + RECOVERY * max(0.0, now - self.until))

    def slower(self, begun: float, now: float, delay: float | None) -> "Pace":
        """Give the pace after a call that began at ``begun`` was told to slow down."""
        if begun < self.until:
            # It was under way when another one was told: that is the same news.
            return dataclasses.replace(self, until=max(self.until, now + delay)) if delay else self
        pause = delay or min(FIRST * 2.0**self.refused, LONGEST)
        # A service that refuses the first calls after a pause is not back yet: no rate would be slow enough.
        factor = self.factor if self.refused else max(LEAST, self.share(now) * SLOWER)
        return Pace(now + pause, self.refused + 1, factor)

    def succeeded(self, begun: float) -> "Pace":
        """Give the pace after a call that began at ``begun`` was answered."""
        return self if begun < self.until else dataclasses.replace(self, refused=0)


@dataclass(frozen=True)
class Reading:
    """A pace, and when it was read: by the clock of the Redis server, and by this process's monotonic one.

    ``starting``: calls have only just begun, after none for a while.
    """

    pace: Pace
    now: float
    at: float = 0.0
    starting: bool = False

    @property
    def left(self) -> float:
        """Seconds that nobody may call."""
        return max(0.0, self.pace.until - self.now)

    @property
    def share(self) -> float:
        """Share of the allowed rate that may be used."""
        return self.pace.share(self.now) * (START_SHARE if self.starting else 1.0)

    @property
    def fresh(self) -> bool:
        """Tell whether it was read a moment ago."""
        return time.monotonic() - self.at < FRESH


class Paces:
    """The records of all accounts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self, key: str) -> Reading:
        """Read a record, in one round trip."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(key + SUFFIX)
            pipe.time()
            pipe.set(key + ":active", 1, px=round(IDLE * 1000), get=True)
            pipe.exists(key + ":starting")
            stored, moment, active, starting = pipe.execute()
        if not active:
            starting = self._client.set(key + ":starting", 1, px=round(STARTING * 1000))
        return Reading(_loaded(stored), _seconds(moment), time.monotonic(), bool(starting))

    def slow_down(self, key: str, begun: float | None, delay: float | None) -> None:
        """Put down that a call which began at ``begun`` (None: now) was told to slow down."""
        self._change(key, lambda pace, now: pace.slower(now if begun is None else begun, now, delay))

    def succeeded(self, key: str, begun: float) -> None:
        """Put down that a call which began at ``begun`` was answered."""
        self._change(key, lambda pace, _: pace.succeeded(begun))

    def _change(self, key: str, changed: Callable[[Pace, float], Pace]) -> None:
        def change(pipe: Pipeline) -> None:
            pace, now = _loaded(pipe.get(key + SUFFIX)), _seconds(pipe.time())
            new = changed(pace, now)
            pipe.multi()
            if new != pace:
                kept = max(0.0, new.until - now) + max(MEMORY, (1.0 - new.factor) / RECOVERY)
                pipe.set(key + SUFFIX, json.dumps(dataclasses.asdict(new)), px=int(kept * 1000))

        self._client.transaction(change, key + SUFFIX)


def _loaded(stored: bytes | str | None) -> Pace:
    return Pace(**json.loads(stored)) if stored else Pace()


def _seconds(moment: tuple[int, int]) -> float:
    return moment[0] + moment[1] / 1e6
