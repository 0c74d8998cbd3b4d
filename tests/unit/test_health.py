"""What health checks are told of workers: loading, ready, stopping, stuck, gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import health
from shared import settings, worker_state


def answers(question: str) -> str | None:
    return health.worker_error(settings.load(), question)


def test_a_worker_that_loads_its_engine_is_live_but_not_ready(home: Path) -> None:
    worker_state.write(settings.load().home, "loading")
    assert answers("live") is None
    assert answers("ready") == "the worker is loading"
    worker_state.write(settings.load().home, "ready")
    assert answers("ready") is None
    worker_state.write(settings.load().home, "stopping")
    assert answers("live") is None
    assert answers("ready") == "the worker is stopping"


@pytest.mark.parametrize("question", ["live", "ready"])
def test_a_worker_that_shows_no_sign_of_life_is_neither(home: Path, question: str) -> None:
    worker_state.write(settings.load().home, "ready")
    file = settings.load().home / "workers" / str(os.getpid())
    long_ago = time.time() - 100
    os.utime(file, (long_ago, long_ago))
    assert answers(question) == "the worker has shown no sign of life for 100 seconds"


def test_a_worker_that_has_ended_is_no_worker(home: Path) -> None:
    nobody = f"no worker runs below {settings.load().home}"
    assert answers("live") == nobody
    worker_state.write(settings.load().home, "ready")
    worker_state.write(settings.load().home, None)
    assert answers("live") == nobody
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (settings.load().home / "workers" / str(gone.pid)).write_text("ready")
    assert answers("live") == nobody


def test_the_probe_of_a_container_exits_with_its_answer(home: Path) -> None:
    def probe(question: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "infra.health", question]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert probe("live") == (1, f"no worker runs below {settings.load().home}\n")
    worker_state.write(settings.load().home, "loading")
    assert probe("live") == (0, "")
    assert probe("ready") == (1, "the worker is loading\n")
