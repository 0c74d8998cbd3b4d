"""What health checks are told of workers: loading, ready, stopping, stuck, gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import health
from shared import processes, settings, worker_state


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
    (file,) = (settings.load().home / "workers").iterdir()
    assert file.name.split("-")[0] == str(os.getpid())
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
    leave(gone.pid, 1)
    assert answers("live") == nobody


def leave(pid: int, started: int, age: float = 0) -> Path:
    """Leave the file of a process behind that did not remove it."""
    file = settings.load().home / "workers" / f"{pid}-{started}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("ready")
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_a_later_process_with_the_pid_of_a_worker_that_was_killed_is_no_worker(home: Path) -> None:
    worker_state.write(settings.load().home, "ready")
    left = leave(os.getpid(), (processes.start(os.getpid()) or 0) - 1, age=100)
    assert answers("live") is None
    assert answers("ready") is None
    assert left.exists()  # the worker may live in another container
    long_ago = leave(os.getpid(), 1, age=worker_state.LEFT_BEHIND + 1)
    assert answers("live") is None
    assert not long_ago.exists()


def probe(question: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "infra.health", question]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_probe_with_an_invalid_setting_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_LEASE", "abc")
    code, said = probe("live")
    assert code == 1
    assert said.startswith("setting VOTEQUEUE_LEASE: ")
    assert said.count("\n") == 1


def test_the_probe_of_a_container_exits_with_its_answer(home: Path) -> None:
    assert probe("live") == (1, f"no worker runs below {settings.load().home}\n")
    worker_state.write(settings.load().home, "loading")
    assert probe("live") == (0, "")
    assert probe("ready") == (1, "the worker is loading\n")
