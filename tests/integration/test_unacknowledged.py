"""What killed workers leave in the broker, with the messages that kombu itself has put there."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import broker, settings
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, leases, locks, outbox
from shared.ledger.claims import Settled
from shared.settings import Settings
from shared.voting import Answer
from tests.integration.test_reconcile import open_run
from workers import reconcile

WORKER, OTHER = "host:1:a", "host:2:b"


@pytest.fixture
def fast(on_broker: str, any_ledger: str) -> Settings:
    assert engine.engine().dialect.name == any_ledger
    return settings.load().model_copy(update={"lease": 0.4})


@pytest.fixture
def jobs(fast: Settings, home: Path) -> list[Job]:
    """Have a run of four questions, whose messages a worker has taken that is killed then."""
    jobs = open_run(home, "r")
    broker.send(jobs)
    outbox.mark_sent(jobs)
    assert len(list(_taken(len(jobs)))) == len(jobs)
    return jobs


def _taken(count: int) -> Iterator[object]:
    queue = next(queue for queue in broker.app.conf.task_queues if queue.name == Infer.queue)
    with broker.app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.do_restore = False  # as if it were killed
        messages: list[object] = []
        with connection.Consumer([queue], callbacks=[lambda _, message: messages.append(message)]):
            while len(messages) < count:
                try:
                    connection.drain_events(timeout=5)
                except TimeoutError:
                    break
        yield from messages


def left() -> set[int]:
    messages = broker.taken(time.time() + 60, 0, 100)
    assert int(broker.client().hlen(broker.UNACKED)) == len(messages)
    return {message.job.item for message in messages if message.job}


def settle(job: Job) -> None:
    [claim] = claims.claim([job], OTHER, 60)
    claims.settle([Settled(claim, [], Answer("A", "majority", 1), "A: majority")])


def test_messages_of_items_that_went_on_without_them_are_dropped(jobs: list[Job], fast: Settings) -> None:
    settle(jobs[0])
    claims.claim([jobs[1]], OTHER, 60)
    assert reconcile.clear_unacknowledged(WORKER, fast) == 0, "they have just been taken"
    time.sleep(2 * fast.lease + 0.1)
    assert reconcile.clear_unacknowledged(WORKER, fast) == 3
    assert left() == {1}, "somebody is at work on it"


def test_an_item_whose_worker_died_before_it_claimed_it_gets_a_new_message(
    jobs: list[Job], fast: Settings
) -> None:
    settle(jobs[0])
    assert outbox.unsent(10) == []
    time.sleep(2 * fast.lease + 0.1)
    reconcile.clear_unacknowledged(WORKER, fast)
    assert outbox.unsent(10) == jobs[1:]


def test_a_message_that_was_sent_since_is_the_items_own(jobs: list[Job], fast: Settings) -> None:
    time.sleep(2 * fast.lease + 0.1)
    outbox.mark_sent(jobs[:2])
    reconcile.clear_unacknowledged(WORKER, fast)
    assert outbox.unsent(10) == jobs[2:]


def test_many_are_looked_through_past_those_that_are_worked_on(
    jobs: list[Job], fast: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "CLEARED_AT_ONCE", 1)
    claims.claim([jobs[0], jobs[2]], OTHER, 60)
    time.sleep(2 * fast.lease + 0.1)
    assert reconcile.clear_unacknowledged(WORKER, fast) == 2
    assert left() == {0, 2}


def test_one_worker_at_a_time_clears(jobs: list[Job], fast: Settings) -> None:
    assert leases.dead_here() == []
    time.sleep(2 * fast.lease + 0.1)
    assert locks.hold("unacknowledged", OTHER, 60)
    assert reconcile.clear_unacknowledged(WORKER, fast) == 0


def test_a_message_that_nobody_can_read_is_dropped(jobs: list[Job], fast: Settings) -> None:
    broker.client().zadd(broker.UNACKED_INDEX, {"strange": 1.0})
    broker.client().hset(broker.UNACKED, "strange", "[]")
    reconcile.clear_unacknowledged(WORKER, fast)
    assert left() == {job.item for job in jobs}
