"""Conformance of the ledger's claims, the same on every database it can live in."""

import json
import threading
import time
from pathlib import Path

import pytest

from shared import claims, ledger, outbox
from shared.claims import Ballot, Settled
from shared.dataset import Line, scan
from shared.jobs import Infer, Job
from shared.ledger import Run
from shared.schema import State
from shared.voting import Answer, Outcome, Vote

pytestmark = pytest.mark.usefixtures("any_ledger")


def lines(folder: Path, entries: int = 3) -> list[Line]:
    path = folder / "data.jsonl"
    question = {"question": "谁高？", "options": ["甲", "乙"], "answer": "A"}
    rows = [{"id": f"p{at}", "problem": "甲比乙高。", "questions": [question] * 2} for at in range(entries)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return [line for line in scan(path) if isinstance(line, Line)]


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    ledger.open_run(Run("r", "infer", "data.jsonl", "digest", None, {}), lines(tmp_path))
    return outbox.unsent(100)


def answered(claim: claims.Claim, letter: str = "A") -> Settled:
    ballot = Ballot("答案是：" + letter, letter, 0.9, True, 5)
    return Settled(claim, [ballot], Answer(letter, Outcome.MAJORITY, 1), f"{letter}: majority")


def test_a_run_has_one_pending_item_a_question(jobs: list[Job]) -> None:
    assert jobs == [Infer(run="r", item=number) for number in range(6)]
    assert ledger.count_states("r")[State.PENDING] == 6


def test_a_claim_raises_attempt_and_fence_and_is_exclusive(jobs: list[Job]) -> None:
    held = claims.claim(jobs, "one", lease=10)
    assert [(c.attempt, c.fence, c.losses) for c in held] == [(1, 1, 0)] * 6
    assert held[3].key == "p1#2"
    assert claims.claim(jobs, "two", lease=10) == []


def test_of_two_workers_that_claim_at_once_each_item_goes_to_one(jobs: list[Job]) -> None:
    got: list[claims.Claim] = []
    threads = [
        threading.Thread(target=lambda name=name: got.extend(claims.claim(jobs, name, lease=10)))
        for name in ("one", "two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(c.job.item for c in got) == list(range(6))


def test_an_answer_is_written_once_and_a_late_worker_writes_nothing(jobs: list[Job]) -> None:
    (late,) = claims.claim(jobs[:1], "late", lease=0.01)
    time.sleep(0.05)
    assert claims.expire(max_losses=5) == 1
    (quick,) = claims.claim(jobs[:1], "quick", lease=10)
    assert claims.settle([answered(quick, "B")]) == [answered(quick, "B")]
    assert claims.settle([answered(late, "A")]) == []
    assert ledger.count_states("r")[State.DONE] == 1
    assert claims.earlier_ballots(jobs[0]) == [Vote("B", 0.9)]
    assert claims.claim(jobs[:1], "third", lease=10) == []


def test_a_heartbeat_keeps_a_lease_alive(jobs: list[Job]) -> None:
    claims.claim(jobs[:2], "one", lease=0.3)
    for _ in range(4):
        time.sleep(0.1)
        assert claims.heartbeat("one", lease=0.3) == 2
    assert claims.expire(max_losses=5) == 0
    time.sleep(0.4)
    assert claims.expire(max_losses=5) == 2


def test_an_expired_lease_costs_no_attempt_but_is_counted_as_a_loss(jobs: list[Job]) -> None:
    claims.claim(jobs[:1], "one", lease=0.001)
    time.sleep(0.02)
    claims.expire(max_losses=5)
    (again,) = claims.claim(jobs[:1], "two", lease=10)
    assert (again.attempt, again.fence, again.losses) == (1, 2, 1)


def test_a_round_with_no_accepted_vote_charges_its_attempt_and_forgives_losses(jobs: list[Job]) -> None:
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    claims.lose([held], "the engine died", max_losses=5)
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    void = Settled(held, [Ballot("……", None, 0.1, False, 7)], None, "again")
    assert claims.settle([void]) == [void]
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    assert (held.attempt, held.losses) == (2, 0)


def test_what_is_lost_too_often_in_a_row_is_dead_with_its_reason_until_revived(jobs: list[Job]) -> None:
    for losses in range(3):
        (held,) = claims.claim(jobs[:1], "one", lease=10)
        assert held.losses == losses
        again = claims.lose([held], "the engine died", max_losses=3)
    assert again == []
    assert ledger.count_states("r")[State.DEAD] == 1
    assert claims.revive("r") == 1
    assert claims.claim(jobs[:1], "one", lease=10)[0].losses == 0


def test_released_items_are_as_if_never_claimed_and_may_wait(jobs: list[Job]) -> None:
    held = claims.claim(jobs[:2], "one", lease=10)
    assert claims.release(held[:1], "stopped") == jobs[:1]
    assert claims.release(held[1:], "no index", delay=60) == jobs[1:2]
    (again,) = claims.claim(jobs[:2], "two", lease=10)
    assert (again.job, again.attempt, again.losses) == (jobs[0], 1, 0)
    assert jobs[1] not in outbox.unsent(100)


def test_release_all_gives_back_what_one_worker_holds_and_nothing_else(jobs: list[Job]) -> None:
    claims.claim(jobs[:2], "one", lease=10)
    claims.claim(jobs[2:4], "two", lease=10)
    assert claims.release_all("one", "stopped") == jobs[:2]
    assert ledger.count_states("r")[State.LEASED] == 2


def test_sent_items_are_unsent_again_once_forgotten(jobs: list[Job]) -> None:
    outbox.mark_sent(jobs)
    assert outbox.unsent(100) == []
    assert outbox.forget_sent(older_than=60) == 0
    assert outbox.forget_sent(kind="train") == 0
    assert outbox.forget_sent(kind="infer") == 6
    assert outbox.unsent(4) == jobs[:4]


def test_a_buried_item_names_its_reason_and_is_not_claimed(jobs: list[Job]) -> None:
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    assert claims.bury(held, "the prompt does not fit")
    assert not claims.bury(held, "again")
    assert claims.claim(jobs[:1], "one", lease=10) == []


def test_a_named_lock_has_one_holder_until_it_runs_out() -> None:
    assert claims.hold("reconcile", "one", lease=0.2)
    assert claims.hold("reconcile", "one", lease=0.2)
    assert not claims.hold("reconcile", "two", lease=10)
    time.sleep(0.25)
    assert claims.hold("reconcile", "two", lease=10)


def test_a_fact_is_swapped_only_when_another_was_known() -> None:
    assert not claims.swap_fact("broker memory", "a")
    assert not claims.swap_fact("broker memory", "a")
    assert claims.swap_fact("broker memory", "b")


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path) -> None:
    good = lines(tmp_path)

    def breaks() -> object:
        yield good[0]
        raise RuntimeError("the file changed while it was read")

    with pytest.raises(RuntimeError):
        ledger.open_run(Run("half", "infer", "x", "d", None, {}), breaks())  # type: ignore[arg-type]
    assert ledger.find_run("half") is None
    assert outbox.unsent(10) == []


def test_a_run_whose_producer_is_sending_is_left_to_it(jobs: list[Job]) -> None:
    claims.hold(outbox.sending("r"), "producer", lease=0.2)
    assert outbox.unsent(100) == []
    assert outbox.unsent(100, "r") == jobs
    time.sleep(0.25)
    assert outbox.unsent(100) == jobs


def test_lost_work_whose_message_nobody_takes_is_left_over_and_nothing_else_is(jobs: list[Job]) -> None:
    held = claims.claim(jobs[:2], "one", lease=10)
    claims.lose(held, "the engine died", max_losses=5)
    assert outbox.left_over("infer", 10, sent_before=0) == []
    outbox.mark_sent(jobs)
    assert outbox.left_over("infer", 10, sent_before=60) == []
    assert outbox.left_over("infer", 10, sent_before=0) == jobs[:2]
    assert outbox.left_over("infer", 1, sent_before=0) == jobs[:1]
    assert outbox.left_over("train", 10, sent_before=0) == []
    claims.claim(jobs[:1], "two", lease=10)
    assert outbox.left_over("infer", 10, sent_before=0) == jobs[1:2]
