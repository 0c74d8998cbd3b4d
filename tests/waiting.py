"""Wait in tests for what other threads and processes do.

    waiting.until(lambda: is_complete("r"), worker.log)
    took = waiting.seconds_until(lambda: is_taken_over("r"), within=20)

Test machines are shared, so the time-out is long. ``within`` asserts a duration that the documents guarantee.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

PATIENCE = 420.0  # seconds after which a waiting test counts as hung
_PAUSE, _TAIL = 0.05, 3000  # seconds between looks; characters of each log in the failure
_T = TypeVar("_T")


def until(condition: Callable[[], _T], *logs: Path, within: float = PATIENCE) -> _T:
    """Wait until a condition holds, and give its value; fail with the ends of ``logs`` if it does not."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            ends = (f"\n{log}:\n{log.read_text()[-_TAIL:]}" for log in logs if log.exists())
            raise AssertionError(f"the condition did not hold within {within:.0f} s{''.join(ends)}")
        time.sleep(_PAUSE)
    return value


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended; a zombie has, although its parent has not read its exit status."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def seconds_until(condition: Callable[[], object], *logs: Path, within: float = PATIENCE) -> float:
    """Do `until`; give how long it took."""
    begun = time.monotonic()
    until(condition, *logs, within=within)
    return time.monotonic() - begun
