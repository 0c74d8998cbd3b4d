"""Back-off of an account that a service throttled: one record in Redis that all its callers read.

    Backoff(until=1795340012.5, refused=1, factor=0.7, said="chat (api.deepseek.com) says 429: ...")

No call is made before ``until`` (seconds, by the clock of the Redis server). Then the rate is ``factor`` of
the allowed one, and recovers linearly. `votequeue resume` deletes the record (`shared.service_pauses`).
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

FIRST, LONGEST = 0.5, 60.0  # seconds of a pause whose length the service does not give, doubling
SLOWER, LEAST = 0.7, 0.1  # factor on the rate at each throttling, and its lower bound
RECOVERY = 0.05  # share of the allowed rate that is regained each second
FRESH = 1.0  # seconds
# First calls of a process are slow, and late calls crowd the next ones: after IDLE seconds without calls,
# the rate is lower for STARTING seconds.
IDLE, STARTING, START_SHARE = 120.0, 3.0, 0.85
MEMORY = 300.0  # seconds after a pause in which a throttled call still counts as consecutive
KNOWN = 1000.0  # seconds without a call after which the history is restored again; longer than any call

# Reads all state that a caller needs atomically. A memory is valid only on the server run that began it:
# after a restart or a failover, the state in Redis may be stale.
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
    """The record; ``refused`` counts pauses since the last successful call, ``said`` is the message."""

    until: float = 0.0
    refused: int = 0
    factor: float = 1.0
    said: str = ""

    def share(self, now: float) -> float:
        """Give the share of the allowed rate that may be used now, in (0, 1]."""
        return min(1.0, self.factor + RECOVERY * max(0.0, now - self.until))

    def slower(self, begun: float, now: float, delay: float | None, message: str = "") -> "Backoff":
        """Give the back-off after a call that began at ``begun`` was throttled."""
        if begun < self.until:
            # The call began before the current pause, so this is no new throttling.
            later = max(self.until, now + (delay or 0.0))
            return dataclasses.replace(self, until=later, said=message) if delay else self
        pause = delay or min(FIRST * 2.0 ** min(self.refused, 16), LONGEST)
        # After consecutive throttlings the service is not back yet: a lower rate would not help.
        factor = self.factor if self.refused else max(LEAST, self.share(now) * SLOWER)
        return Backoff(now + pause, self.refused + 1, factor, message)

    def succeeded(self, begun: float) -> "Backoff":
        """Give the back-off after a call that began at ``begun`` was answered."""
        return self if begun < self.until else dataclasses.replace(self, refused=0)


@dataclass(frozen=True)
class Reading:
    """A back-off, and when it was read: on the clock of the Redis server, and on the monotonic one (``at``).

    ``starting``: calls have just resumed after an idle time. ``memory`` identifies the server's history of
    the account's calls; empty: there is none, or it may be incomplete.
    """

    backoff: Backoff
    now: float
    at: float = 0.0
    starting: bool = False
    server: str = ""
    memory: str = ""

    @property
    def left(self) -> float:
        """Seconds until calls are allowed."""
        # Bounded, in case the server's clock is set back.
        return min(max(0.0, self.backoff.until - self.now), LONGEST_PAUSE)

    @property
    def share(self) -> float:
        """Share of the allowed rate that may be used."""
        return self.backoff.share(self.now) * (START_SHARE if self.starting else 1.0)

    @property
    def fresh(self) -> bool:
        """Tell whether it was read less than `FRESH` seconds ago."""
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
            _parse(stored), now, time.monotonic(), bool(starting), server.decode(), memory.decode()
        )

    def slow_down(self, key: str, begun: float | None, delay: float | None, message: str) -> None:
        """Record that a call that began at ``begun`` (None: now) was throttled."""
        self._change(key, lambda old, now: old.slower(now if begun is None else begun, now, delay, message))

    def succeeded(self, key: str, begun: float) -> None:
        """Record that a call that began at ``begun`` was answered."""
        self._change(key, lambda backoff, _: backoff.succeeded(begun))

    def _change(self, key: str, update: Callable[[Backoff, float], Backoff]) -> None:
        def change(pipe: Pipeline) -> None:
            backoff, now = _parse(pipe.get(key + SUFFIX)), _seconds(pipe.time())
            new = update(backoff, now)
            pipe.multi()
            if new != backoff:
                lifetime = max(0.0, new.until - now) + max(MEMORY, (1.0 - new.factor) / RECOVERY)
                pipe.set(key + SUFFIX, json.dumps(dataclasses.asdict(new)), px=int(lifetime * 1000))

        self._client.transaction(change, key + SUFFIX)


def memory_key(key: str) -> str:
    """Give the key of the memory that identifies the server's history of an account."""
    return key + ":memory"


def _parse(stored: bytes | str | None) -> Backoff:
    return Backoff(**json.loads(stored)) if stored else Backoff()


def _seconds(moment: tuple[int, int]) -> float:
    return moment[0] + moment[1] / 1e6
