"""Trouble that lasts is a line a minute in a worker's log."""

import logging
from collections.abc import Iterator

import pytest

from workers import repeats
from workers.repeats import Repeats


@pytest.fixture
def shown() -> Iterator[list[str]]:
    """Log through the filter; give what is shown."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    handler.addFilter(Repeats())
    logger = logging.getLogger("tests.repeats")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_a_warning_that_is_said_again_at_once_is_shown_once(shown: list[str]) -> None:
    for _ in range(100):
        logging.getLogger("tests.repeats").warning("the ledger at %s does not work", "db:5432")
    logging.getLogger("tests.repeats").warning("the ledger at %s does not work", "other:5432")
    assert shown == ["the ledger at db:5432 does not work", "the ledger at other:5432 does not work"]


def test_it_is_shown_again_after_a_minute(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "SECONDS", 0.0)
    for _ in range(3):
        logging.getLogger("tests.repeats").error("away")
    assert shown == ["away"] * 3


def test_what_is_no_warning_is_always_shown(shown: list[str]) -> None:
    for _ in range(3):
        logging.getLogger("tests.repeats").info("ready")
    assert shown == ["ready"] * 3


def test_it_forgets_what_was_said_long_ago(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "REMEMBERED", 10)
    kept = Repeats()
    for at in range(1000):
        record = logging.LogRecord("x", logging.WARNING, __file__, 1, f"{at}", None, None)
        assert kept.filter(record)
        kept._said = dict.fromkeys(kept._said, -1e9)
    assert len(kept._said) <= 10
    assert shown == []
