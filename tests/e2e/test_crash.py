"""The promise: pull the plug whenever you like, and every question is answered exactly once."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from producers import sample
from shared import broker
from shared.ledger import engine, runs, schema
from shared.ledger.schema import State
from tests import waiting
from tests.conftest import Command
from tests.e2e.conftest import Start, is_complete

pytestmark = pytest.mark.slow
RUN, QUESTIONS = "crash", 60
ENGINE = {
    "kv_cache_gib": 1,
    "max_model_len": 2048,
    "max_tokens": 160,
    "votes": 3,
    # Two workers share the questions from the start, and more wait than the survivor has room for.
    "batches_in_flight": 1,
}


def held_by_worker() -> dict[str, set[int]]:
    items = schema.items.c
    query = sa.select(items.holder, items.number).where(items.run == RUN, items.state == State.LEASED)
    held: dict[str, set[int]] = {}
    with engine.reading() as connection:
        for holder, number in connection.execute(query):
            held.setdefault(holder, set()).add(number)
    return held


def pid_of(holder: str) -> int:
    return int(holder.split(":")[1])


def taken_over(numbers: set[int], dead: str) -> bool:
    """Tell whether all that a dead worker held is being worked on, or answered, by somebody else."""
    items = schema.items.c
    query = sa.select(items.number).where(
        items.run == RUN,
        sa.or_(items.state == State.DONE, sa.and_(items.state == State.LEASED, items.holder != dead)),
    )
    with engine.reading() as connection:
        return numbers <= set(connection.scalars(query))


@pytest.mark.usefixtures("on_broker")
def test_a_killed_worker_and_a_flushed_broker_cost_time_and_nothing_else(
    home: Path,
    weights: Path,
    votequeue: Command,
    start_worker: Start,
    capsys: pytest.CaptureFixture[str],
) -> None:
    solved, data, answers = home / "solved.jsonl", home / "data.jsonl", home / "answers.jsonl"
    sample.write(sample.generate(30, seed=1), solved)
    entries = list(sample.generate(QUESTIONS, seed=2))
    for entry in entries:
        del entry["questions"][1:]
    sample.write(iter(entries), data)
    workers = [start_worker("infer", model=weights, **ENGINE) for _ in range(2)]
    for worker in workers:
        worker.await_ready()
    options = ["--votes", 3, "--max-tokens", ENGINE["max_tokens"], "--examples", solved]
    assert votequeue("enqueue", "infer", data, "--run", RUN, *options).code == 0

    waiting.until(lambda: len(held_by_worker()) == 2)
    held = held_by_worker()
    dead, victim = next((h, w) for h in held for w in workers if w.process.pid == pid_of(h))
    processes = victim.engine()
    assert processes, "the worker has no engine process"
    os.kill(victim.process.pid, signal.SIGKILL)
    gone = waiting.seconds_until(
        lambda: not any(map(psutil.pid_exists, [p.pid for p in processes])), within=10
    )
    recovered = waiting.seconds_until(lambda: taken_over(held[dead], dead), within=20)
    with capsys.disabled():
        print(
            f" engine gone: {gone:.1f} s, {len(held[dead])} questions taken over: {recovered:.1f} s ", end=""
        )

    broker.client().flushall()
    waiting.until(lambda: is_complete(RUN))
    assert runs.count_states(RUN)[State.DONE] == QUESTIONS
    with engine.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.answers)) == QUESTIONS
    assert votequeue("collect", RUN, "-o", answers).code == 0
    assert answers.read_text(encoding="utf-8").count('"answer"') == QUESTIONS
