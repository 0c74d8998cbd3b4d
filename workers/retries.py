"""Retry work until the ledger or the broker answers again.

    until_done(lambda: claims.claim(jobs, worker, 15.0))  ->  its result, without a time limit

Without retries the work would be lost: a message would be acknowledged although no worker has claimed its
question, or heartbeats would extend a claim that no task works on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from shared.errors import ServiceUnreachable, UserError

log = logging.getLogger(__name__)
PAUSE = 1.0  # seconds between attempts
_T = TypeVar("_T")


def until_done(work: Callable[[], _T], failure: type[UserError] = ServiceUnreachable) -> _T:
    """Do some work, and retry while it raises ``failure``."""
    while True:
        try:
            return work()
        except failure as error:
            log.warning("waiting: %s", error)
            time.sleep(PAUSE)


def written(write: Callable[[], _T]) -> _T:
    """Write to the ledger, and retry while it cannot be written.

    Otherwise an item would stay claimed: heartbeats extend its claim while this process lives.
    """
    return until_done(write, UserError)


async def until_done_aside(work: Callable[[], _T], failure: type[UserError] = ServiceUnreachable) -> _T:
    """Do `until_done` in a thread, which is not occupied between two attempts."""
    while True:
        try:
            return await asyncio.to_thread(work)
        except failure as error:
            log.warning("waiting: %s", error)
            await asyncio.sleep(PAUSE)


async def written_aside(write: Callable[[], _T]) -> _T:
    """Do `written` as `until_done_aside` does."""
    return await until_done_aside(write, UserError)
