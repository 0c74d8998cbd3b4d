"""Expired leases back to pending, lost messages sent again.

    sweep("host:812:9f", settings)  ->  Swept(expired=36, sent=36)

Every worker process runs `sweep` every few seconds; the holder of the ledger's `reconcile` lock does the
work. What the work is, is not known here.
"""

import logging
from dataclasses import dataclass

from shared import broker, claims, outbox
from shared.errors import ServiceUnreachable
from shared.settings import Settings

log = logging.getLogger(__name__)
# Between a worker's taking a message and its claim in the ledger lie milliseconds, never this long.
LOST_AFTER = 10.0
SENT_A_SWEEP = 2000


@dataclass(frozen=True)
class Swept:
    """What one sweep found: leases that had run out, messages that it sent."""

    expired: int = 0
    sent: int = 0


def sweep(worker: str, settings: Settings) -> Swept:
    """Do one round of reconciliation, if it is this worker's turn."""
    if not claims.hold("reconcile", worker, 3 * settings.sweep):
        return Swept()
    expired = claims.expire(settings.max_losses)
    if expired:
        log.warning("%d questions were left by workers that went silent: pending again", expired)
    try:
        _notice_lost_messages()
        return Swept(expired, _send_unsent())
    except ServiceUnreachable as error:
        log.warning("%s", error)
        return Swept(expired)


def _notice_lost_messages() -> None:
    if claims.swap_fact("broker memory", broker.memory()):
        lost = outbox.forget_sent()
        log.warning("the broker was flushed or restarted: %d messages are sent again", lost)
    for queue in broker.QUEUES:
        # With an empty queue, whatever is pending and was sent has lost its message on the way.
        if broker.waiting(queue) == 0:
            outbox.forget_sent(older_than=LOST_AFTER, kind=queue)


def _send_unsent() -> int:
    jobs = outbox.unsent(SENT_A_SWEEP)
    if jobs:
        broker.send(jobs)
        outbox.mark_sent(jobs)
    return len(jobs)
