"""The kill harness in its short form; `make chaos` plays more, and longer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import postgres

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_nothing_is_lost_doubled_wrongly_charged_or_buried_in_a_short_storm(ledger: str) -> None:
    play(ledger, "--scenario", "short")


def test_a_worker_that_is_told_to_stop_under_load_gives_every_question_back_uncharged() -> None:
    table = play("postgresql", "--scenario", "drain", "--seconds", "8", "--workers", "2")
    stops = re.search(r"SIGTERM to given back p50 / p99 / max, s \| \S+ / \S+ / \S+ \((\d+)\)", table)
    assert stops
    assert int(stops[1]) > 0


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_runs_that_are_paused_cancelled_and_reordered_at_random_are_answered_exactly_once(
    ledger: str,
) -> None:
    play(ledger, module="tests.chaos.controls")


def play(ledger: str, *arguments: str, module: str = "tests.chaos") -> str:
    if ledger == "postgresql" and postgres.binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: `make test` installs it")
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    # A process of its own: its workers are forks, and this one has threads and settings.
    command = [sys.executable, "-m", module, "--ledger", ledger, *arguments]
    root = Path(__file__).parents[2]
    played = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    print(played.stdout, played.stderr[-5000:])
    assert "every promise was kept" in played.stdout
    assert played.returncode == 0
    return played.stdout
