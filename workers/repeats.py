"""A log filter for trouble that lasts: the same line once a minute.

    handler.addFilter(Repeats())

A service that is away is met by every thread, every second; one line a minute says as much.
"""

import logging
import time

SECONDS = 60.0
REMEMBERED = 1000


class Repeats(logging.Filter):
    """Drops a warning or an error that says what another one said less than a minute before."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be shown."""
        if record.levelno < logging.WARNING:
            return True
        said, now = (record.name, record.getMessage()), time.monotonic()
        if now - self._said.get(said, -SECONDS) < SECONDS:
            return False
        if len(self._said) >= REMEMBERED:
            self._said = {said: at for said, at in self._said.items() if now - at < SECONDS}
        self._said[said] = now
        return True
