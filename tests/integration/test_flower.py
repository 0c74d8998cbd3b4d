"""What the real Flower says of a real worker's tasks, asked through its own API."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import programs
from shared import broker, settings
from shared.jobs import Infer
from shared.ledger import controls, runs
from shared.ledger.schema import State
from shared.options import Sampling
from tests import waiting
from tests.chaos import generators, servers
from tests.conftest import _use_broker, forget
from tests.integration import run_fixtures
from tests.valkey import free_port
from workers import infer, outcomes

ROOT = Path(__file__).parents[2]
LOGIN = "me:secret"
COMMAND = (sys.executable, "-m", "celery", "-A", "shared.broker:app", "flower")


class Flower:
    """A Flower of its own process."""

    def __init__(self, home: Path) -> None:
        self.log = home / "flower.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "VOTEQUEUE_FLOWER_PORT": str(self._port),
            "VOTEQUEUE_FLOWER_AUTH": LOGIN,
            "VOTEQUEUE_FLOWER_DB": "flower/tasks.db",
        }
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [*COMMAND, f"--conf={programs.FLOWER_CONFIG}"], env=environment, stdout=file, stderr=file
            )
        waiting.until(self.listens, self.log)

    def listens(self) -> bool:
        # Its page answers before it receives events.
        return bool(broker.client().pubsub_numpat())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def ask(self, path: str, login: str = LOGIN) -> Any:
        return json.loads(self.get(f"api/{path}", login))

    def get(self, path: str, login: str | None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/{path}")
        if login is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as reply:
            return bytes(reply.read())

    def tasks(self, name: str) -> dict[str, Any]:
        """Give the tasks of an item, oldest first."""
        try:
            tasks: dict[str, Any] = self.ask("tasks")
        except OSError:
            return {}  # not there yet
        own = {task: each for task, each in tasks.items() if task.startswith(f"{name}.")}
        return dict(sorted(own.items(), key=lambda pair: pair[1]["received"] or 0.0))

    def states(self, name: str) -> list[str]:
        return [each["state"] for each in self.tasks(name).values()]


@pytest.fixture
def flower(on_broker: str, home: Path) -> Iterator[Flower]:
    server = Flower(home)
    server.start()
    yield server
    server.stop()


class Workers:
    """Starts infer workers without an engine, whose votes take a while."""

    def __init__(self, home: Path) -> None:
        self.log = home / "worker.log"
        self._votes = home / "votes.json"
        self._votes.write_text(json.dumps([[["答案是：B", 1], ["答案是：B", 1]]]))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, seconds: float) -> subprocess.Popen[bytes]:
        environment = {**os.environ, generators.VOTES: str(self._votes), generators.STEP: str(seconds)}
        with self.log.open("ab") as file:
            command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
            process = subprocess.Popen(
                command, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=file, stderr=file
            )
        self.processes.append(process)
        return process


@pytest.fixture
def workers(home: Path) -> Iterator[Workers]:
    started = Workers(home)
    yield started
    for process in started.processes:
        process.kill()
        process.wait(30)


def test_a_killed_task_has_failed_its_question_is_answered_by_another_and_both_are_kept(
    home: Path, flower: Flower, workers: Workers
) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        flower.ask("tasks", login="me:wrong")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        flower.get("metrics", login=None)
    assert b"flower_events_total" in flower.get("metrics", LOGIN)
    assert flower.get("healthcheck", login=None) == b"OK"
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "B"))
    run_fixtures.infer(data, Sampling(generator=settings.load().generator, votes=2), "r")
    victim = workers.start(seconds=1000.0)
    waiting.until(lambda: flower.states("r.0") == ["STARTED"], workers.log)
    waiting.until(lambda: runs.count_states("r")[State.LEASED], workers.log)
    victim.kill()
    victim.wait(30)
    workers.start(seconds=0.01)
    waiting.until(lambda: flower.states("r.0") == ["FAILURE", "SUCCESS"], workers.log)
    killed, second = flower.tasks("r.0").items()
    assert flower.ask(f"task/info/{killed[0]}")["exception"] == outcomes.GONE
    info = flower.ask(f"task/info/{second[0]}")
    assert (info["name"], info["result"]) == ("infer", "'B: unscored majority, 2 of 2 votes'")
    assert eval(info["kwargs"]) == {"run": "r", "item": 0}

    # The message comes again.
    broker.send([Infer(run="r", item=0)])
    waiting.until(lambda: flower.states("r.0") == ["FAILURE", "SUCCESS", "SUCCESS"], workers.log)
    *_, again = flower.tasks("r.0").values()
    assert again["result"] == "'already done: B: unscored majority, 2 of 2 votes'"

    flower.stop()
    flower.start()
    waiting.until(lambda: flower.states("r.0") == ["FAILURE", "SUCCESS", "SUCCESS"], flower.log)
    saved = list((home / "flower").iterdir())
    assert saved
    assert {path.stat().st_mode & 0o077 for path in saved} == {0}


@pytest.fixture
def restartable(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Broker]:
    server = servers.Broker(home / "valkey")
    _use_broker(monkeypatch, server.url)
    forget()
    server.start(wait=True)
    yield server
    server.kill()
    forget()


def test_after_a_restart_of_the_broker_cancelled_and_stopped_tasks_end_with_their_outcomes(
    restartable: servers.Broker, home: Path, workers: Workers
) -> None:
    flower = Flower(home)
    flower.start()
    try:
        data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "B"))
        options = Sampling(generator=settings.load().generator, votes=2)
        run_fixtures.infer(data, options, "before")
        worker = workers.start(seconds=1000.0)
        waiting.until(lambda: flower.states("before.0") == ["STARTED"], workers.log)
        restartable.kill()
        restartable.start(wait=True)
        waiting.until(flower.listens, flower.log)
        run_fixtures.infer(data, options, "after")
        waiting.until(lambda: flower.states("after.0") == ["STARTED"], workers.log)
        controls.cancel("after")
        waiting.until(lambda: flower.states("after.0") == ["FAILURE"], workers.log)
        worker.terminate()
        waiting.until(lambda: flower.states("before.0")[:1] == ["RETRY"], workers.log)
        for name, text in {"before.0": infer.STOPPED, "after.0": infer.HALTED}.items():
            task, *_ = flower.tasks(name)
            info = flower.ask(f"task/info/{task}")
            assert (info["exception"], info["traceback"] or "") == (text, "")
    finally:
        flower.stop()


def test_a_folder_of_tasks_that_cannot_be_made_is_named(on_broker: str, home: Path) -> None:
    (home / "file").touch()
    environment = {**os.environ, "VOTEQUEUE_FLOWER_DB": str(home / "file" / "tasks.db")}
    command = [*COMMAND, f"--conf={programs.FLOWER_CONFIG}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    reason = f"VOTEQUEUE_FLOWER_DB: its folder {home / 'file'} cannot be made: File exists"
    assert ended.stderr.strip().splitlines()[-1] == reason
