"""The `infer` worker without an engine, as a process: from `enqueue` to `collect`, through our server."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import settings
from shared.ledger import calls, runs, votes
from shared.ledger.schema import State
from tests import waiting
from tests.conftest import Command
from tests.integration import run_fixtures
from tests.servers.openai import ChatServer

CHOSEN = ("--generator", "openai", "--provider", "chat", "--model", "m")
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def server(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with ChatServer(reply=lambda _: "因为如此。\n答案是：A", latency=0.2) as started:
        monkeypatch.setenv("VOTEQUEUE_CHAT_BASE_URL", started.url)
        monkeypatch.setenv("VOTEQUEUE_CHAT_API_KEY", "sk-1")
        # A killed worker's calls hold their places until they must have ended.
        monkeypatch.setenv("VOTEQUEUE_LIMITS", '{"chat": {"per_minute": null, "max_concurrency": null}}')
        monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat": {"input": 1, "output": 2}}')
        # For the workers: killed ones are noticed sooner.
        monkeypatch.setenv("VOTEQUEUE_LEASE", "4")
        monkeypatch.setenv("VOTEQUEUE_HEARTBEAT", "1")
        settings.load.cache_clear()
        yield started


@pytest.fixture
def start(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started: list[subprocess.Popen[bytes]] = []

    def worker() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "producers.cli", "worker", "infer", *CHOSEN]
        with (home / f"worker-{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield worker
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


def data(home: Path, count: int) -> tuple[Path, Path]:
    questions = run_fixtures.write(home / "q.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(count)))
    solved = run_fixtures.write(home / "s.jsonl", *(run_fixtures.solved(f"s{at}") for at in range(5)))
    return questions, solved


def test_questions_are_answered_by_a_killed_worker_and_its_successor_and_no_vote_is_bought_twice(
    home: Path, server: ChatServer, start: Start, votequeue: Command
) -> None:
    server.most_votes = 1
    questions, solved = data(home, 30)
    first = start()
    arguments = ("enqueue", "infer", questions, "--examples", solved, *CHOSEN, "--run", "r", "--budget", "5")
    ended = votequeue(*arguments, "--votes", "3")
    assert ended.code == 0, ended.err
    waiting.until(lambda: len(server.requests) > 20, *Path().glob("worker-*.log"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    start()
    waiting.until(lambda: runs.count_states("r")[State.DONE] == 30, *Path().glob("worker-*.log"))
    assert votequeue("collect", "r", "-o", home / "out.jsonl").code == 0
    assert [entry["questions"][0]["answer"] for entry in run_fixtures.read(home / "out.jsonl")] == ["A"] * 30
    # Bought twice could be only what was in flight when the worker died.
    bought = Counter(calls.answered_steps("r"))
    assert (len(bought), max(bought.values())) == (90, 1)
    cut_off = calls.tally("r")[0]
    in_flight = sum(tally.calls for tally in cut_off if tally.outcome == calls.NOT_ENDED)
    # A call is recorded before it is sent.
    assert 90 <= len(server.requests) <= 90 + in_flight
    status = votequeue("status", "r").out
    assert f"calls: {90 + in_flight} (90 ok" in status
    assert 0 < calls.spent("r").spent < 5
    assert "spent" in votequeue("report", "r").out
    _, record, generator = votes.sampled_rounds("r", 0)[0]
    assert generator is not None
    assert (generator.model, generator.engine) == ("m", "openai")
    assert len(record.examples) == 2


def test_a_worker_that_is_told_to_stop_lets_its_calls_end_and_gives_back_the_rest(
    home: Path, server: ChatServer, start: Start, votequeue: Command
) -> None:
    server.latency = 1.0
    questions, _ = data(home, 40)
    worker = start()
    assert votequeue("enqueue", "infer", questions, *CHOSEN, "--run", "r").code == 0
    waiting.until(lambda: len(server.requests) > 0, *Path().glob("worker-*.log"))
    worker.terminate()
    assert worker.wait(60) == 0
    counts = runs.count_states("r")
    assert counts[State.LEASED] == 0
    assert counts[State.DONE] == len(server.requests) == len(list(calls.answered_steps("r")))


def test_a_worker_without_an_engine_imports_no_torch(home: Path, server: ChatServer) -> None:
    program = (
        "import sys, threading\n"
        "from shared import settings\n"
        "from workers import infer, wiring\n"
        "rounds, generator = wiring.rounds(settings.load(), threading.Event())\n"
        "rounds._retriever('lexical')\n"
        "heavy = {'torch', 'vllm', 'transformers', 'sentence_transformers'}\n"
        "print(sorted((heavy | {'qdrant_client'}) & sys.modules.keys()))\n"
        "rounds._retriever('chat:e')\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    chosen = {"GENERATOR": "openai", "PROVIDER": "chat", "MODEL": "m"}
    environment: dict[str, Any] = {**os.environ, **{f"VOTEQUEUE_{name}": to for name, to in chosen.items()}}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.stdout.splitlines()[-2:] == ["[]", "[]"], ended.stderr
