"""After an outage, a sleep or a jump of clocks, no lease is taken for run out before all had time to beat."""

import time

import pytest

from shared import leases
from workers.lifecycle import Heartbeat

LEASE = 15.0


class Clocks:
    """The ledger's clock and this machine's, as the test sets them."""

    def __init__(self) -> None:
        self.machine = 1000.0
        self.ledger = 1_795_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.machine += seconds
        self.ledger += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime", lambda _: clocks.machine)
    monkeypatch.setattr(leases, "heartbeat", lambda *_: clocks.ledger)
    return clocks


def steady(clocks: Clocks) -> Heartbeat:
    """Give a heartbeat that has gone on for a lease."""
    heartbeat = Heartbeat(LEASE)
    for _ in range(6):
        heartbeat.beat()
        clocks.pass_by(3)
    heartbeat.beat()
    return heartbeat


def test_leases_are_trusted_once_beats_went_through_for_as_long_as_a_lease(clocks: Clocks) -> None:
    heartbeat = Heartbeat(LEASE)
    for _ in range(5):
        heartbeat.beat()
        assert not heartbeat.trusted()
        clocks.pass_by(3)
    heartbeat.beat()
    assert heartbeat.trusted()


def test_after_a_gap_they_are_not_trusted_for_as_long_again(clocks: Clocks) -> None:
    heartbeat = steady(clocks)
    clocks.pass_by(40)
    for _ in range(5):
        heartbeat.beat()
        assert not heartbeat.trusted()
        clocks.pass_by(3)
    heartbeat.beat()
    assert heartbeat.trusted()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_after_a_jump_of_the_ledgers_clock_they_are_not_trusted(clocks: Clocks, seconds: float) -> None:
    heartbeat = steady(clocks)
    clocks.pass_by(3)
    clocks.ledger += seconds
    heartbeat.beat()
    assert not heartbeat.trusted()


def test_two_beats_at_once_and_a_late_one_change_nothing(clocks: Clocks) -> None:
    heartbeat = steady(clocks)
    heartbeat.beat()
    clocks.pass_by(5)
    heartbeat.beat()
    assert heartbeat.trusted()
