"""Concurrent calls of an account: one named lock in Redis for each call that is allowed.

    votequeue:limit:tencent/hunyuan-translation@1f0c22aa:slot:3  ->  a token, for the time-out of a call

A killed worker's locks end by themselves.
"""

import random

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

KEEPING = 10.0  # seconds at the most after which a lock that still waits for its call is kept again


class Semaphores:
    """The locks of all accounts; each lasts for ``hold`` seconds and should be kept every ``keeping``."""

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
        # In any order: or all who look at the same time would want the same one.
        for name in random.sample(free, len(free)):
            lock = self._client.lock(name, timeout=self._hold, thread_local=False)
            if lock.acquire(blocking=False):
                return lock
        return None

    def keep(self, lock: Lock) -> bool:
        """Start a lock's time anew; False: it is no longer ours."""
        try:
            return bool(lock.reacquire())
        except LockNotOwnedError:
            return False
