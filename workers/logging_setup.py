"""Logging of a worker: one format, and repeated messages at most once a minute.

    logs.configure("INFO")

During an outage, the same warning would repeat many times a second, some with a traceback.
"""

import logging
import sys
import time
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REPEATED_AFTER = 60.0  # seconds
REMEMBERED = 1000  # messages


def configure(level: str) -> None:
    """Log to standard error, without looking up what neither `FORMAT` nor vLLM's format shows."""
    logging.logThreads = logging.logMultiprocessing = False
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OnceAMinute())
    for verbose in ("httpx", "httpx2"):  # they log each call, which the ledger records anyway
        logging.getLogger(verbose).setLevel(logging.WARNING)


class OnceAMinute(logging.Filter):
    """Passes the same warning or error at most once a minute, and lower levels always."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a record."""
        if record.levelno < logging.WARNING:
            return True
        message, now = (record.name, record.getMessage()), self._clock()
        if now - self._logged_at.get(message, -REPEATED_AFTER) < REPEATED_AFTER:
            return False
        if len(self._logged_at) >= REMEMBERED:
            self._logged_at.clear()
        self._logged_at[message] = now
        return True
