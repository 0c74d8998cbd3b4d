"""The permit for one call: semaphore, then GCRA slot, then tokens, then the moment of the call.

    turn.enter()         ->  holds votequeue:limit:chat/m@1f0c22aa:slot:3
    turn.await_moment()  ->  returns at its moment; if it woke up too late for that, at a later one

In a process one thread at a time asks Redis for a service, the others wait behind it.
"""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis
from redis.exceptions import LockError
from redis.lock import Lock
from throttled.exceptions import StoreUnavailableError

from shared import broker, service_pauses
from shared.errors import Exhausted
from shared.providers import Usage
from workers.gateway import gcra, token_window
from workers.gateway.backoff import Backoffs, Reading
from workers.gateway.gcra import CallSchedule, CallSlot
from workers.gateway.limiter_recovery import LimiterRecovery
from workers.gateway.semaphore import Semaphores
from workers.gateway.token_window import Charge, TokenWindows
from workers.ports import Interrupted, Needs, Service

STOPPING = 0.2  # seconds between looks at whether the worker stops, where nothing else wakes a thread
SLOT_POLL = (0.01, 0.02)  # seconds between looks for a free slot, at random
TOKENS_POLL = 0.25  # longest seconds between looks for tokens: what others give back comes unannounced
JITTER = 0.25  # seconds after a pause within which callers come back
LOOK = 1.0  # longest seconds between looks whether a pause, or a lower rate, is over: `resume` lifts both
PATIENCE = 300.0  # longest pause in seconds that is waited for here; for a longer one the queue pauses


@dataclass(frozen=True)
class LimiterState:
    """What is kept of all accounts, and what the threads of this process share."""

    paces: Backoffs
    lines: CallSchedule
    tokens: TokenWindows
    slots: Semaphores
    memories: LimiterRecovery
    stopping: threading.Event
    gates: dict[str, threading.Lock] = field(default_factory=dict)


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Say it in a sentence when the broker cannot be reached.

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
    """A turn; what it saw last before its call tells when that was made, by the clock of the Redis server."""

    def __init__(self, books: LimiterState, service: Service, needs: Needs) -> None:
        self.service = service
        self._books = books
        self._key = service_pauses.key(service.name)
        self._needs = needs
        self._spacing = gcra.spacing(service.limits)
        self._slot: Lock | None = None
        self._kept_at = 0.0
        self._charge: Charge | None = None
        self._seen: Reading | None = None
        self._call: int | None = None
        # What Redis knew when we took our slot.
        self._memory = ""

    def enter(self) -> None:
        """Wait for one of the calls at once.

        Raises:
            Exhausted, Interrupted, ServiceUnreachable: as `await_moment` does.
        """
        with reached():
            self.rest(0.0)
            self._memory = self._read().memory
            self._take_slot()

    def leave(self) -> None:
        """Give the slot back; where that fails, its time runs out."""
        if self._slot is not None:
            with contextlib.suppress(LockError, redis.RedisError):
                self._slot.release()
            self._slot = None

    def await_moment(self, call: int | None = None) -> None:
        """Sleep until the call may be made; the very next thing to do is to make it.

        ``call`` is its number on record.

        Raises:
            Interrupted: the worker stops.
            Exhausted: the service wants so long a pause that the queue should not wait for it.
            ServiceUnreachable: the broker does not answer.
        """
        self._call = call
        with reached():
            while True:
                self._take_slot_again()
                if self._there(self._place()):
                    return
                self._give_back()

    def answered(self, used: Usage) -> None:
        """Let others have the tokens that the call did not use, and know that the service answers."""
        # The reply is on record: what goes wrong here must not spoil it, and only costs time.
        with contextlib.suppress(redis.RedisError):
            if self._charge is not None:
                self._books.tokens.settle(self._key, self._charge, self._needs, used, self._memory)
            if self._seen is not None and self._seen.pace.refused:
                self._books.paces.succeeded(self._key, self._seen.now)

    def slow_down(self, delay: float | None, said: str) -> None:
        """Let all callers know that the service told this call to slow down, and in which words.

        Raises:
            ServiceUnreachable: the broker does not answer.
        """
        with reached():
            self._books.paces.slow_down(self._key, self._seen.now if self._seen else None, delay, said)

    def rest(self, seconds: float) -> None:
        """Wait, but not for a worker that stops.

        Raises:
            Interrupted: the worker stops.
        """
        until = time.monotonic() + seconds
        while True:
            self._keep_slot()
            left = max(0.0, until - time.monotonic())
            nap = min(left, self._books.slots.keeping)
            if self._books.stopping.wait(nap):
                raise Interrupted
            if nap == left:
                return

    def _read(self) -> Reading:
        reading = self._books.paces.read(self._key)
        while not reading.memory:
            self._books.memories.begin(self._key, self.service, reading)
            reading = self._books.paces.read(self._key)
        if reading.left > PATIENCE:
            raise Exhausted(
                f"{self.service.provider}/{self.service.model} asked for a pause"
                + (f": {reading.pace.said}" if reading.pace.said else ""),
                reading.left,
            )
        return reading

    # The slot

    def _take_slot(self) -> None:
        most = self.service.limits.at_once
        if most is None or self._slot is not None:
            return
        with self._first("slots"):
            while self._slot is None:
                self._slot = self._books.slots.take(self._key, self._slots_now(most))
                if self._slot is None:
                    self.rest(random.uniform(*SLOT_POLL))
        self._kept_at = time.monotonic()

    def _slots_now(self, most: int) -> int:
        reading = self._read()
        self._memory = reading.memory
        # Calls that began before Redis lost its memory have no slot any more, and are under way all the same.
        before = self._books.memories.calls_before(self._key, self.service, self._memory)
        free = max(0, most - len(before - {self._call}))
        if self._spacing is not None or self.service.limits.tokens_per_minute is not None:
            return free
        # No rate can be slowed down, so the calls at once are.
        return min(free, max(1, int(most * reading.pace.share(reading.now))))

    def _take_slot_again(self) -> None:
        """Take another slot where Redis has lost ours, before others wait for our place in the line."""
        memory = self._read().memory
        if memory != self._memory:
            # If it was taken at the very moment, it is there all the same, and counted twice.
            self.leave()
            self._memory = memory
        self._take_slot()

    def _keep_slot(self) -> None:
        if self._slot is None or time.monotonic() - self._kept_at < self._books.slots.keeping:
            return
        self._kept_at = time.monotonic()
        if not self._books.slots.keep(self._slot):
            # Redis has lost it, or this process stood still for minutes.
            self._slot = None

    # The place, the tokens, the moment

    def _place(self) -> CallSlot:
        with self._first("line"):
            reading = self._unpaused()
            while True:
                moment = self._books.lines.place(self._key, self._spacing, reading.share)
                wait = moment.wait or self._charge_tokens(reading.share)
                if not wait:
                    return moment
                self.rest(min(wait, LOOK))
                # It need not be the latest: whether there is a pause is looked up again with a place in hand.
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
        charge = self._books.tokens.charge(self._key, limit, share, self._needs)
        self._charge = None if charge.wait else charge
        return min(charge.wait, TOKENS_POLL)

    def _give_back(self) -> None:
        if self._charge is not None:
            self._books.tokens.give_back(self._key, self._charge, self._memory)
            self._charge = None

    def _there(self, moment: CallSlot) -> bool:
        # Before the sleep, not after it: between the moment and the call nothing may take its time.
        self._seen = self._read()
        if self._seen.left or self._seen.memory != self._memory or self._lacks_slot:
            return False
        self.rest(moment.at - time.monotonic())
        return self._books.lines.keep(self._key, moment, self._spacing) and self._charge_is_recent()

    def _charge_is_recent(self) -> bool:
        """Tell whether the account has the call in the minute that it begins; defer a charge that is late."""
        if self._charge is not None and time.monotonic() - self._charge.at > token_window.LATEST:
            self._charge = self._books.tokens.defer(self._key, self._charge, self._memory)
            return self._charge is not None
        return True

    @property
    def _lacks_slot(self) -> bool:
        return self._slot is None and self.service.limits.at_once is not None

    # Waiting

    @contextlib.contextmanager
    def _first(self, what: str) -> Iterator[None]:
        gate = self._books.gates.setdefault(f"{self._key}:{what}", threading.Lock())
        while not gate.acquire(timeout=STOPPING):
            self.rest(0.0)
        try:
            yield
        finally:
            gate.release()
