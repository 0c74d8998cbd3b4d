"""What a worker does before its first message: a process of its own, whose broker is not there yet."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.servers import Broker

READY = b"ready: batches of"


def test_a_worker_waits_for_its_broker_as_long_as_it_takes(home: Path) -> None:
    server, log = Broker(home / "valkey"), home / "log"
    environment = {**os.environ, "VOTEQUEUE_BROKER_URL": server.url}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
        root = Path(__file__).parents[2]
        worker = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=root)
    try:
        until(lambda: b"does not answer" in log.read_bytes())
        time.sleep(5)
        assert worker.poll() is None
        assert log.read_bytes().count(b"does not answer") == 1
        (state,) = (home / "var/workers").glob("[0-9]*[0-9]")
        assert (int(state.name.split("-")[0]), state.read_text()) == (worker.pid, "loading")
        server.start(wait=True)
        until(lambda: READY in log.read_bytes())
        until(lambda: state.read_text() == "ready")
    finally:
        worker.terminate()
        worker.wait(30)
        server.kill()
    assert not state.exists()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("error", "said"),
    [("RuntimeError('no such thing')", "Traceback"), ("UserError('no weights')", "no weights")],
)
def test_a_worker_that_cannot_start_ends(home: Path, on_broker: str, error: str, said: str) -> None:
    program = (
        "from shared.broker import app\n"
        "from shared.errors import UserError\n"
        "from workers import lifecycle\n"
        "def start():\n"
        f"    raise {error}\n"
        "lifecycle.attach(start=start, stopping=lambda: None, stopped=lambda: None)\n"
        "app.worker_main(['worker', '--pool', 'threads', '-c', '1'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    # Its file would stay: supervisord starts such a worker again and again.
    assert list((home / "var/workers").iterdir()) == []
