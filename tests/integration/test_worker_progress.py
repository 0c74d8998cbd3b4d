"""What workers say of the votes that they sample, and what those who wait are told of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from producers import enqueue, runs, watch
from shared import ledger, schema, worker_progress
from shared.worker_progress import Sampled
from tests.conftest import Command
from tests.integration import played
from tests.integration.played import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")
# 5 votes a question, of 100 tokens at the most.
OPTIONS = SAMPLING.model_copy(update={"votes": 5, "max_tokens": 100})
NONE_YET = Sampled("r", 0, 0, 0, 0, 0, 0, 0.0)


@pytest.fixture
def run(home: Path) -> str:
    """Enqueue four questions, of which a worker has three in play."""
    data = played.write(home / "data.jsonl", played.entry("p1", "AB"), played.entry("p2", "C-"))
    enqueue.infer(data, OPTIONS, "r")
    played.claim("r", 0, 1, 2)
    return "r"


def tell(worker: str = "one", **changes: float) -> None:
    worker_progress.tell(worker, [dataclasses.replace(NONE_YET, **changes)])  # type: ignore[arg-type]


def age(seconds: float) -> None:
    """Let all that workers said be so old."""
    columns = schema.worker_progress.c
    with ledger.writing() as connection:
        connection.execute(schema.worker_progress.update().values(told_at=columns.told_at - seconds))


def line(run: str) -> str:
    return watch.line(runs.standing(run))


@pytest.mark.usefixtures("any_ledger")
def test_a_worker_s_word_replaces_its_last_one_and_workers_add_up(run: str) -> None:
    tell(votes=3, tokens=200, votes_in_play=3)
    tell(votes=6, tokens=500, votes_in_play=4, votes_under_way=11, tokens_per_second=50.0)
    tell("two", votes=1, tokens=90, votes_in_play=1, votes_under_way=4, tokens_per_second=54.0)
    worker_progress.tell("one", [dataclasses.replace(NONE_YET, run="another")])
    with ledger.reading() as connection:
        found = worker_progress.of_run(connection, "r")
        assert found == Sampled("r", 7, 590, 5, 15, 0, 0, 104.0)
        assert worker_progress.of_run(connection, "nobody's") is None


def test_votes_move_while_no_question_is_settled(run: str) -> None:
    assert line(run) == "0/4 settled, 3 held, 1 waiting"
    tell(votes_under_way=15, votes_not_begun=15)
    assert line(run) == (
        "0/4 settled, 3 held, 1 waiting; 0 of 20 votes, 15 not begun (prompts are being read)"
    )
    # The first few tokens say nothing of the pace to come.
    tell(tokens=1, votes_under_way=15, votes_not_begun=10, tokens_under_way=1, tokens_per_second=0.3)
    assert line(run).endswith("0 of 20 votes, 10 not begun (prompts are being read), 0 tokens/s")
    tell(tokens=60, votes_under_way=15, votes_not_begun=1, tokens_under_way=60, tokens_per_second=20)
    assert line(run).endswith("0 of 20 votes, 1 not begun (prompts are being read), 20 tokens/s")
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_under_way=60, tokens_per_second=100)
    standing = runs.standing(run)
    assert watch.line(standing) == (
        "0/4 settled, 3 held, 1 waiting; 4 of 20 votes, 100 tokens/s; "
        "about 12 s left (from the votes finished so far)"
    )
    assert standing.share == 0.2


def test_before_votes_are_finished_the_time_left_is_the_most_it_can_be(run: str) -> None:
    tell(tokens=200, votes_under_way=15, tokens_under_way=200, tokens_per_second=100.0)
    assert line(run).endswith(
        "0 of 20 votes, 100 tokens/s; at most 18 s left (from all 100 tokens for each vote)"
    )


def test_recorded_votes_and_those_in_play_are_counted_once(run: str) -> None:
    held = played.claim(run, 3)[0]
    played.vote(held, [ballot("A")] * 5)
    tell(votes=8, tokens=400, votes_in_play=3, votes_under_way=12, tokens_per_second=10.0)
    assert "1/4 settled, 3 held; 8 of 20 votes" in line(run)


def test_a_question_asked_again_has_more_votes_to_come(run: str) -> None:
    played.vote(played.claim(run, 3)[0], [ballot(None)] * 5)
    tell(votes=5, tokens=400, votes_under_way=15, tokens_per_second=10.0)
    assert "0/4 settled, 3 held, 1 waiting; 5 of 25 votes" in line(run)


def test_a_dead_worker_s_last_word_is_not_taken_for_work(run: str) -> None:
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_per_second=100.0)
    age(worker_progress.FRESH + 1)
    standing = runs.standing(run)
    assert watch.line(standing) == "0/4 settled, 3 held, 1 waiting; 0 of 20 votes"
    assert standing.eta is None


def test_a_long_run_is_judged_by_the_questions_settled(home: Path) -> None:
    data = played.write(home / "many.jsonl", *(played.entry(f"p{n}") for n in range(50)))
    enqueue.infer(data, OPTIONS, "r")
    played.answer_all("r", 10)
    played.claim("r", 10)
    tell(votes=51, tokens=3000, votes_in_play=1, votes_under_way=4, tokens_per_second=100.0)
    assert "10/50 settled, 1 held, 39 waiting; 51 of 250 votes, 100 tokens/s; " in line("r")
    assert line("r").endswith("(from the 10 questions settled so far)")


def test_a_finished_run_says_nothing_of_engines(run: str) -> None:
    tell(votes=4, tokens=300, votes_in_play=4, votes_under_way=11, tokens_per_second=100.0)
    with ledger.writing() as connection:
        connection.execute(schema.items.update().values(state="pending", holder=None))
    played.answer_all(run, 4)
    assert "votes" not in line(run)
    assert runs.standing(run).share == 1.0


def test_a_ledger_without_the_table_is_read_all_the_same(run: str, votequeue: Command) -> None:
    with ledger.writing() as connection:
        schema.worker_progress.drop(connection)
    assert votequeue("status", run).code == 0


def test_judging_votes_again_waits_for_no_engine(run: str, votequeue: Command) -> None:
    with ledger.writing() as connection:
        connection.execute(schema.items.update().values(state="pending", holder=None))
    played.answer_all(run, 4)
    assert votequeue("enqueue", "infer", run, "--run", "again").code == 0
    worker_progress.tell("one", [dataclasses.replace(NONE_YET, run="again")])
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
