"""The main job once, with the real 0.5B generator and a scorer trained from it."""

import json
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from producers import sample
from shared import model_store, settings
from shared.ledger import engine, models, schema
from tests import waiting
from tests.chaos import engine as engine_faults
from tests.conftest import Command
from tests.e2e.conftest import Start, is_complete

pytestmark = pytest.mark.slow
QUESTIONS = 2


@pytest.mark.usefixtures("on_broker")
def test_puzzles_train_a_scorer_and_are_answered_with_votes_it_has_judged_and_by_a_new_engine_after_a_kill(
    home: Path, votequeue: Command, start_worker: Start
) -> None:
    loaded = settings.load()
    if model_store.find_weights(loaded.model, loaded.cache) is None:
        pytest.skip("the weights are not in the cache: `votequeue weights` gets them")
    solved, data, answers = home / "solved.jsonl", home / "data.jsonl", home / "answers.jsonl"
    sample.write(sample.generate(24, seed=1, difficulty=1, wrong=True), solved)
    entries = list(sample.generate(QUESTIONS, seed=2, difficulty=1))
    for entry in entries:
        del entry["questions"][1:]
    sample.write(iter(entries), data)

    assert votequeue("enqueue", "train", "scorer", "--data", solved, "--run", "s", "--layers", 0.25).code == 0
    trainer = start_worker("train")
    waiting.until(lambda: is_complete("s"), trainer.log)
    (scorer,) = models.every()
    assert 0 <= scorer.metrics["auc"] <= 1
    # Of puzzles' reasonings alone nobody knows whether it is better than the majority of votes.
    assert models.in_use("scorer") is None
    assert votequeue("models", "use", scorer.name).code == 0

    worker = start_worker("infer", kv_cache_gib=1, max_model_len=4096)
    worker.await_ready()
    shape = ["--votes", 3, "--max-attempts", 2, "--max-tokens", 128, "--examples", solved]
    assert votequeue("enqueue", "infer", data, "--run", "r", *shape).code == 0
    waiting.until(lambda: is_complete("r"), worker.log)

    assert votequeue("collect", "r", "-o", answers).code == 0
    written = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert [entry["id"] for entry in written] == [entry["id"] for entry in entries]
    assert all(entry["questions"][0]["answer"] in "ABCDE" for entry in written)
    with engine.reading() as connection:
        votes = connection.execute(sa.select(schema.votes)).all()
    assert len(votes) >= 3 * QUESTIONS
    assert any(vote.letter for vote in votes), "shown two solved puzzles, the model answers at least once"
    assert {vote.scorer for vote in votes} == {scorer.name}
    assert all(0 <= vote.score <= 1 for vote in votes)

    # `make chaos` kills it while it loads and reads prompts, too, and stops it.
    assert votequeue("enqueue", "infer", data, "--run", "k", *shape).code == 0
    waiting.until(lambda: engine_faults.is_decoding("k"), worker.log)
    processes = worker.engine()
    for process in processes:
        process.send_signal(signal.SIGKILL)
    waiting.until(lambda: is_complete("k"), worker.log)
    assert engine_faults.charged("k") == (0, 0)
    log = worker.log.read_text()
    assert log.count(engine_faults.DIED) == 1
    assert engine_faults.STACK not in log
    assert not any(process.is_running() for process in processes)
