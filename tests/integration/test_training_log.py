"""What a training tells on its way: written under its claim, taken back where it goes on from before."""

import pytest

from producers import run_progress, watch
from shared.jobs import Train
from shared.ledger import claims, runs, training_log
from shared.ledger.claims import Claim
from shared.ledger.runs import Run

pytestmark = pytest.mark.usefixtures("any_ledger")


@pytest.fixture(autouse=True)
def _run(any_ledger: str) -> None:
    """Have a training to claim."""
    runs.open_single(Run("t", "train", "x", "d", None, {}), "scorer")


def claim(worker: str = "one", lease: float = 60) -> Claim:
    (held,) = claims.claim([Train(run="t", item=0)], worker, lease)
    return held


def told() -> list[tuple[int, dict[str, float]]]:
    return [(one.step, one.metrics) for one in training_log.curve("t")]


def test_the_figures_of_one_step_come_together() -> None:
    held = claim()
    assert training_log.record(held, 5, 20, {"loss": 0.7})
    assert training_log.record(held, 5, 20, {"eval_auc": 0.6})
    assert training_log.record(held, 10, 20, {"loss": 0.6}, saved=True)
    assert told() == [(5, {"loss": 0.7, "eval_auc": 0.6}), (10, {"loss": 0.6, "saved": 1.0})]
    assert [one.total_steps for one in training_log.curve("t")] == [20, 20]


def test_a_training_that_goes_on_from_before_takes_back_what_came_after() -> None:
    held = claim()
    for step in (5, 10, 15):
        training_log.record(held, step, 20, {"loss": 1 / step})
    training_log.record(held, 10, 20, {"loss": 0.5})
    assert told() == [(5, {"loss": 0.2}), (10, {"loss": 0.5})]


def test_who_lost_the_claim_tells_nothing_any_more() -> None:
    late = claim(lease=0.0)
    claims.expire(5)
    held = claim("two")
    assert not claims.holds(late)
    assert claims.holds(held)
    assert not training_log.record(late, 5, 20, {"loss": 0.7})
    assert not training_log.record(late, 5, 20, {}, saved=True)
    assert told() == []
    assert training_log.record(held, 5, 20, {"loss": 0.8})


def test_a_checkpoint_forgives_what_was_lost_before_it() -> None:
    for _ in range(3):
        claims.lose([claim()], "it was killed", 5, alone=True)
    held = claim()
    assert held.losses == 3
    training_log.record(held, 5, 20, {"loss": 0.7})
    claims.lose([held], "it was killed", 5, alone=True)
    held = claim()
    assert held.losses == 4
    training_log.record(held, 10, 20, {}, saved=True)
    claims.lose([held], "it was killed", 5, alone=True)
    # The loss is counted from what the claim knew: the next one begins at the checkpoint.
    assert claim().losses == 1


def test_whoever_watches_a_training_sees_its_steps() -> None:
    held = claim()
    assert watch.progress_line(run_progress.progress_of("t")) == (0.0, "0/1 settled, 1 held")
    training_log.record(held, 5, 20, {"loss": 0.7})
    line = "step 5 of 20, loss 0.7; no checkpoint yet"
    assert watch.progress_line(run_progress.progress_of("t")) == (0.25, line)
