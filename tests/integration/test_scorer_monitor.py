"""The scorer in use is tested on labelled runs, and switched off on cumulative evidence only."""

from pathlib import Path
from typing import Any

import pytest

from shared import dataset, settings, voting
from shared.ledger import claims, engine, locks, models, runs, scorer_tests
from shared.ledger.claims import RoundRecord, Settled
from shared.voting import Rule, Vote, VotingMode
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING
from workers import scorer_monitor

pytestmark = pytest.mark.usefixtures("any_ledger", "on_broker")
WEIGHTED = Rule(VotingMode.WEIGHTED, 0.0)
# Votes for the right A and the wrong B, with scores: the scorer alone is right, the majority alone, or both.
WON = [("B", 0.1), ("B", 0.1), ("A", 0.9)]
LOST = [("A", 0.1), ("A", 0.1), ("B", 0.9)]
SAME = [("A", 0.9), ("A", 0.9), ("B", 0.1)]


@pytest.fixture(autouse=True)
def scorer(any_ledger: str, on_broker: str) -> str:
    return model_fixtures.put("s1", rule=WEIGHTED)


def answer(run: str, *rounds: list[tuple[str, float]], first: int = 0, **more: Any) -> str:
    """Enqueue a run over entries p0, p1, ..., and settle each with one of the rounds."""
    labels = more.pop("labels", ["A"] * len(rounds))
    entries = [run_fixtures.entry(f"p{first + at}", label) for at, label in enumerate(labels)]
    data = run_fixtures.write(Path(f"{run}.jsonl"), *entries)
    run_fixtures.infer(data, SAMPLING.model_copy(update=more), run)
    settle(run, *rounds, scorer={"none": None}.get(more.get("scorer", ""), "s1"))
    return run


def settle(
    run: str, *rounds: list[tuple[str, float]], scorer: str | None = "s1", unfinished: int | None = None
) -> None:
    held = run_fixtures.claim(run, *range(len(rounds)))
    record = RoundRecord(None, None, "p", None, [], None, 0.0, None, unfinished=unfinished)
    for claim, votes in zip(held, rounds, strict=True):
        ballots = [run_fixtures.ballot(letter, score) for letter, score in votes]
        answer = voting.decide([Vote(letter, score) for letter, score in votes], WEIGHTED)
        claims.settle([Settled(claim, ballots, answer, "done", scorer, [record])])


def look() -> str | None:
    """Let a worker look; name the scorer in use after that."""
    scorer_monitor.look("one", settings.load())
    used = models.in_use("scorer")
    return used.name if used else None


def tally() -> tuple[int, int, int]:
    """Give how many entries were won and lost since the promotion, and how many were ever tested."""
    with engine.reading() as connection:
        test = scorer_tests._load(connection, "s1", models.last_promotion(connection, "scorer"))
    return test.won, test.lost, len(test.entries)


def test_a_scorer_is_switched_off_on_evidence_and_status_says_so(votequeue: Command) -> None:
    answer("bad", *[LOST] * 8)
    assert "switched off" not in votequeue("status").out
    assert look() is None
    reason = (
        "switched off: s1: on labelled runs, it was better than the plain majority on 0 entries, and worse "
        "on 8 (evidence 49.7, limit 20)"
    )
    assert model_fixtures.history("scorer")[-1] == (None, reason)
    for arguments in (["status"], ["status", "bad"]):
        said = " ".join(votequeue(*arguments).out.split())
        assert (
            f"{reason}; new runs use no scorer: train another one, or run `votequeue models use NAME`" in said
        )
    assert runs.get_run(answer("next", SAME)).options["scorer"] == "none"
    # What a person decides ends the notice.
    assert votequeue("models", "use", "no-scorer").code == 0
    assert "switched off" not in votequeue("status").out


def test_no_single_bad_run_but_cumulative_evidence_switches_it_off() -> None:
    answer("bad", *[LOST] * 4, WON)
    assert look() == "s1"
    assert tally() == (1, 4, 5)
    answer("worse", *[LOST] * 4, first=5)
    assert look() == "s1"
    answer("still", *[LOST] * 4, first=10)
    assert look() is None


def test_a_good_scorer_stays() -> None:
    answer("good", *[WON] * 8, *[LOST] * 2, SAME)
    assert look() == "s1"
    assert tally() == (8, 2, 11)


def test_each_question_counts_once() -> None:
    for run in ("r1", "r2", "r3"):
        answer(run, *[LOST] * 4)
        assert look() == "s1"
        assert look() == "s1"
    assert tally() == (0, 4, 4)


def test_the_questions_of_an_entry_count_together() -> None:
    answer("pairs", LOST, WON, LOST, LOST, LOST, SAME, labels=["AA", "AA", "AA"])
    assert look() == "s1"
    assert tally() == (0, 2, 3)


def test_problems_that_the_scorer_was_trained_on_are_left_out() -> None:
    problems = [dataset.identity(run_fixtures.entry(f"p{at}")["problem"]) for at in range(7)]
    model_fixtures.put("s2", rule=WEIGHTED, problems=problems)
    data = run_fixtures.write(Path("known.jsonl"), *(run_fixtures.entry(f"p{at}") for at in range(8)))
    run_fixtures.infer(data, SAMPLING, "known")
    settle("known", *[LOST] * 8, scorer="s2")
    assert look() == "s2"
    assert len(scorer_monitor.outcomes(models.get("s2"), runs.get_run("known"))) == 1


def test_what_is_unlabelled_or_otherwise_scored_or_stopped_early_is_not_counted() -> None:
    answer("unlabelled", *[LOST] * 8, labels=["-"] * 8)
    answer("plain", *[LOST] * 8, scorer="none")
    data = run_fixtures.write(Path("more.jsonl"), *(run_fixtures.entry(f"p{at}") for at in range(8)))
    run_fixtures.infer(data, SAMPLING, "stopped")
    settle("stopped", *[LOST] * 8, unfinished=2)
    assert look() == "s1"
    assert tally() == (0, 0, 0)


def test_an_unfinished_run_is_tested_when_it_ends() -> None:
    data = run_fixtures.write(Path("open.jsonl"), *(run_fixtures.entry(f"p{at}") for at in range(9)))
    run_fixtures.infer(data, SAMPLING, "open")
    settle("open", *[LOST] * 8)
    assert look() == "s1"
    (last,) = run_fixtures.claim("open", 8)
    run_fixtures.vote(last, [run_fixtures.ballot("A", 0.9)])
    assert look() is None


def test_the_level_is_that_of_the_training() -> None:
    model_fixtures.put("s2", rule=WEIGHTED, level=0.2)
    data = run_fixtures.write(Path("few.jsonl"), *(run_fixtures.entry(f"p{at}") for at in range(4)))
    run_fixtures.infer(data, SAMPLING, "few")
    settle("few", *[LOST] * 4, scorer="s2")
    assert look() is None
    assert "worse on 4 (evidence 5.97, limit 5)" in model_fixtures.history("scorer")[-1][1]


def test_a_scorer_that_is_put_to_use_again_is_tested_anew_on_other_questions(votequeue: Command) -> None:
    answer("bad", *[LOST] * 8)
    assert look() is None
    with engine.writing() as connection:
        models.promote(connection, "scorer", "s1", "a person said so")
    assert tally() == (0, 0, 8)
    # The same questions count no more, others do.
    answer("same", *[LOST] * 8)
    assert look() == "s1"
    answer("others", *[LOST] * 3, first=8)
    assert look() == "s1"
    assert tally() == (0, 3, 11)


def test_runs_before_its_promotion_are_not_tested() -> None:
    answer("before", *[LOST] * 8)
    with engine.writing() as connection:
        models.promote(connection, "scorer", "s1", "a person said so")
    assert look() == "s1"
    assert tally() == (0, 0, 0)


def test_one_worker_tests_at_a_time() -> None:
    answer("bad", *[LOST] * 8)
    assert locks.hold("scorer test", "other", 60)
    assert look() == "s1"
