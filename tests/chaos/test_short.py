"""The kill harness in its short form; `make chaos` plays more, and longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import postgres

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_nothing_is_lost_doubled_wrongly_charged_or_buried_in_a_short_storm(
    ledger: str,
) -> None:
    keep_promises("tests.chaos", "--scenario", "short", ledger=ledger)


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_runs_that_are_paused_cancelled_and_reordered_at_random_are_answered_exactly_once(
    ledger: str,
) -> None:
    keep_promises("tests.chaos.controls", ledger=ledger)


def keep_promises(module: str, *words: str, ledger: str) -> None:
    """Play in a process of its own: its workers are forks, and this one has threads and settings."""
    if ledger == "postgresql" and postgres.binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: `make test` installs it")
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    command = [sys.executable, "-m", module, *words, "--ledger", ledger]
    root = Path(__file__).parents[2]
    played = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    print(played.stdout, played.stderr[-5000:])
    assert "every promise was kept" in played.stdout
    assert played.returncode == 0
