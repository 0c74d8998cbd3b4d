"""The permit for one call: semaphore, then GCRA slot, then tokens, then the moment of the call.

    permit.enter()         ->  holds votequeue:limit:chat/m@1f0c22aa:slot:3
    permit.await_moment()  ->  returns at its arrival time; if it wakes up too late, at a later one

In each process, one thread at a time polls Redis for a service, and the others wait for it.
"""

import contextlib
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis
from redis.exceptions import LockError
from redis.lock import Lock
from throttled.exceptions import StoreUnavailableError

from shared import broker, service_pauses
from shared.errors import Exhausted
from shared.providers import Usage
from workers import instrumentation
from workers.gateway import gcra, token_window
from workers.gateway.backoff import Backoffs, Reading
from workers.gateway.gcra import CallSchedule, CallSlot
from workers.gateway.limiter_recovery import LimiterRecovery
from workers.gateway.semaphore import Semaphores
from workers.gateway.token_window import Charge, TokenWindows
from workers.ports import Interrupted, Needs, Service

STOPPING = 0.2  # seconds between checks whether the worker stops, where nothing else wakes a thread
SLOT_POLL = (0.01, 0.02)  # seconds between checks for a free slot, at random
TOKENS_POLL = 0.25  # most seconds between checks for tokens, which others may release at any time
JITTER = 0.25  # seconds after a pause over which callers return
LOOK = 1.0  # most seconds between checks whether a pause or a lower rate is over: `resume` lifts both
PATIENCE = 300.0  # longest pause in seconds that a permit waits out; for a longer one the queue pauses


@dataclass(frozen=True)
class LimiterState:
    """The limits' state of all accounts, shared by the threads of this process."""

    backoffs: Backoffs
    schedule: CallSchedule
    tokens: TokenWindows
    slots: Semaphores
    recovery: LimiterRecovery
    stopping: threading.Event
    gates: dict[str, threading.Lock] = field(default_factory=dict)
    # Seconds that threads have waited while they held a gate.
    rested: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Translate connection errors of the broker.

    Raises:
        ServiceUnreachable: it does not answer.
    """
    try:
        yield
    except redis.RedisError as error:
        raise broker.unreachable(error) from None
    except StoreUnavailableError as error:
        cause = error.__cause__
        raise broker.unreachable(cause if isinstance(cause, redis.RedisError) else error) from None


class RedisPermit:
    """A permit; its last reading before the call dates the call by the clock of the Redis server."""

    def __init__(self, state: LimiterState, service: Service, needs: Needs) -> None:
        self.service = service
        self._state = state
        self._key = service_pauses.key(service.name)
        self._needs = needs
        self._spacing = gcra.spacing(service.limits)
        self._slot: Lock | None = None
        self._kept_at = 0.0
        self._charge: Charge | None = None
        self._seen: Reading | None = None
        self._call: int | None = None
        # The memory of Redis when the slot was taken.
        self._memory = ""
        self._waited = 0.0

    def enter(self) -> None:
        """Wait for one of the account's concurrent calls.

        Raises:
            Exhausted, Interrupted, ServiceUnreachable: as `await_moment` does.
        """
        with reached():
            self.rest(0.0)
            self._memory = self._read().memory
            self._take_slot()

    def leave(self) -> None:
        """Release the slot; where that fails, it expires."""
        if self._slot is not None:
            with contextlib.suppress(LockError, redis.RedisError):
                self._slot.release()
            self._slot = None

    def await_moment(self, call: int | None = None) -> None:
        """Sleep until the call may be made; the caller must then make it at once.

        ``call`` is its number in the ledger.

        Raises:
            Interrupted: the worker stops.
            Exhausted: the service asks for a pause longer than `PATIENCE`.
            ServiceUnreachable: the broker does not answer.
        """
        self._call = call
        with reached():
            while True:
                self._take_slot_again()
                if self._is_ready(self._reserve()):
                    return
                self._release_tokens()

    def answered(self, used: Usage) -> None:
        """Release the tokens that the call did not use, and record that the service answers."""
        # The reply is in the ledger already, so a failure here is harmless: it only delays later calls.
        with contextlib.suppress(redis.RedisError):
            if self._charge is not None:
                self._state.tokens.settle(self._key, self._charge, self._needs, used, self._memory)
            if self._seen is not None and self._seen.backoff.refused:
                self._state.backoffs.succeeded(self._key, self._seen.now)

    def slow_down(self, delay: float | None, message: str) -> None:
        """Record for all callers that the service throttled this call, and its message.

        Raises:
            ServiceUnreachable: the broker does not answer.
        """
        with reached():
            self._state.backoffs.slow_down(self._key, self._seen.now if self._seen else None, delay, message)

    def rest(self, seconds: float) -> None:
        """Wait, unless the worker stops.

        Raises:
            Interrupted: the worker stops.
        """
        begun = time.monotonic()
        until = begun + seconds
        while True:
            self._keep_slot()
            left = max(0.0, until - time.monotonic())
            nap = min(left, self._state.slots.keeping)
            if self._state.stopping.wait(nap):
                raise Interrupted
            if nap == left:
                return self._count_wait(time.monotonic() - begun if seconds > 0 else 0.0)

    def _read(self) -> Reading:
        reading = self._state.backoffs.read(self._key)
        while not reading.memory:
            self._state.recovery.begin(self._key, self.service, reading)
            reading = self._state.backoffs.read(self._key)
        if reading.left > PATIENCE:
            raise Exhausted(
                f"{self.service.provider}/{self.service.model} asked for a pause"
                + (f": {reading.backoff.said}" if reading.backoff.said else ""),
                reading.left,
            )
        return reading

    # The slot

    def _take_slot(self) -> None:
        most = self.service.limits.max_concurrency
        if most is None or self._slot is not None:
            return
        with self._first("slots"):
            while self._slot is None:
                self._slot = self._state.slots.take(self._key, self._slots_now(most))
                if self._slot is None:
                    self.rest(random.uniform(*SLOT_POLL))
        self._kept_at = time.monotonic()

    def _slots_now(self, most: int) -> int:
        reading = self._read()
        self._memory = reading.memory
        # Calls that began before Redis lost its state have no slot but are still under way.
        before = self._state.recovery.calls_before(self._key, self.service, self._memory)
        free = max(0, most - len(before - {self._call}))
        if self._spacing is not None or self.service.limits.tokens_per_minute is not None:
            return free
        # Without a rate to reduce, the number of concurrent calls is reduced.
        return min(free, max(1, int(most * reading.backoff.share(reading.now))))

    def _take_slot_again(self) -> None:
        """Take another slot if Redis has lost the current one, before reserving a call."""
        memory = self._read().memory
        if memory != self._memory:
            # A slot taken at that very moment still exists and is released here.
            self.leave()
            self._memory = memory
        self._take_slot()

    def _keep_slot(self) -> None:
        if self._slot is None or time.monotonic() - self._kept_at < self._state.slots.keeping:
            return
        self._kept_at = time.monotonic()
        if not self._state.slots.keep(self._slot):
            # Redis has lost the lock, or it expired while this process was suspended.
            self._slot = None

    # The GCRA slot, the tokens, the arrival time

    def _reserve(self) -> CallSlot:
        with self._first("schedule"):
            reading = self._unpaused()
            while True:
                call_slot = self._state.schedule.reserve(self._key, self._spacing, reading.share)
                wait = call_slot.wait or self._charge_tokens(reading.share)
                if not wait:
                    return call_slot
                self.rest(min(wait, LOOK))
                # An older reading will do: pauses are checked again once a call slot is reserved.
                if not reading.fresh:
                    reading = self._unpaused()

    def _unpaused(self) -> Reading:
        while (reading := self._read()).left:
            self.rest(min(reading.left + random.uniform(0.0, JITTER), LOOK))
        return reading

    def _charge_tokens(self, share: float) -> float:
        limit = self.service.limits.tokens_per_minute
        if limit is None:
            return 0.0
        charge = self._state.tokens.charge(self._key, limit, share, self._needs)
        self._charge = None if charge.wait else charge
        return min(charge.wait, TOKENS_POLL)

    def _release_tokens(self) -> None:
        if self._charge is not None:
            self._state.tokens.give_back(self._key, self._charge, self._memory)
            self._charge = None

    def _is_ready(self, call_slot: CallSlot) -> bool:
        # Read before the sleep: nothing may delay the call after it.
        self._seen = self._read()
        if self._seen.left or self._seen.memory != self._memory or self._lacks_slot:
            return False
        self.rest(call_slot.at - time.monotonic())
        return self._state.schedule.hold(self._key, call_slot, self._spacing) and self._charge_is_recent()

    def _charge_is_recent(self) -> bool:
        """Tell whether the tokens are charged in the minute of the call; defer a charge that is late."""
        if self._charge is not None and time.monotonic() - self._charge.at > token_window.LATEST:
            self._charge = self._state.tokens.defer(self._key, self._charge, self._memory)
            return self._charge is not None
        return True

    @property
    def _lacks_slot(self) -> bool:
        return self._slot is None and self.service.limits.max_concurrency is not None

    # Waiting

    @contextlib.contextmanager
    def _first(self, what: str) -> Iterator[None]:
        name, rested = f"{self._key}:{what}", self._state.rested
        gate = self._state.gates.setdefault(name, threading.Lock())
        begun, before = time.monotonic(), rested[name]
        while not gate.acquire(timeout=STOPPING):
            self.rest(0.0)
        # Waiting for others counts while they wait themselves, not while they talk to Redis.
        self._count_wait(min(time.monotonic() - begun, rested[name] - before))
        own = self._waited
        try:
            yield
        finally:
            rested[name] += self._waited - own
            gate.release()

    def _count_wait(self, seconds: float) -> None:
        self._waited += seconds
        instrumentation.WAITED.labels(self.service.provider, self.service.model).inc(seconds)
