"""What workers say of the votes that they sample, and what those who wait are told of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from producers import run_progress
from shared.ledger import engine, sampling_progress, schema
from shared.ledger.sampling_progress import Sampled
from tests.conftest import Command
from tests.integration import run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")
# 5 votes a question, of 100 tokens at the most.
OPTIONS = SAMPLING.model_copy(update={"votes": 5, "max_tokens": 100})
NONE_YET = Sampled("r", 0, 0, 0, 0, 0, 0, 0.0)


@pytest.fixture
def run(home: Path) -> str:
    """Enqueue four questions, of which a worker has three in play."""
    data = run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C-")
    )
    run_fixtures.infer(data, OPTIONS, "r")
    run_fixtures.claim("r", 0, 1, 2)
    return "r"


def tell(worker: str = "one", **changes: float) -> None:
    sampling_progress.record(worker, [dataclasses.replace(NONE_YET, **changes)])  # type: ignore[arg-type]


def age(seconds: float) -> None:
    """Let all that workers said be so old."""
    columns = schema.worker_progress.c
    with engine.writing() as connection:
        connection.execute(schema.worker_progress.update().values(recorded_at=columns.recorded_at - seconds))


def line(run: str) -> str:
    return run_progress.summary(run_progress.progress_of(run))


@pytest.mark.usefixtures("any_ledger")
def test_a_worker_s_word_replaces_its_last_one_and_workers_add_up(run: str) -> None:
    tell(votes=3, tokens=200, votes_in_play=3)
    tell(votes=6, tokens=500, votes_in_play=4, votes_under_way=11, tokens_per_second=50.0)
    tell("two", votes=1, tokens=90, votes_in_play=1, votes_under_way=4, tokens_per_second=54.0)
    sampling_progress.record("one", [dataclasses.replace(NONE_YET, run="another")])
    with engine.reading() as connection:
        found = sampling_progress.of_run(connection, "r")
        assert found == Sampled("r", 7, 590, 5, 15, 0, 0, 104.0)
        assert sampling_progress.of_run(connection, "nobody's") is None


def test_votes_move_while_no_question_is_settled(run: str) -> None:
    assert line(run) == "0/4 settled, 3 held, 1 waiting"
    tell(votes_under_way=15, votes_not_begun=15)
    assert line(run) == ("0/4 settled, 3 held, 1 waiting; 0 of 20 votes, 15 not begun (prefill)")
    # The first few tokens say nothing of the pace to come.
    tell(tokens=1, votes_under_way=15, votes_not_begun=10, tokens_under_way=1, tokens_per_second=0.3)
    assert line(run).endswith("0 of 20 votes, 10 not begun (prefill), 0 tokens/s")
    tell(tokens=60, votes_under_way=15, votes_not_begun=1, tokens_under_way=60, tokens_per_second=20)
    assert line(run).endswith("0 of 20 votes, 1 not begun (prefill), 20 tokens/s")
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_under_way=60, tokens_per_second=100)
    standing = run_progress.progress_of(run)
    assert run_progress.summary(standing) == (
        "0/4 settled, 3 held, 1 waiting; 4 of 20 votes, 100 tokens/s; "
        "about 12 s left (from the votes finished so far)"
    )
    assert standing.share == 0.2


def test_before_votes_are_finished_the_time_left_is_the_most_it_can_be(run: str) -> None:
    tell(tokens=200, votes_under_way=15, tokens_under_way=200, tokens_per_second=100.0)
    assert line(run).endswith(
        "0 of 20 votes, 100 tokens/s; at most 18 s left (from all 100 tokens for each vote)"
    )


def test_one_short_vote_tells_no_time_left(run: str) -> None:
    tell(votes=1, tokens=12, votes_in_play=1, votes_under_way=14, tokens_per_second=1.0)
    assert line(run).endswith("1 of 20 votes, 1 tokens/s")


def test_recorded_votes_and_those_in_play_are_counted_once(run: str) -> None:
    held = run_fixtures.claim(run, 3)[0]
    run_fixtures.vote(held, [ballot("A")] * 5)
    tell(votes=8, tokens=400, votes_in_play=3, votes_under_way=12, tokens_per_second=10.0)
    assert "1/4 settled, 3 held; 8 of 20 votes" in line(run)


def test_a_question_asked_again_has_more_votes_to_come(run: str) -> None:
    run_fixtures.vote(run_fixtures.claim(run, 3)[0], [ballot(None)] * 5)
    tell(votes=5, tokens=400, votes_under_way=15, tokens_per_second=10.0)
    assert "0/4 settled, 3 held, 1 waiting; 5 of 25 votes" in line(run)


def test_a_dead_worker_s_last_word_is_not_taken_for_work(run: str) -> None:
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_per_second=100.0)
    age(sampling_progress.FRESH + 1)
    standing = run_progress.progress_of(run)
    assert run_progress.summary(standing) == "0/4 settled, 3 held, 1 waiting; 0 of 20 votes"
    assert standing.eta is None


def test_a_long_run_is_judged_by_the_questions_settled(home: Path) -> None:
    data = run_fixtures.write(home / "many.jsonl", *(run_fixtures.entry(f"p{n}") for n in range(50)))
    run_fixtures.infer(data, OPTIONS, "r")
    run_fixtures.answer_all("r", 10)
    run_fixtures.claim("r", 10)
    tell(votes=51, tokens=3000, votes_in_play=1, votes_under_way=4, tokens_per_second=100.0)
    assert "10/50 settled, 1 held, 39 waiting; 51 of 250 votes, 100 tokens/s; " in line("r")
    assert line("r").endswith("(from the 10 questions settled so far)")


def test_a_finished_run_says_nothing_of_engines(run: str) -> None:
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_per_second=100.0)
    with engine.writing() as connection:
        connection.execute(schema.items.update().values(state="pending", holder=None))
    run_fixtures.answer_all(run, 4)
    assert "votes" not in line(run)
    assert run_progress.progress_of(run).share == 1.0


def test_a_ledger_without_the_table_is_read_all_the_same(run: str, votequeue: Command) -> None:
    with engine.writing() as connection:
        schema.worker_progress.drop(connection)
    assert votequeue("status", run).code == 0


def test_judging_votes_again_waits_for_no_engine(run: str, votequeue: Command) -> None:
    with engine.writing() as connection:
        connection.execute(schema.items.update().values(state="pending", holder=None))
    run_fixtures.answer_all(run, 4)
    assert votequeue("enqueue", "infer", run, "--run", "again").code == 0
    sampling_progress.record("one", [dataclasses.replace(NONE_YET, run="again")])
    assert line("again") == "0/4 settled, 4 waiting"


@pytest.mark.usefixtures("any_ledger")
def test_programs_read_the_same_figures(run: str, votequeue: Command) -> None:
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_under_way=60, tokens_per_second=100)
    said = json.loads(votequeue("status", run, "--json").out)
    assert (said["votes"]["done"], said["votes"]["total"]) == (4, 20)
    assert (said["eta"], said["eta_at_most"], said["eta_rests_on"]) == (
        12.0,
        False,
        "the votes finished so far",
    )
