"""Progress that moves: what a worker with a real engine says of votes under way, and that it adds up."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from producers import run_progress, sample
from shared.ledger import engine, sampling_progress, schema
from shared.ledger.sampling_progress import Sampled
from tests import waiting
from tests.conftest import Command
from tests.e2e.conftest import Start, is_complete

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_broker")]
ENGINE = {"kv_cache_gib": 1, "max_model_len": 4096, "heartbeat": 0.2}
LONG = ("--votes", 3, "--max-tokens", 900, "--max-attempts", 1)


def sampled() -> Sampled | None:
    with engine.reading() as connection:
        return sampling_progress.of_run(connection, "r")


def test_votes_and_tokens_are_told_before_any_question_is_settled_and_add_up(
    home: Path, weights: Path, votequeue: Command, start_worker: Start
) -> None:
    sample.write(sample.generate(6, seed=5), home / "data.jsonl")
    worker = start_worker("infer", model=weights, **ENGINE)
    worker.await_ready()
    assert votequeue("enqueue", "infer", home / "data.jsonl", *LONG, "--run", "r").code == 0
    seen: list[tuple[int, Sampled]] = []

    def watched() -> bool:
        if (now := sampled()) is not None:
            seen.append((run_progress.progress_of("r").settled, now))
        return is_complete("r")

    waiting.until(watched, worker.log)
    early = [now for settled, now in seen if not settled]
    assert any(now.tokens_per_second > 0 and now.tokens_under_way for now in early)
    assert [now.tokens for _, now in seen] == sorted(now.tokens for _, now in seen)

    with engine.reading() as connection:
        votes = schema.votes.c
        query = sa.select(sa.func.count(), sa.func.sum(votes.tokens)).where(votes.run == "r")
        recorded = tuple(connection.execute(query).one())
    waiting.until(lambda: (now := sampled()) is not None and not now.votes_in_play, worker.log)
    now = sampled()
    assert now is not None
    assert (now.votes, now.tokens) == recorded
