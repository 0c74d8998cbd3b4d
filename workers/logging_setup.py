"""Logging of a worker: one format, and repeated messages at most once a minute.

    logs.configure("INFO")

An outage makes the same complaint many times a second, some with a traceback.
"""

import logging
import sys
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REPEATED_AFTER = 60.0  # seconds
REMEMBERED = 1000  # complaints


def configure(level: str) -> None:
    """Log to standard error."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OnceAMinute())
    for chatty in ("httpx", "httpx2"):  # a line a call, which the ledger records anyway
        logging.getLogger(chatty).setLevel(logging.WARNING)


class OnceAMinute(logging.Filter):
    """Lets the same warning or error through once a minute; others, and lesser records, always."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be logged."""
        if record.levelno < logging.WARNING:
            return True
        said, now = (record.name, record.getMessage()), self._clock()
        if now - self._told.get(said, -REPEATED_AFTER) < REPEATED_AFTER:
            return False
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[said] = now
        return True
