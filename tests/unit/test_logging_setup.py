"""A worker's log in an outage."""

import logging
import os

import pytest

from workers import logging_setup
from workers.logging_setup import OnceAMinute


def record(message: str, level: int = logging.WARNING, name: str = "workers.reconcile") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, "%s", (message,), None)


def test_a_trouble_that_lasts_is_told_once_a_minute() -> None:
    now = [0.0]
    once = OnceAMinute(lambda: now[0])
    told = []
    for second in range(180):
        now[0] = float(second)
        told.append(once.filter(record("the broker is full")))
    assert [at for at, one in enumerate(told) if one] == [0, 60, 120]


def test_other_troubles_and_lesser_records_are_told_always() -> None:
    once = OnceAMinute(lambda: 0.0)
    assert once.filter(record("a"))
    assert once.filter(record("b"))
    assert once.filter(record("a", name="celery"))
    assert all(once.filter(record("a", logging.INFO)) for _ in range(3))


def test_a_record_has_the_process_id_that_vllms_format_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, True)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging_setup.configure("INFO")
    assert logging.Formatter("pid=%(process)d").format(record("a")) == f"pid={os.getpid()}"
