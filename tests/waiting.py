"""Wait in tests for what other threads and processes do.

    waiting.until(lambda: is_complete("r"), worker.log)
    took = waiting.seconds_until(lambda: is_taken_over("r"), within=20)

Machines are shared: how fast something happens is no test, unless its speed is a promise (``within``).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE = 420.0  # seconds after which a test takes what it waits for as stuck
_PAUSE, _TOLD = 0.05, 3000
_T = TypeVar("_T")


def until(condition: Callable[[], _T], *logs: Path, within: float = PATIENCE) -> _T:
    """Wait until a condition holds, and give its value; fail with the ends of ``logs`` if it does not."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            ends = (f"\n{log}:\n{log.read_text()[-_TOLD:]}" for log in logs if log.exists())
            raise AssertionError(f"it did not come to that within {within:.0f} s{''.join(ends)}")
        time.sleep(_PAUSE)
    return value


def seconds_until(condition: Callable[[], object], *logs: Path, within: float = PATIENCE) -> float:
    """Do `until`; give how long it took."""
    begun = time.monotonic()
    until(condition, *logs, within=within)
    return time.monotonic() - begun
