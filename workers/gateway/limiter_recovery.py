"""Restore the limiter's state from the ledger after Redis has lost it.

    votequeue:limit:chat/m@1f0c22aa:memory  ->  "<the server's run id>:<a name>:1795340012.5:3"

A server that was flushed, restarted or replaced has lost the calls of the last minute and those under way.
The ledger has them, but not their exact times, nor the tokens of the calls under way: here the limits count
as used up. If the ledger has no recent call, no caller waits. The value in Redis contains the time when the
memory began and the number of calls under way at that time.
"""

import contextlib
import threading
import time
import uuid
from dataclasses import dataclass

import redis
from redis.exceptions import LockError

from shared.ledger import calls
from workers.gateway import gcra, token_window
from workers.gateway.backoff import KNOWN, Reading, memory_key
from workers.gateway.gcra import CallSchedule
from workers.gateway.token_window import TokenWindows
from workers.ports import Service

RESTORING = 10.0  # seconds that one worker may take to restore the state; then another tries
LOOK = 1.0  # seconds between checks which earlier calls are still under way
MINUTE = 60.0  # seconds


@dataclass(frozen=True)
class _Before:
    """Calls that began before a memory and were still under way at ``at`` (monotonic seconds)."""

    memory: str
    calls: frozenset[int]
    at: float


class LimiterRecovery:
    """The memories of all accounts; ``hold``: seconds after which an unfinished call counts as dead."""

    def __init__(
        self, client: redis.Redis, schedule: CallSchedule, tokens: TokenWindows, hold: float
    ) -> None:
        self._client = client
        self._schedule, self._tokens = schedule, tokens
        self._hold = hold
        self._before: dict[str, _Before] = {}
        self._lock = threading.Lock()

    def begin(self, key: str, service: Service, reading: Reading) -> None:
        """Restore an account's last minute from the ledger, unless another worker does."""
        lock = self._client.lock(key + ":restoring", timeout=RESTORING, thread_local=False)
        if not lock.acquire(blocking_timeout=RESTORING):
            return
        try:
            name = self._client.get(memory_key(key)) or b""
            if not (name.decode() if isinstance(name, bytes) else name).startswith(reading.server + ":"):
                self._restore(key, service, reading.server)
        finally:
            with contextlib.suppress(LockError):
                lock.release()

    def _restore(self, key: str, service: Service, server: str) -> None:
        spacing, most = gcra.spacing(service.limits), service.limits.tokens_per_minute
        seconds = max(MINUTE, token_window.WINDOW, spacing.interval if spacing else 0.0)
        recent = calls.recent(service.provider, service.model, seconds)
        if recent:
            self._schedule.reset(key, spacing)
        used = list(recent.used)
        if recent.unknown and most is not None:
            used.append((0.0, most))
        self._tokens.restore(key, used)
        name = f"{server}:{uuid.uuid4().hex[:8]}:{recent.now}:{recent.under_way}"
        self._client.set(memory_key(key), name, px=round(1000 * KNOWN))

    def calls_before(self, key: str, service: Service, memory: str) -> frozenset[int]:
        """Give the calls under way without a slot: those that began before this memory."""
        _, _, began, under_way = memory.split(":")
        if under_way == "0":
            return frozenset()
        with self._lock:
            before = self._before.get(key)
            if before is None or before.memory != memory or _is_old(before):
                numbers = calls.begun_before(service.provider, service.model, float(began), self._hold)
                before = self._before[key] = _Before(memory, numbers, time.monotonic())
        return before.calls


def _is_old(before: _Before) -> bool:
    # Once all of them have ended, the set stays empty.
    return bool(before.calls) and time.monotonic() - before.at > LOOK
