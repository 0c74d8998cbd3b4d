"""Trainings that are killed, paused and overtaken between real workers, and adapters that come into use."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from producers import sample
from producers.commands import training_options
from shared.ledger import engine, models, runs, schema, training_log
from shared.ledger.runs import Run
from shared.ledger.schema import State
from tests import training_fixtures, waiting
from tests.conftest import Command
from tests.e2e.conftest import Start, Worker, is_complete

pytestmark = pytest.mark.slow
CLAIMS = {"lease": 4, "heartbeat": 0.5, "checkpoint_every": 0.5}


def open_training(weights: Path, max_steps: int) -> None:
    """Record a training that takes half a minute."""
    given = {
        "base": str(weights),
        "tune": "all",
        "input": "question+reasoning",
        "learning_rate": 5e-3,
        "max_length": 64,
        "batch_size": 8,
        "epochs": 10_000,
        "max_steps": max_steps,
        "held_out": 0.25,
    }
    told = training_options.scorer(given)
    run = Run("t", "train", "votes of mine", "digest", None, told.model_dump(mode="json"))
    runs.open_single(run, "scorer", (one.model_dump_json() for one in training_fixtures.examples(40)))


def holder() -> str | None:
    """Give the worker that holds the training, if one does."""
    items = schema.items.c
    with engine.reading() as connection:
        return connection.scalar(sa.select(items.holder).where(items.run == "t", items.state == State.LEASED))


def pid_of(holder: str) -> int:
    return int(holder.split(":")[1])


def saved() -> int:
    return max((told.step for told in training_log.curve("t") if "saved" in told.metrics), default=0)


def learning(worker: Worker) -> list[psutil.Process]:
    """Give the processes in which a worker trains."""
    found = psutil.Process(worker.process.pid).children()
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("on_broker")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "paused"])
def test_a_training_goes_on_from_its_checkpoint_on_another_worker_and_never_on_two(
    blow: signal.Signals, weights: Path, start_worker: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    open_training(weights, max_steps=600)
    workers = [start_worker("train", **CLAIMS) for _ in range(2)]
    waiting.until(lambda: saved() > 0, workers[0].log)
    first = holder()
    assert first is not None
    victim = next(worker for worker in workers if worker.process.pid == pid_of(first))
    (child,) = learning(victim)
    os.kill(victim.process.pid, blow)
    # The process that trains goes with its worker, or as soon as nobody tells it that the claim holds.
    gone = waiting.seconds_until(lambda: waiting.has_ended(child), within=10)
    reached = saved()
    taken = waiting.seconds_until(lambda: holder() not in (None, first), within=30)
    with capsys.disabled():
        print(f" its process gone: {gone:.1f} s, taken over: {taken:.1f} s ", end="")
    survivor = next(worker for worker in workers if worker is not victim)
    waiting.until(lambda: bool(learning(survivor)))
    if blow is signal.SIGSTOP:
        os.kill(victim.process.pid, signal.SIGCONT)
    waiting.until(lambda: is_complete("t"), survivor.log)
    if blow is signal.SIGSTOP:
        assert learning(victim) == []
    assert "resuming from" in survivor.log.read_text()
    assert reached > 0
    curve = training_log.curve("t")
    assert [told.step for told in curve] == sorted({told.step for told in curve})
    assert curve[-1].step == 600
    assert [model.run for model in models.every()] == ["t"]
    used = models.in_use("scorer")
    assert used is not None


@pytest.mark.usefixtures("on_broker")
def test_an_adapter_comes_into_use_between_two_batches_and_goes_again(
    home: Path, weights: Path, votequeue: Command, start_worker: Start
) -> None:
    solved, data = home / "solved.jsonl", home / "data.jsonl"
    sample.write(sample.generate(12, seed=1), solved)
    sample.write(sample.generate(4, seed=2), data)
    quick = ("--base", weights, "--max-steps", 4, "--max-length", 2048, "--learning-rate", 0.01)
    assert votequeue("enqueue", "train", "lora", "--data", solved, "--run", "t", *quick).code == 0
    trainer = start_worker("train", model=weights)
    waiting.until(lambda: is_complete("t"), trainer.log)
    (adapter,) = models.every()
    worker = start_worker("infer", model=weights, kv_cache_gib=1, max_model_len=4096)
    worker.await_ready()

    def answer(run: str) -> None:
        shape = ("--votes", 2, "--max-attempts", 1, "--max-tokens", 32, "--examples", solved)
        assert votequeue("enqueue", "infer", data, "--run", run, *shape).code == 0
        waiting.until(lambda: is_complete(run), worker.log)

    answer("without")
    assert "support for LoRA adapters" not in worker.log.read_text()
    assert votequeue("models", "use", adapter.name).code == 0
    answer("with")
    assert "rebuilding the engine with support for LoRA adapters of rank 8" in worker.log.read_text()
    assert votequeue("models", "use", "no-lora").code == 0
    answer("again")
    assert worker.log.read_text().count("rebuilding the engine") == 1
    assert worker.process.poll() is None
    assert all(runs.count_states(run)[State.DONE] > 0 for run in ("without", "with", "again"))
