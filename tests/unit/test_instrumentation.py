"""What a worker counts, without a worker."""

import subprocess
import sys
from dataclasses import replace

import pytest

from shared.jobs import Infer
from shared.ledger.claims import FORCED, Claim, RoundRecord, Settled, VoteRecord
from shared.providers import Usage
from shared.voting import Answer, Outcome
from tests.conftest import Value
from workers import instrumentation

pytestmark = pytest.mark.usefixtures("home")  # without a ledger, a run's queue is that of its kind
CLAIM = Claim(Infer(run="r", item=0), "p#1", 0, 0, attempt=1, fence=1, losses=0)
RECORD = RoundRecord("g", None, "digest", 100, [], None, 0.0, 1.0)
ACCEPTED = VoteRecord("答案是：A", "A", None, True, 30)
REJECTED = VoteRecord("答案是：B", "B", 0.1, False, 50, letter_source=FORCED)
UNREADABLE = VoteRecord("我不知道", None, None, False, 10)
ANSWERED = Settled(CLAIM, [ACCEPTED, ACCEPTED, REJECTED, UNREADABLE], Answer("A", Outcome.MAJORITY, 2), "A")


def test_an_answered_round_counts_its_votes_by_outcome(more: Value) -> None:
    instrumentation.rounds_settled([replace(ANSWERED, sampled=[RECORD])], sampled=True)
    votes = {
        outcome: more("votes_total", voice="reasoning", outcome=outcome)
        for outcome in ("accepted", "rejected", "unreadable")
    }
    assert votes == {"accepted": 2, "rejected": 1, "unreadable": 1}
    assert more("votes_forced_total") == 1
    assert (more("prompt_tokens_total"), more("generated_tokens_total")) == (100, 120)
    assert more("rounds_total", outcome="answered") == 1
    assert more("answers_total", how="majority") == 1
    assert more("items_done_total", queue="infer") == 1
    assert more("votes_spared_total") == more("saved_tokens_total") == 0


def test_a_worker_that_samples_no_votes_describes_no_generator() -> None:
    code = "import prometheus_client as p, workers.instrumentation; print(p.generate_latest().decode())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "votequeue_worker_ready 0.0" in shown
    assert "votequeue_generator" not in shown


def test_a_round_without_an_answer_is_a_repeated_one(more: Value) -> None:
    instrumentation.rounds_settled([Settled(CLAIM, [UNREADABLE], None, "again", sampled=[RECORD])], True)
    assert (more("rounds_total", outcome="repeated"), more("rounds_total", outcome="answered")) == (1, 0)
    assert more("items_done_total", queue="infer") == 0


def test_a_round_that_was_stopped_early_saves_the_mean_length_of_its_votes(more: Value) -> None:
    stopped = replace(RECORD, unfinished=2, aborted_tokens=7)
    instrumentation.rounds_settled([replace(ANSWERED, sampled=[stopped])], sampled=True)
    assert more("votes_spared_total") == 2
    assert more("generated_tokens_total") == 127
    # Two votes of the mean of 30 tokens, of which 7 were sampled.
    assert more("saved_tokens_total") == 53


def test_recorded_votes_that_are_scored_again_are_not_sampled_again(more: Value) -> None:
    instrumentation.rounds_settled([replace(ANSWERED, sampled=[RECORD])], sampled=False)
    assert more("answers_total", how="majority") == 1
    assert more("votes_total", voice="reasoning", outcome="accepted") == 0
    assert more("generated_tokens_total") == more("prompt_tokens_total") == 0


def test_a_call_counts_with_its_outcome_and_tokens(more: Value) -> None:
    instrumentation.called("chat", "m", "ok", Usage(640, 310))
    instrumentation.called("chat", "m", "throttled", Usage())
    service = {"provider": "chat", "model": "m"}
    assert more("api_calls_total", **service, outcome="ok") == 1
    assert more("api_calls_total", **service, outcome="throttled") == 1
    assert more("api_tokens_total", **service, part="prompt") == 640
    assert more("api_tokens_total", **service, part="reply") == 310
