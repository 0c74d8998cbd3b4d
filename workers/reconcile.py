"""Reconciliation: take over the items of dead workers, and send lost messages again.

    sweep("host:812:9f", settings, ["host:640:c1"])  ->  Swept(expired=36, sent=36)

Every worker process runs `sweep` every second. Each takes over the items of workers that it knows to be dead.
The holder of the ledger's `reconcile` lock does the rest.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared import broker
from shared.broker import Taken
from shared.errors import ServiceUnreachable
from shared.jobs import Job
from shared.ledger import claims, deadlines, engine, locks, outbox
from shared.settings import Settings
from workers import instrumentation, outcomes

log = logging.getLogger(__name__)
# A worker claims an item milliseconds after taking its message, never this late.
LOST_AFTER = 10.0
# After an outage of the ledger, workers have recorded the votes that came meanwhile.
VOTES_RECORDED = 3.0
SENT_A_SWEEP = 2000
CLEARED_AT_ONCE = 500
UNACKNOWLEDGED = 100_000  # messages that all workers together hold at most


@dataclass(frozen=True)
class Swept:
    """The result of a sweep: the numbers of claims taken back and of messages sent.

    ``behind``: there was no time to answer all questions at their deadline.
    """

    expired: int = 0
    sent: int = 0
    behind: bool = False


def sweep(worker: str, settings: Settings, dead: Sequence[str] = (), node: str | None = None) -> Swept:
    """Do one round of reconciliation, or only the part that needs no lock.

    ``dead`` names workers that are known to have died. ``node`` is this worker's name in Flower.
    """
    expired = _take_over(dead, settings, node) if dead else 0
    steady = locks.hold_on("reconcile", worker, 3 * settings.sweep, settings.lease / 2)
    if steady is None:
        return Swept(expired)
    # While the ledger was away, no worker could extend its lease: all leases seem expired until every worker
    # has had time for a heartbeat.
    if steady >= settings.lease:
        begun = _broker_time()
        expired += _taken_back(claims.expire(settings.max_losses), begun, node)
    started, behind = time.monotonic(), False
    if steady >= VOTES_RECORDED and (answered := deadlines.answer_due(settings.sweep)):
        instrumentation.rounds_settled(answered, sampled=True)
        log.info("%d questions were answered at their deadline", len(answered))
        behind = time.monotonic() - started >= settings.sweep
    try:
        _notice_flush()
        before: dict[Job, float] = {}
        for queue, request in outbox.to_rearrange().items():
            before |= outbox.sent(queue)
            broker.clear(queue)
            outbox.forget_sent(queue=queue)
            outbox.rearranged(queue, request)
        waiting = {queue: broker.waiting(queue) for queue in outbox.open_queues()}
        _notice_lost_messages(waiting)
        rooms = {queue: max(0, settings.window - messages) for queue, messages in waiting.items()}
        # As many as are sent anew: a message that is sent later loses its age.
        limit = max(SENT_A_SWEEP, len(before))
        sent = _send_lost(before) + _send(outbox.unsent(limit, rooms=rooms), before)
    except ServiceUnreachable as error:
        log.warning("%s", error)
        sent = 0
    return Swept(expired, sent, behind)


def _take_over(dead: Sequence[str], settings: Settings, node: str | None) -> int:
    begun = _broker_time()
    taken = claims.take_over(dead, settings.max_losses)
    try:
        _send_lost({})
    except ServiceUnreachable as error:
        log.warning("%s", error)
    return _taken_back(taken, begun, node)


def _taken_back(taken: Sequence[Job], before: float, node: str | None) -> int:
    """Log that items were taken back, and end their tasks: they were taken ``before``, a broker time."""
    if taken:
        instrumentation.LOST_LEASES.inc(len(taken))
        log.warning("%d items were left by workers that are gone: pending again", len(taken))
        left = frozenset(taken)
        try:
            messages = broker.taken(before, 0, UNACKNOWLEDGED)
            _abandon([message for message in messages if message.job in left], node)
        except ServiceUnreachable as error:
            log.warning("%s", error)
    return len(taken)


def _broker_time() -> float:
    """Give the broker's time, by which messages are dated; 0, before all of them, while it is away."""
    try:
        return broker.now()
    except ServiceUnreachable:
        return 0.0


def _abandon(messages: Sequence[Taken], node: str | None) -> None:
    """Drop messages whose workers are gone, and end their tasks."""
    if messages:
        ended = {each.task: outcomes.after_death(each.job) for each in messages if each.task and each.job}
        lost = {task: outcome for task, outcome in ended.items() if isinstance(outcome, outcomes.Lost)}
        broker.report({task: ended[task] for task in ended.keys() - lost.keys()}, lost, node)
        broker.drop(messages)


def _notice_flush() -> None:
    if locks.swap_fact("broker memory", broker.memory()):
        lost = outbox.forget_sent()
        log.warning("the broker was flushed or restarted: %d messages are sent again", lost)


def _notice_lost_messages(waiting: Mapping[str, int]) -> None:
    for queue, messages in waiting.items():
        # If the queue is empty, the messages of pending items that were sent have been lost.
        if messages == 0:
            outbox.forget_sent(older_than=LOST_AFTER, queue=queue)


def _send_lost(before: Mapping[Job, float]) -> int:
    """Send the items of dead workers, ahead of items that were never claimed."""
    return _send(outbox.unsent(SENT_A_SWEEP, lost=True), before, first=True)


def _send(jobs: Sequence[Job], before: Mapping[Job, float], first: bool = False) -> int:
    for some in engine.chunks(jobs):
        broker.send(some, first)
        outbox.mark_sent(some, before)
    return len(jobs)


def clear_unacknowledged(worker: str, settings: Settings, node: str | None = None) -> int:
    """Drop messages that were taken two leases ago and that no worker works on; return their number.

    Killed workers leave such messages. Most of their items have continued with other messages; an item whose
    worker died before claiming it gets a new message. ``node`` is this worker's name in Flower.
    """
    if not locks.hold("unacknowledged", worker, settings.lease):
        return 0
    skipped = dropped = 0
    try:
        before = broker.now() - 2 * settings.lease
        while messages := broker.taken(before, skipped, CLEARED_AT_ONCE):
            working = outbox.worked_on(message.job for message in messages if message.job)
            abandoned = [message for message in messages if message.job not in working]
            outbox.forget_taken((message.job for message in abandoned if message.job), settings.lease)
            _abandon(abandoned, node)
            dropped += len(abandoned)
            skipped += len(messages) - len(abandoned)
    except ServiceUnreachable as error:
        log.warning("%s", error)
    return dropped
