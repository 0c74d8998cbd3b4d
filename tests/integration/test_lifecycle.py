"""What a worker does before its first message: a process of its own, whose broker is not there yet."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import waiting
from tests.chaos.servers import Broker
from workers import lifecycle

READY = b"ready: batches of"


def test_a_worker_that_is_told_to_stop_twice_gives_its_items_back_once() -> None:
    given_back: list[str] = []
    life = lifecycle._Life(
        start=lambda: None,
        stopping=lambda: given_back.append("all"),
        stopped=lambda: None,
        swept=lambda _: None,
    )
    for _ in range(2):
        life.on_stopping()
    assert life.release is not None
    life.release.join()
    assert given_back == ["all"]


def test_a_worker_waits_for_its_broker_as_long_as_it_takes(home: Path) -> None:
    server, log = Broker(home / "valkey"), home / "log"
    environment = {**os.environ, "VOTEQUEUE_BROKER_URL": server.url}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
        root = Path(__file__).parents[2]
        worker = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=root)
    try:
        waiting.until(lambda: b"does not answer" in log.read_bytes())
        time.sleep(5)
        assert worker.poll() is None
        assert log.read_bytes().count(b"does not answer") == 1
        (state,) = (home / "var/workers").glob("[0-9]*[0-9]")
        assert (int(state.name.split("-")[0]), state.read_text()) == (worker.pid, "loading")
        server.start(wait=True)
        waiting.until(lambda: READY in log.read_bytes())
        waiting.until(lambda: state.read_text() == "ready")
    finally:
        worker.terminate()
        worker.wait(30)
        server.kill()
    assert not state.exists()


def test_a_worker_takes_nothing_up_before_it_can_be_told_to_stop(home: Path, on_broker: str) -> None:
    program = (
        "import os, signal, time\n"
        "from celery import signals\n"
        "from shared.broker import app\n"
        "from workers import lifecycle\n"
        "signals.celeryd_after_setup.connect(lambda **_: time.sleep(2.5), weak=False)\n"
        "lifecycle.attach(\n"
        "    start=lambda: None,\n"
        "    stopping=lambda: print('given back'),\n"
        "    stopped=lambda: None,\n"
        "    swept=lambda _: os.kill(os.getpid(), signal.SIGTERM),\n"
        ")\n"
        "app.worker_main(['worker', '--pool', 'threads', '-c', '1'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    # Celery handles the signal only after it has set the worker up; until then, the signal kills it.
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("given back") == 1


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
