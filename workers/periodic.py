"""A daemon thread that calls a function every few seconds, and survives its failures.

Periodic("heartbeat", 3.0, beat).start()
"""

import logging
import threading
from collections.abc import Callable

from shared.errors import UserError

log = logging.getLogger(__name__)


class Periodic:
    """Calls ``action`` every ``seconds`` until stopped; a failure is logged and does not end it."""

    def __init__(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        self._action = action
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start, with the first call at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the call in progress."""
        self._stopped.set()

    def _run(self) -> None:
        failing = False
        while not self._stopped.is_set():
            try:
                self._action()
                if failing:
                    log.info("%s works again", self._thread.name)
                failing = False
            # If one failure ended the thread, leases would no longer be extended.
            except Exception as error:
                unexpected = not failing and not isinstance(error, UserError)
                log.warning("%s failed: %s", self._thread.name, error, exc_info=unexpected)
                failing = True
            self._stopped.wait(self._seconds)
