"""The engine's process dies with its worker, however the worker dies."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import waiting
from workers.models import parent_death

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
_PR_GET_PDEATHSIG = 2

# A worker that starts a child as vLLM starts its engine, tells the child's pid, and sleeps.
WORKER = """
import multiprocessing, sys, time
from tests.unit import test_parent_death
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=getattr(test_parent_death, sys.argv[1]))
    child.start()
    time.sleep(1000)
"""


def ready() -> None:
    """Tell the test, over the worker's output, who we are and that we have come this far."""
    print(os.getpid(), flush=True)


def tied_child() -> None:
    parent_death.die_with_parent()
    ready()
    time.sleep(1000)


def free_child() -> None:
    ready()
    time.sleep(1000)


def late_child() -> None:
    worker = os.getppid()
    ready()
    while os.getppid() == worker:
        time.sleep(0.01)
    parent_death.die_with_parent()
    time.sleep(1000)


@contextmanager
def worker(child: str) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """Run a worker with a child; give both once the child is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, child],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout
        born = psutil.Process(int(process.stdout.readline()))
        try:
            yield process, born
        finally:
            for left in (process, born):
                try:
                    left.kill()
                except psutil.NoSuchProcess:
                    continue


def gone(process: psutil.Process, seconds: float) -> bool:
    """Wait until a process has ended; tell whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if waiting.has_ended(process):
            return True
        time.sleep(0.05)
    return False


def death_signal() -> int:
    found = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(_PR_GET_PDEATHSIG, ctypes.byref(found), 0, 0, 0) == 0
    return found.value


def test_the_child_of_a_killed_worker_is_gone_within_10_seconds() -> None:
    with worker("tied_child") as (process, child):
        assert not gone(child, 0.3)
        process.kill()
        assert gone(child, 10)


def test_a_child_that_asks_when_its_worker_is_dead_already_goes_at_once() -> None:
    with worker("late_child") as (process, child):
        process.kill()
        assert gone(child, 10)


def test_without_it_a_child_lives_on() -> None:
    with worker("free_child") as (process, child):
        process.kill()
        process.wait()
        assert not gone(child, 1)


def test_in_a_process_that_multiprocessing_did_not_start_it_does_nothing() -> None:
    before = death_signal()
    parent_death.die_with_parent()
    assert death_signal() == before
