"""Runs with rounds that were stopped early: what is reported of them, and what does not take their votes."""

import json
from pathlib import Path

import pytest

from producers.reports import inference_report, revote
from shared.ledger import claims, votes
from shared.ledger.claims import RoundRecord, Settled, VoteRecord
from shared.voting import Answer, Outcome
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker", "any_ledger")


def settle(run: str, number: int, letters: str, unfinished: int | None, aborted: int | None = 0) -> None:
    """Answer A with some votes; each has 10 tokens."""
    (held,) = run_fixtures.claim(run, number)
    cast = [VoteRecord(f"答案是：{letter}", letter, 0.9, True, 10) for letter in letters]
    record = RoundRecord(
        None, None, "0" * 64, 90, [], 7, 0.0, 1.0, "completion", "reasoning", unfinished, aborted
    )
    answer = Answer("A", Outcome.MAJORITY, letters.count("A"))
    claims.settle([Settled(held, cast, answer, "done", "s1", [record])])


@pytest.fixture
def stopped(home: Path) -> str:
    """Answer three questions A, two of them right: one with a whole round, two that stopped early."""
    model_fixtures.put("s1")
    data = run_fixtures.write(
        home / "data.jsonl", *(run_fixtures.entry(f"p{at}", "AAB"[at]) for at in range(3))
    )
    run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": 5, "stop": "exact"}), "mine")
    settle("mine", 0, "ABABA", 0)
    settle("mine", 1, "AAA", 2, aborted=25)
    settle("mine", 2, "ABAA", 1)
    return "mine"


def test_figures_of_single_votes_and_of_agreement_are_left_out(stopped: str, votequeue: Command) -> None:
    figures = inference_report.figures(stopped)
    assert (figures.stopped, figures.unfinished, figures.aborted_tokens) == (2, 3, 25)
    # What was sampled counts, whether it became a vote or not.
    assert figures.tokens == 12 * 10 + 25
    assert (figures.final.right, figures.final.of) == (2, 3)
    empty = (figures.one_vote, figures.majority, figures.some_vote_right, figures.with_forced)
    assert [share.of for share in empty] == [0] * 4
    assert (figures.agreement, figures.first_rounds, figures.scorer.auc) == (None, {}, None)
    said = votequeue("report", stopped).out
    assert "questions stopped early" in said
    assert "2: 3 votes not needed, of which 25 tokens were sampled" in said
    assert "no fair sample" in said
    assert "accuracy of one vote" not in said
    assert "AUC" not in said


def test_voting_again_leaves_out_one_vote_and_the_oracle_and_says_so(
    stopped: str, votequeue: Command
) -> None:
    comparison = revote.revote(stopped)
    assert (comparison.stopped, comparison.auc) == (2, None)
    assert [row.name for row in comparison.rows] == ["majority", "gate", "weighted", "gate-weighted"]
    assert "2 of them stopped early: exact for the rule of the run only" in votequeue(
        "report", stopped, "--revote"
    ).out.replace("\n", " ")


def test_a_stopped_question_has_no_agreement_and_no_confidence(stopped: str, votequeue: Command) -> None:
    answers = [answer for _, of_entry in votes.answers_of(stopped, confidence=True) for answer in of_entry]
    assert [answer.confidence for answer in answers] == [0.6, None, None]
    assert [result.agreement for result in votes.of_run(stopped)] == [0.6, None, None]


def test_a_comparison_shows_no_agreement_of_a_stopped_run(
    stopped: str, home: Path, votequeue: Command
) -> None:
    run_fixtures.infer(home / "data.jsonl", SAMPLING, "whole")
    for number, letters in enumerate(("ABA", "AAA", "AAB")):
        settle("whole", number, letters, None, None)
    ended = json.loads(votequeue("compare", "whole", stopped, "--json").out)
    assert [run["agreement"] is None for run in ended["runs"]] == [False, True]
    assert ended["runs"][1]["tokens"] == pytest.approx((12 * 10 + 25) / 3)


@pytest.mark.parametrize("option", ["--from", "--test"])
def test_a_scorer_learns_from_whole_rounds_only(
    stopped: str, option: str, home: Path, votequeue: Command
) -> None:
    ended = votequeue("enqueue", "train", "scorer", "--data", home / "data.jsonl", option, stopped)
    assert ended.code == 1
    assert f"{option} mine needs whole rounds, and run 'mine' stopped those of 2 questions early" in ended.err
    assert "--stop never" in ended.err


def test_right_texts_of_stopped_rounds_still_train_an_adapter(stopped: str, votequeue: Command) -> None:
    assert votequeue("enqueue", "train", "lora", "--from", stopped).code == 0


def test_a_combination_and_a_selection_by_agreement_want_whole_rounds(
    stopped: str, home: Path, votequeue: Command
) -> None:
    run_fixtures.infer(home / "data.jsonl", SAMPLING, "whole")
    for number in range(3):
        settle("whole", number, "AAB", None, None)
    ended = votequeue("enqueue", "infer", stopped, "whole", "--combine", "plain")
    assert (ended.code, "--combine needs whole rounds" in ended.err) == (1, True)
    ended = votequeue("enqueue", "infer", stopped, "--only", "below-agreement=0.7")
    assert (ended.code, "--only below-agreement needs whole rounds" in ended.err) == (1, True)


def test_scoring_stopped_rounds_again_says_that_they_are_not_whole(stopped: str, votequeue: Command) -> None:
    ended = votequeue("enqueue", "infer", stopped, "--scorer", "none", "--run", "again")
    assert ended.code == 0
    assert "2 questions of mine stopped early" in ended.out + ended.err


def test_a_trace_tells_what_was_not_needed(stopped: str, votequeue: Command) -> None:
    said = votequeue("trace", stopped, "p1#1").out
    assert "stopped early: 2 votes not needed, 25 tokens of them sampled" in said
    assert "stopped early" not in votequeue("trace", stopped, "p0#1").out


def test_votes_first_asked_for_need_a_stop(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A"))
    ended = votequeue("enqueue", "infer", data, "--first-wave", "5")
    assert (ended.code, "it needs --stop exact" in ended.err) == (2, True)
