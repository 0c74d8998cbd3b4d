"""One thing every few seconds, whatever happens."""

import logging
import threading
import time

import pytest

from tests import waiting
from workers.periodic import Periodic

SECONDS = 0.01


def test_it_beats_at_once() -> None:
    beats: list[int] = []
    pulse = Periodic("heartbeat", 3600, lambda: beats.append(1))
    pulse.start()
    waiting.until(lambda: beats == [1])
    pulse.stop()


def test_it_beats_again_and_again() -> None:
    beats: list[float] = []
    pulse = Periodic("heartbeat", 0.05, lambda: beats.append(time.monotonic()))
    pulse.start()
    waiting.until(lambda: len(beats) >= 3)
    pulse.stop()
    assert beats[2] - beats[0] >= 0.09


def test_a_stopped_pulse_beats_no_more() -> None:
    beats: list[int] = []
    pulse = Periodic("heartbeat", SECONDS, lambda: beats.append(1))
    pulse.start()
    waiting.until(lambda: bool(beats))
    pulse.stop()
    waiting.until(lambda: not any(thread.name == "heartbeat" for thread in threading.enumerate()))
    count = len(beats)
    time.sleep(5 * SECONDS)
    assert len(beats) == count


def test_it_beats_in_a_thread_that_does_not_keep_the_process_alive() -> None:
    seen: list[threading.Thread] = []
    pulse = Periodic("heartbeat", SECONDS, lambda: seen.append(threading.current_thread()))
    pulse.start()
    waiting.until(lambda: bool(seen))
    pulse.stop()
    assert (seen[0].name, seen[0].daemon) == ("heartbeat", True)


def test_a_failure_does_not_end_it_and_its_traceback_is_shown_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "workers.periodic")
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) <= 3:
            raise OSError("the ledger is away")

    pulse = Periodic("heartbeat", SECONDS, beat)
    pulse.start()
    waiting.until(lambda: len(beats) >= 6)
    pulse.stop()
    assert [record.getMessage() for record in caplog.records] == [
        *["heartbeat failed: the ledger is away"] * 3,
        "heartbeat works again",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False, False]
