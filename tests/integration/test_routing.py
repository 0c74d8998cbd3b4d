"""Runs go to workers that serve their generator and model, and `status` names those that nobody serves."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import broker, generators, settings
from shared.jobs import Infer
from shared.ledger import claims, leases, outbox, runs, votes
from shared.ledger.schema import State
from shared.options import Sampling
from tests import waiting
from tests.chaos import questions
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import run_fixtures
from workers import infer, reconcile
from workers.inference.rounds import Rounds

REMOTE = {"generator": "openai", "provider": "chat", "model": "org/m", "scorer": "none", "lora": "none"}
REMOTE_QUEUE = "infer.openai.chat.org-m"


@pytest.fixture
def data(on_broker: str, home: Path) -> Path:
    return run_fixtures.write(home / "data.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(3)))


def enqueue(data: Path, name: str, **changes: Any) -> str:
    return run_fixtures.infer(data, Sampling(**changes), name).run


@pytest.mark.parametrize(
    ("kind", "options", "queue"),
    [
        ("infer", {}, "infer"),
        ("infer", {"generator": "vllm", "model": None}, "infer"),
        ("infer", {"generator": "vllm", "model": "Qwen/Qwen3-8B"}, "infer.Qwen-Qwen3-8B"),
        ("infer", {"model": "/data/a,b c"}, "infer.-data-a-b-c"),
        ("infer", REMOTE, REMOTE_QUEUE),
        # Recorded votes are judged by whoever has a scorer.
        ("infer", {**REMOTE, "votes_of": "r"}, "infer"),
        ("reason", {"provider": "chat", "models": ["m"]}, "reason"),
    ],
)
def test_the_queue_of_a_run_follows_from_its_options(kind: str, options: dict[str, Any], queue: str) -> None:
    assert generators.queue_of(kind, options) == queue


def test_a_worker_consumes_the_queue_of_its_model_and_the_plain_one_unless_it_is_for_that_model() -> None:
    assert generators.queues_of("vllm", None, "m", named=False) == ["infer", "infer.m"]
    assert generators.queues_of("vllm", None, "m", named=True) == ["infer.m"]
    assert generators.queues_of("openai", "chat", "org/m", named=False) == [REMOTE_QUEUE]


def test_messages_of_a_run_wait_in_its_queue(data: Path) -> None:
    enqueue(data, "plain")
    enqueue(data, "named", model="m2")
    enqueue(data, "remote", **REMOTE)
    assert [broker.waiting(queue) for queue in ("infer", "infer.m2", REMOTE_QUEUE)] == [3, 3, 3]
    assert outbox.open_queues() == ["infer", "infer.m2", REMOTE_QUEUE]


def test_lost_messages_are_sent_again_to_the_queue_of_their_run(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(data, "plain")
    enqueue(data, "remote", **REMOTE)
    options = settings.load()
    reconcile.sweep("one", options)
    broker.client().flushall()
    assert reconcile.sweep("one", options).sent == 6
    assert [broker.waiting(queue) for queue in ("infer", REMOTE_QUEUE)] == [3, 3]
    # Only the messages of an empty queue are lost.
    broker.client().delete(broker.KEY_PREFIX + REMOTE_QUEUE)
    monkeypatch.setattr(reconcile, "LOST_AFTER", 0.0)
    assert reconcile.sweep("one", options).sent == 3
    assert [broker.waiting(queue) for queue in ("infer", REMOTE_QUEUE)] == [3, 3]


def test_a_question_that_goes_again_and_one_of_a_dead_worker_go_to_the_queue_of_their_run(data: Path) -> None:
    enqueue(data, "remote", **REMOTE)
    broker.client().flushall()
    claims.claim([Infer(run="remote", item=0)], "dead", 0.01)
    time.sleep(0.02)
    options = settings.load()
    assert reconcile.sweep("one", options, ["dead"]).expired == 1
    assert broker.waiting(REMOTE_QUEUE) >= 1
    assert broker.waiting("infer") == 0
    assert outbox.left_over([REMOTE_QUEUE], 10, 0.0) == [Infer(run="remote", item=0)]
    assert outbox.left_over(["infer"], 10, 0.0) == []


def test_a_message_that_a_killed_worker_took_is_read_whatever_its_queue(data: Path) -> None:
    enqueue(data, "remote", **REMOTE)
    queue = broker.app.amqp.queues[REMOTE_QUEUE]
    with broker.app.connection_for_read() as connection:
        assert queue(connection.default_channel).get() is not None
        (message,) = broker.taken(time.time() + 60, 0, 10)
        assert message.job is not None
        assert message.job.run == "remote"


# Runs that nobody serves


def test_status_names_runs_that_no_live_worker_serves_and_the_command_that_would(
    data: Path, votequeue: Command
) -> None:
    enqueue(data, "plain")
    enqueue(data, "remote", **REMOTE)
    leases.heartbeat("here", 60, queues=["infer"])
    command = "votequeue worker infer --generator openai --provider chat --model org/m"
    sentence = f"no live worker serves remote (queue {REMOTE_QUEUE}): start one with `{command}`"
    shown = " ".join(votequeue("status").out.split())
    assert sentence in shown
    assert "serves plain" not in shown
    assert command in " ".join(votequeue("status", "remote").out.split())
    assert "no live worker" not in votequeue("status", "plain").out
    told = json.loads(votequeue("status", "remote", "--json").out)
    assert (told["queue"], told["unserved"], told["messages"]) == (REMOTE_QUEUE, True, 3)
    leases.heartbeat("there", 60, queues=[REMOTE_QUEUE])
    assert "no live worker" not in votequeue("status").out


def test_a_dead_worker_serves_nothing_and_one_that_does_not_say_might_serve_all(
    data: Path, votequeue: Command
) -> None:
    enqueue(data, "plain")
    leases.heartbeat("dead", 0.01, queues=["infer"])
    time.sleep(0.02)
    shown = " ".join(votequeue("status").out.split())
    assert "no live worker serves plain (queue infer): start one with `votequeue up` or `votequeue" in shown
    leases.heartbeat("of an older version", 60)
    assert "no live worker" not in votequeue("status").out


def test_a_foreign_run_in_a_workers_queue_is_given_back_and_the_worker_goes_on(data: Path) -> None:
    enqueue(data, "remote", **REMOTE)
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        rounds = Rounds(FakeGenerator(), FakeScorer(), lambda _: FakeRetriever())
        (outcome,) = asyncio.run(infer.run_round(rounds, run_fixtures.claim("remote", 0)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert outcome == "given back: the run is for generator openai, this worker has vllm"
    assert stopped == []


# Two workers


@pytest.fixture
def workers(data: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start two workers with fast generators, each for a model of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = []
    for model in ("m1", "m2"):
        command = [sys.executable, "-m", "tests.chaos.worker", "infer", "--model", model]
        with Path(f"{model}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    yield started
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


def test_each_run_is_answered_by_the_worker_with_its_model(
    data: Path, workers: list["subprocess.Popen[bytes]"], votequeue: Command
) -> None:
    questions.write(data, 3)
    for model in ("m1", "m2"):
        enqueue(data, f"run-{model}", model=model)
    enqueue(data, "nobodys", model="m3")
    logs = Path("m1.log"), Path("m2.log")
    waiting.until(lambda: {runs.count_states(run)[State.DONE] for run in ("run-m1", "run-m2")} == {3}, *logs)
    for model in ("m1", "m2"):
        sources = [each[2] for at in range(3) for each in votes.sampled_rounds(f"run-{model}", at)]
        assert {source.model for source in sources if source} == {model}
    assert runs.count_states("nobodys")[State.PENDING] == 3
    shown = " ".join(votequeue("status").out.split())
    assert "no live worker serves nobodys (queue infer.m3)" in shown
    assert "serves run-m1" not in shown
