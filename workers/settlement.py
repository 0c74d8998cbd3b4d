"""Settle items whose work failed, by the policy of the error's class (`shared.errors.Policy`).

    settle([claim], Refused("content filtered"))  ->  ["dead: content filtered"]

All queues settle here; no other module of `workers` ends a process because of an error.
"""

import logging
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared import broker, settings
from shared.errors import Held, OverBudget, Policy, UserError, VotequeueError
from shared.jobs import Job
from shared.ledger import claims, engine, outbox
from shared.ledger.claims import Claim
from workers import instrumentation
from workers.outcomes import Lost, PutOff

log = logging.getLogger(__name__)
TOO_LATE = Lost("too late: another worker has it, or its run was cancelled or reached its deadline")
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0  # seconds between failed rounds, doubling
PATIENCE = 30.0  # seconds until an item is retried that this worker cannot process
UNTIL_MENDED = 10 * 365 * 86_400.0  # seconds: `votequeue resume` makes it due


@dataclass(frozen=True)
class ErrorPolicies:
    """Where a queue differs from the policies of the error classes.

    ``overrides``: the most specific class comes first. ``patience``: seconds until an item is due again that
    this worker cannot process.
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
    """The arguments of `settle`, with the error's message as the ledger stores it."""

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
    """Settle claims of one run whose work ended in one error; return each claim's outcome as a sentence.

    ``alone``: only these claims can have caused it.
    """
    reason = engine.storable(str(error))
    policy = policies.of(error)
    instrumentation.FAILURES.labels(policy.name.lower()).inc(len(batch))
    outcomes = SETTLE[policy](_Failure(batch, error, reason, policies.patience, alone))
    return [outcomes] * len(batch) if isinstance(outcomes, str) else outcomes


def publish(jobs: Sequence[Job], first: bool = False) -> None:
    """Send jobs that are pending in the ledger; an unavailable broker only delays them.

    Workers take jobs sent ``first`` before all others. Jobs of runs that are not active are left out.
    """
    if not jobs:
        return
    try:
        jobs = outbox.of_active_runs(jobs)
        broker.send(jobs, first)
        outbox.mark_sent(jobs)
    except UserError as error:
        # Not an error for the items: the reconcile loop sends the missing messages.
        log.warning("%d messages wait in the ledger: %s", len(jobs), error)


def _again(failure: _Failure) -> str:
    publish(claims.release(failure.batch, failure.reason))
    return PutOff(f"given back: {failure.reason}")


def _elsewhere(failure: _Failure) -> str:
    # A setting is missing on this machine, or a service was unavailable: other workers are not paused.
    log.error("%s: given back: %s", failure.items, failure.reason)
    claims.release(failure.batch, failure.reason, failure.patience)
    return PutOff(f"given back: {failure.reason}")


def _stop_worker(failure: _Failure) -> str:
    # This worker needs a person to fix it; other workers may be able to process the items.
    _elsewhere(failure)
    log.error("this worker stops: %s", failure.reason)
    os.kill(os.getpid(), signal.SIGTERM)
    return PutOff("given back: this worker cannot work")


def _back_off(failure: _Failure) -> list[str]:
    return [_put_off_longer(claim, failure.reason) for claim in failure.batch]


def _put_off_longer(claim: Claim, reason: str) -> str:
    before = claims.failures(claim)
    if before + 1 >= settings.load().max_failures:
        claims.bury(claim, f"{before + 1} failed calls in a row, last: {reason}")
        return Lost(f"dead: {reason}")
    # With jitter, so that items that failed together are not retried together.
    doubled: float = FIRST_DELAY * 2 ** min(before, 16)
    delay = min(doubled, LONGEST_DELAY) * random.uniform(0.5, 1.0)
    claims.put_off(claim, reason, delay)
    return PutOff(f"again in {delay:.1f} s: {reason}")


def _put_off(failure: _Failure) -> str:
    delay = failure.error.delay if isinstance(failure.error, Held) else None
    claims.release(failure.batch, failure.reason, UNTIL_MENDED if delay is None else delay)
    return PutOff(f"waits: {failure.reason}")


def _charge(failure: _Failure) -> str:
    if isinstance(failure.error, VotequeueError):
        reason = evidence = failure.reason
        log.error("%s failed: %s", failure.items, reason)
    else:
        reason = "an unexplained error"
        evidence = f"{reason}, see the worker's log"
        log.error("%s failed", failure.items, exc_info=failure.error)
    publish(claims.lose(failure.batch, evidence, settings.load().max_losses, alone=failure.alone))
    return Lost(f"lost: {reason}")


def _bury(failure: _Failure) -> str:
    if len(failure.batch) > 1 and not isinstance(failure.error, OverBudget):
        # The cause among them is unknown: each is charged, and retried in a smaller batch.
        return _charge(failure)
    for claim in failure.batch:
        claims.bury(claim, failure.reason)
    return Lost(f"dead: {failure.reason}")


def _leave(failure: _Failure) -> str:
    return TOO_LATE


# The gateway pauses the provider before a STOP_PROVIDER error arrives here.
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
