"""Several hosts in the short form; `make hosts` plays more faults, and longer ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import lab, requirements

pytestmark = pytest.mark.slow


def test_a_host_that_was_cut_off_and_clocks_that_differ_lose_and_double_nothing() -> None:
    if reason := requirements.not_installed():
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: `make test` installs it")
        pytest.skip(reason)
    if reason := lab.forbidden():
        # Many containers forbid namespaces, which nobody can install.
        pytest.skip(reason)
    command = [sys.executable, "-m", "tests.hosts", "--short"]
    root = Path(__file__).parents[2]
    played = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    print(played.stdout, played.stderr[-5000:])
    assert "every promise was kept" in played.stdout
    assert played.returncode == 0
