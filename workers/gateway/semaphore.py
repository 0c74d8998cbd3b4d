"""Concurrent calls of an account: one named lock in Redis for each allowed call.

    votequeue:limit:tencent/hunyuan-translation@1f0c22aa:slot:3  ->  a token, for the time-out of a call

A killed worker's locks expire.
"""

import random

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

KEEPING = 10.0  # most seconds between extensions of a lock that waits for its call


class Semaphores:
    """The locks of all accounts; each lasts ``hold`` seconds and must be extended every ``keeping``."""

    def __init__(self, client: redis.Redis, hold: float) -> None:
        self.keeping = min(KEEPING, hold / 3)
        self._client = client
        self._hold = hold

    def take(self, key: str, count: int) -> Lock | None:
        """Take one of the first ``count`` locks, if one is free."""
        if not count:
            return None
        names = [f"{key}:slot:{number}" for number in range(count)]
        free = [name for name, held in zip(names, self._client.mget(names), strict=True) if held is None]
        # In random order, so that concurrent callers try different locks.
        for name in random.sample(free, len(free)):
            lock = self._client.lock(name, timeout=self._hold, thread_local=False)
            if lock.acquire(blocking=False):
                return lock
        return None

    def keep(self, lock: Lock) -> bool:
        """Extend a lock; False: this process no longer holds it."""
        try:
            return bool(lock.reacquire())
        except LockNotOwnedError:
            return False
