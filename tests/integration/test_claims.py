"""Conformance of the ledger's claims, the same on every database it can live in."""

import json
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.dataset import Line, scan
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, leases, locks, outbox, progress, runs, schema, votes
from shared.ledger.claims import Settled, VoteRecord
from shared.ledger.runs import Run
from shared.ledger.schema import State
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
    runs.open_run(Run("r", "infer", "data.jsonl", "digest", None, {}), lines(tmp_path))
    return outbox.unsent(100)


def answered(claim: claims.Claim, letter: str = "A") -> Settled:
    ballot = VoteRecord("答案是：" + letter, letter, 0.9, True, 5)
    return Settled(claim, [ballot], Answer(letter, Outcome.MAJORITY, 1), f"{letter}: majority")


def test_a_run_has_one_pending_item_a_question(jobs: list[Job]) -> None:
    assert jobs == [Infer(run="r", item=number) for number in range(6)]
    assert runs.count_states("r")[State.PENDING] == 6


def test_results_are_stored_whatever_their_texts_and_numbers_are(jobs: list[Job]) -> None:
    held = claims.claim(jobs[:2], "one", lease=10)
    text = 'a "quoted" \\ text:\n答案是：A 🙂'
    ends = [
        Settled(claim, [VoteRecord(text, None, 0.1, True, 5, mean_logprob=lowest)], None, "again")
        for claim, lowest in zip(held, (-0.1 - 1e-16, -math.inf), strict=True)
    ]
    assert claims.settle(ends) == ends
    with engine.reading() as connection:
        stored = connection.execute(
            sa.select(schema.votes.c.text, schema.votes.c.mean_logprob).order_by(schema.votes.c.number)
        ).all()
    assert [tuple(row) for row in stored] == [(text, -0.1 - 1e-16), (text, -math.inf)]


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
    assert claims.expire(max_losses=5) == jobs[:1]
    (quick,) = claims.claim(jobs[:1], "quick", lease=10)
    assert claims.settle([answered(quick, "B")]) == [answered(quick, "B")]
    assert claims.settle([answered(late, "A")]) == []
    assert runs.count_states("r")[State.DONE] == 1
    assert votes.earlier_votes(jobs[0]) == [Vote("B", 0.9)]
    assert claims.claim(jobs[:1], "third", lease=10) == []


def test_a_heartbeat_keeps_a_lease_alive(jobs: list[Job]) -> None:
    claims.claim(jobs[:2], "one", lease=0.3)
    for _ in range(4):
        time.sleep(0.1)
        leases.heartbeat("one", lease=0.3)
    assert claims.expire(max_losses=5) == []
    time.sleep(0.4)
    assert claims.expire(max_losses=5) == jobs[:2]


def fall_silent(*silent: Job, in_play: Sequence[Job]) -> None:
    """Let a worker claim some items, begin with some of them, and never be heard of again."""
    held = claims.claim(silent, "silent", lease=0.001)
    claims.begin([claim for claim in held if claim.job in in_play])
    time.sleep(0.02)
    claims.expire(max_losses=2)


def test_an_expired_lease_costs_no_attempt_and_only_what_was_in_play_is_a_suspect(jobs: list[Job]) -> None:
    fall_silent(*jobs[:3], in_play=jobs[1:3])
    again = claims.claim(jobs[:3], "two", lease=10)
    assert [(held.attempt, held.fence, held.losses) for held in again] == [(1, 2, 0), (1, 2, 1), (1, 2, 1)]


def test_what_only_waits_in_dying_workers_is_never_set_aside(jobs: list[Job]) -> None:
    for _ in range(10):
        fall_silent(*jobs[:2], in_play=jobs[1:2])
    assert runs.count_states("r")[State.DEAD] == 1
    assert claims.claim(jobs[:1], "two", lease=10)[0].losses == 0


def test_an_item_that_never_dies_alone_is_never_set_aside(jobs: list[Job]) -> None:
    for _ in range(10):
        fall_silent(*jobs[:2], in_play=jobs[:2])
    assert [held.losses for held in claims.claim(jobs[:2], "two", lease=10)] == [10, 10]


def test_an_item_whose_workers_die_with_it_alone_in_play_is_set_aside_with_the_evidence(
    jobs: list[Job],
) -> None:
    fall_silent(*jobs[:2], in_play=jobs[:2])
    fall_silent(jobs[0], in_play=jobs[:1])
    assert runs.count_states("r")[State.DEAD] == 0
    fall_silent(jobs[0], in_play=jobs[:1])
    (dead,) = progress.dead("r")
    assert dead.reason == (
        "the work on it died 3 times in a row, 2 of them with nothing else in play; "
        "last: its worker silent went silent"
    )


def test_a_worker_that_is_known_to_be_dead_is_not_waited_for_and_its_locks_are_free(jobs: list[Job]) -> None:
    held = claims.claim(jobs[:2], "killed", lease=60)
    claims.begin(held[:1])
    locks.hold("reconcile", "killed", 60)
    claims.claim(jobs[2:3], "alive", lease=60)
    assert claims.take_over(["killed"], max_losses=2) == jobs[:2]
    assert claims.take_over(["killed"], max_losses=2) == []
    assert locks.hold("reconcile", "two", 60)
    assert [held.losses for held in claims.claim(jobs[:3], "two", lease=10)] == [1, 0]


def test_a_claim_of_an_older_version_ends_with_the_lease_that_it_has_itself(jobs: list[Job]) -> None:
    claims.claim(jobs[:2], "older", lease=60)
    with engine.writing() as connection:
        connection.exec_driver_sql("DELETE FROM workers")
        connection.exec_driver_sql("UPDATE items SET lease_until = 1 WHERE number = 0")
        connection.exec_driver_sql("UPDATE items SET lease_until = 99999999999 WHERE number = 1")
    assert claims.expire(max_losses=5) == jobs[:1]


def test_a_clock_that_was_put_back_keeps_no_claim_lock_or_message_for_long(jobs: list[Job]) -> None:
    claims.claim(jobs[:1], "one", lease=60)
    locks.hold("reconcile", "one", 3)
    outbox.mark_sent(jobs[1:])
    an_hour = 3600.0
    with engine.writing() as connection:
        ahead = engine.now(connection) + an_hour
        connection.execute(schema.workers.update().values(lease_until=ahead))
        connection.execute(schema.locks.update().values(until=ahead))
        connection.execute(schema.items.update().where(schema.items.c.number > 0).values(sent_at=ahead))
    assert locks.hold("reconcile", "two", 3)
    assert outbox.forget_sent(older_than=10) == 5
    assert claims.expire(max_losses=5) == []
    with engine.reading() as connection:
        left = connection.scalar(sa.select(schema.workers.c.lease_until)) - engine.now(connection)
    assert 0 < left <= leases.LONGEST


def test_a_round_with_no_accepted_vote_charges_its_attempt_and_forgives_losses(jobs: list[Job]) -> None:
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    claims.lose([held], "the engine died", max_losses=5, alone=False)
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    void = Settled(held, [VoteRecord("……", None, 0.1, False, 7)], None, "again")
    assert claims.settle([void]) == [void]
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    assert (held.attempt, held.losses) == (2, 0)


def test_what_is_lost_too_often_in_a_row_is_dead_with_its_reason_until_revived(jobs: list[Job]) -> None:
    for losses in range(3):
        (held,) = claims.claim(jobs[:1], "one", lease=10)
        assert held.losses == losses
        claims.begin([held])
        again = claims.lose([held], "the engine died", max_losses=3, alone=True)
    assert again == []
    assert runs.count_states("r")[State.DEAD] == 1
    assert outbox.revive("r") == 1
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
    assert runs.count_states("r")[State.LEASED] == 2


def test_sent_items_are_unsent_again_once_forgotten(jobs: list[Job]) -> None:
    outbox.mark_sent(jobs)
    assert outbox.unsent(100) == []
    assert outbox.forget_sent(older_than=60) == 0
    assert outbox.forget_sent(queue="train") == 0
    assert outbox.forget_sent(queue="infer") == 6
    assert outbox.unsent(4) == jobs[:4]


def test_a_buried_item_names_its_reason_and_is_not_claimed(jobs: list[Job]) -> None:
    (held,) = claims.claim(jobs[:1], "one", lease=10)
    assert claims.bury(held, "the prompt does not fit")
    assert not claims.bury(held, "again")
    assert claims.claim(jobs[:1], "one", lease=10) == []


def test_a_named_lock_has_one_holder_until_it_runs_out() -> None:
    assert locks.hold("reconcile", "one", lease=0.2)
    assert locks.hold("reconcile", "one", lease=0.2)
    assert not locks.hold("reconcile", "two", lease=10)
    time.sleep(0.25)
    assert locks.hold("reconcile", "two", lease=10)


def test_a_fact_is_swapped_only_when_another_was_known() -> None:
    assert not locks.swap_fact("broker memory", "a")
    assert not locks.swap_fact("broker memory", "a")
    assert locks.swap_fact("broker memory", "b")


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path) -> None:
    good = lines(tmp_path)

    def breaks() -> object:
        yield good[0]
        raise RuntimeError("the file changed while it was read")

    with pytest.raises(RuntimeError):
        runs.open_run(Run("half", "infer", "x", "d", None, {}), breaks())  # type: ignore[arg-type]
    assert runs.find_run("half") is None
    assert outbox.unsent(10) == []


def test_a_run_whose_producer_is_sending_is_left_to_it(jobs: list[Job]) -> None:
    locks.hold(outbox.sending("r"), "producer", lease=0.2)
    assert outbox.unsent(100) == []
    assert outbox.unsent(100, "r") == jobs
    time.sleep(0.25)
    assert outbox.unsent(100) == jobs


def test_what_was_claimed_before_and_whose_message_nobody_takes_is_left_over(
    jobs: list[Job],
) -> None:
    held = claims.claim(jobs[:2], "one", lease=10)
    claims.lose(held, "the engine died", max_losses=5, alone=False)
    assert outbox.left_over(["infer"], 10, sent_before=0) == []
    outbox.mark_sent(jobs)
    assert outbox.left_over(["infer"], 10, sent_before=60) == []
    assert outbox.left_over(["infer"], 10, sent_before=0) == jobs[:2]
    assert outbox.left_over(["infer"], 1, sent_before=0) == jobs[:1]
    assert outbox.left_over(["train"], 10, sent_before=0) == []
    claims.claim(jobs[:1], "two", lease=10)
    assert outbox.left_over(["infer"], 10, sent_before=0) == jobs[1:2]
