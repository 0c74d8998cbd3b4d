"""Back-off of an account after "slow down": one record in Redis that all its callers read.

    Backoff(until=1795340012.5, refused=1, factor=0.7, said="chat (api.deepseek.com) says 429: ...")

Nobody calls before ``until`` (seconds, by the clock of the Redis server); from then on the rate is ``factor``
of what is allowed, and grows back by itself. `votequeue resume` deletes the record (`shared.service_pauses`).
"""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.client import Pipeline

from shared.errors import LONGEST_PAUSE
from shared.service_pauses import SUFFIX

FIRST, LONGEST = 0.5, 60.0  # seconds of a pause whose length the service left open, doubling
SLOWER, LEAST = 0.7, 0.1  # what "slow down" makes of the rate, and the least that it may become
RECOVERY = 0.05  # of the allowed rate, regained a second
FRESH = 1.0  # seconds
# What a process does for the first time takes longer, and a late call crowds those after it: after nothing
# for IDLE seconds, calls are further apart for STARTING seconds.
IDLE, STARTING, START_SHARE = 120.0, 3.0, 0.85
MEMORY = 300.0  # seconds after a pause that a refused call still counts as the next in a row
KNOWN = 1000.0  # seconds without a call after which a service's past is looked up again; longer than any call

# All that a caller must know, in one step. A memory is known by the server that it was begun on: after a
# restart or a failover, what Redis still has of the past may be old.
_READ = """
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local memory = redis.call('GET', KEYS[4])
if memory and string.sub(memory, 1, #server) == server then
    redis.call('PEXPIRE', KEYS[4], ARGV[3])
else
    memory = ''
end
local starting = redis.call('EXISTS', KEYS[3])
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('SET', KEYS[3], 1, 'PX', ARGV[2])
    starting = 1
end
redis.call('SET', KEYS[2], 1, 'PX', ARGV[1])
local moment = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', moment[1], moment[2], starting, server, memory}
"""


@dataclass(frozen=True)
class Backoff:
    """The record; ``refused`` counts the pauses in a row without a successful call since."""

    until: float = 0.0
    refused: int = 0
    factor: float = 1.0
    said: str = ""

    def share(self, now: float) -> float:
        """Give the share of the allowed rate that may be used now, in (0, 1]."""
        return min(1.0, self.factor + RECOVERY * max(0.0, now - self.until))

    def slower(self, begun: float, now: float, delay: float | None, said: str = "") -> "Backoff":
        """Give the pace after a call that began at ``begun`` was told to slow down."""
        if begun < self.until:
            # It was under way when another one was told: that is the same news.
            return dataclasses.replace(self, until=max(self.until, now + delay), said=said) if delay else self
        pause = delay or min(FIRST * 2.0 ** min(self.refused, 16), LONGEST)
        # A service that refuses the first calls after a pause is not back yet: no rate would be slow enough.
        factor = self.factor if self.refused else max(LEAST, self.share(now) * SLOWER)
        return Backoff(now + pause, self.refused + 1, factor, said)

    def succeeded(self, begun: float) -> "Backoff":
        """Give the pace after a call that began at ``begun`` was answered."""
        return self if begun < self.until else dataclasses.replace(self, refused=0)


@dataclass(frozen=True)
class Reading:
    """A pace, and when it was read: by the clock of the Redis server, and by this process's monotonic one.

    ``starting``: calls have only just begun, after none for a while. ``memory`` names what the server knows
    of the account's calls: empty where it knows nothing, or may have forgotten some.
    """

    pace: Backoff
    now: float
    at: float = 0.0
    starting: bool = False
    server: str = ""
    memory: str = ""

    @property
    def left(self) -> float:
        """Seconds that nobody may call."""
        # Not longer than the longest, should the server's clock be set back.
        return min(max(0.0, self.pace.until - self.now), LONGEST_PAUSE)

    @property
    def share(self) -> float:
        """Share of the allowed rate that may be used."""
        return self.pace.share(self.now) * (START_SHARE if self.starting else 1.0)

    @property
    def fresh(self) -> bool:
        """Tell whether it was read a moment ago."""
        return time.monotonic() - self.at < FRESH


class Backoffs:
    """The records of all accounts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._read = client.register_script(_READ)

    def read(self, key: str) -> Reading:
        """Read a record, in one round trip."""
        keys = [key + SUFFIX, key + ":active", key + ":starting", memory_key(key)]
        waits = [round(1000 * seconds) for seconds in (IDLE, STARTING, KNOWN)]
        stored, *moment, starting, server, memory = self._read(keys, waits)
        now = _seconds((int(moment[0]), int(moment[1])))
        return Reading(
            _loaded(stored), now, time.monotonic(), bool(starting), server.decode(), memory.decode()
        )

    def slow_down(self, key: str, begun: float | None, delay: float | None, said: str) -> None:
        """Put down that a call which began at ``begun`` (None: now) was told to slow down."""
        self._change(key, lambda pace, now: pace.slower(now if begun is None else begun, now, delay, said))

    def succeeded(self, key: str, begun: float) -> None:
        """Put down that a call which began at ``begun`` was answered."""
        self._change(key, lambda pace, _: pace.succeeded(begun))

    def _change(self, key: str, changed: Callable[[Backoff, float], Backoff]) -> None:
        def change(pipe: Pipeline) -> None:
            pace, now = _loaded(pipe.get(key + SUFFIX)), _seconds(pipe.time())
            new = changed(pace, now)
            pipe.multi()
            if new != pace:
                kept = max(0.0, new.until - now) + max(MEMORY, (1.0 - new.factor) / RECOVERY)
                pipe.set(key + SUFFIX, json.dumps(dataclasses.asdict(new)), px=int(kept * 1000))

        self._client.transaction(change, key + SUFFIX)


def memory_key(key: str) -> str:
    """Name the key whose value names what the server knows of an account's calls."""
    return key + ":memory"


def _loaded(stored: bytes | str | None) -> Backoff:
    return Backoff(**json.loads(stored)) if stored else Backoff()


def _seconds(moment: tuple[int, int]) -> float:
    return moment[0] + moment[1] / 1e6
