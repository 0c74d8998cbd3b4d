"""Settle items whose work failed: the error's class decides what becomes of them (`shared.errors.Policy`).

    settle([claim], Refused("content filtered"))  ->  ["dead: content filtered"]

All queues settle here; nothing else in `workers` ends a process for an error.
"""

import logging
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared import broker, settings
from shared.errors import Held, Policy, UserError, VotequeueError
from shared.jobs import Job
from shared.ledger import claims, engine, outbox
from shared.ledger.claims import Claim

log = logging.getLogger(__name__)
TOO_LATE = "too late: another worker has it"
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0  # seconds between rounds that fail, doubling
PATIENCE = 30.0  # seconds before an item is tried again that this worker cannot work on
UNTIL_MENDED = 10 * 365 * 86_400.0  # seconds: `votequeue resume` makes it due


@dataclass(frozen=True)
class ErrorPolicies:
    """Where a queue differs from the policies of the error classes.

    ``overrides``: the most specific class comes first. ``patience``: seconds until an item is due that was
    given back because this worker cannot work on it.
    """

    overrides: Mapping[type[VotequeueError], Policy] = field(default_factory=dict)
    patience: float = PATIENCE

    def of(self, error: Exception) -> Policy:
        """Give the policy for an error."""
        own = error.policy if isinstance(error, VotequeueError) else Policy.CHARGE
        return next((policy for kind, policy in self.overrides.items() if isinstance(error, kind)), own)


DEFAULT = ErrorPolicies()


@dataclass(frozen=True)
class _Failure:
    """What `settle` was given, with the error's words as the ledger stores them."""

    batch: Sequence[Claim]
    error: Exception
    reason: str
    patience: float
    alone: bool

    @property
    def items(self) -> str:
        numbers = ", ".join(str(claim.job.item) for claim in self.batch)
        return f"item {numbers} of {self.batch[0].job.run}"


def settle(
    batch: Sequence[Claim], error: Exception, policies: ErrorPolicies = DEFAULT, alone: bool = True
) -> list[str]:
    """Settle claims of one run whose work ended in one error; give each one's outcome in words.

    ``alone``: nothing but these claims can have caused it.
    """
    reason = engine.storable(str(error))
    outcomes = SETTLE[policies.of(error)](_Failure(batch, error, reason, policies.patience, alone))
    return [outcomes] * len(batch) if isinstance(outcomes, str) else outcomes


def publish(jobs: Sequence[Job]) -> None:
    """Send jobs that the ledger holds as pending; a broker that is away costs them nothing but time."""
    if not jobs:
        return
    try:
        broker.send(jobs)
        outbox.mark_sent(jobs)
    except UserError as error:
        # Not an error for the items: the reconcile loop sends what has no message.
        log.warning("%d messages wait in the ledger: %s", len(jobs), error)


def _again(failure: _Failure) -> str:
    publish(claims.release(failure.batch, failure.reason))
    return f"given back: {failure.reason}"


def _elsewhere(failure: _Failure) -> str:
    # A setting is missing on this machine, or a service was away: nothing is paused for all.
    log.error("%s: given back: %s", failure.items, failure.reason)
    claims.release(failure.batch, failure.reason, failure.patience)
    return f"given back: {failure.reason}"


def _stop_worker(failure: _Failure) -> str:
    # Nothing will work here until a person mends it, and elsewhere it may work now.
    _elsewhere(failure)
    log.error("this worker stops: %s", failure.reason)
    os.kill(os.getpid(), signal.SIGTERM)
    return "given back: this worker cannot work"


def _back_off(failure: _Failure) -> list[str]:
    return [_put_off_longer(claim, failure.reason) for claim in failure.batch]


def _put_off_longer(claim: Claim, reason: str) -> str:
    if claim.attempt >= settings.load().max_failures:
        claims.bury(claim, f"{claim.attempt} rounds ended in a failed call, last: {reason}")
        return f"dead: {reason}"
    # Jitter, or all that failed together would come back together.
    doubled: float = FIRST_DELAY * 2 ** min(claim.attempt - 1, 16)
    delay = min(doubled, LONGEST_DELAY) * random.uniform(0.5, 1.0)
    claims.put_off(claim, reason, delay)
    return f"again in {delay:.1f} s: {reason}"


def _put_off(failure: _Failure) -> str:
    delay = failure.error.delay if isinstance(failure.error, Held) else None
    claims.release(failure.batch, failure.reason, UNTIL_MENDED if delay is None else delay)
    return f"waits: {failure.reason}"


def _charge(failure: _Failure) -> str:
    if isinstance(failure.error, VotequeueError):
        reason = evidence = failure.reason
        log.error("%s failed: %s", failure.items, reason)
    else:
        reason = "an unexplained error"
        evidence = f"{reason}, see the worker's log"
        log.error("%s failed", failure.items, exc_info=failure.error)
    publish(claims.lose(failure.batch, evidence, settings.load().max_losses, alone=failure.alone))
    return f"lost: {reason}"


def _bury(failure: _Failure) -> str:
    if len(failure.batch) > 1:
        # Which of them it concerns cannot be told: charged, they go on in smaller batches.
        return _charge(failure)
    claims.bury(failure.batch[0], failure.reason)
    return f"dead: {failure.reason}"


def _leave(failure: _Failure) -> str:
    return TOO_LATE


# The gateway has paused the provider before a STOP_PROVIDER error comes here.
SETTLE: dict[Policy, Callable[[_Failure], str | list[str]]] = {
    Policy.AGAIN: _again,
    Policy.ELSEWHERE: _elsewhere,
    Policy.BACK_OFF: _back_off,
    Policy.PUT_OFF: _put_off,
    Policy.STOP_PROVIDER: _put_off,
    Policy.STOP_WORKER: _stop_worker,
    Policy.CHARGE: _charge,
    Policy.BURY: _bury,
    Policy.LEAVE: _leave,
}
