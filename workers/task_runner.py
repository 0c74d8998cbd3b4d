"""Run one item of a data queue: claim it, do its work, and settle the result or the error.

    run(Reason(run="correct", item=41), explain)  ->  "B: agreed, asked 2 times"

An error's class says what becomes of the item (`shared/errors.py`).
"""

import functools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared import recipes, settings
from shared.errors import Held, Policy, Refused, VotequeueError
from shared.jobs import Job
from shared.ledger import claims, engine, runs
from shared.ledger.claims import Claim
from shared.recipes import Training
from workers import lifecycle, retries
from workers.admission_control import Admission
from workers.claimer import Claimer
from workers.inference import rounds

log = logging.getLogger(__name__)
NOTHING_TO_DO = "nothing to do: it is done, or another worker has it"
FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0  # seconds between rounds that fail, doubling
PATIENCE = 30.0  # seconds before an item is tried again that this worker cannot work on
UNTIL_MENDED = 10 * 365 * 86_400.0  # seconds: `votequeue resume` makes it due
_T = TypeVar("_T")
_Options = TypeVar("_Options", bound=BaseModel)


@dataclass(frozen=True)
class ItemResult:
    """What an item came to: its result as the ledger keeps it, and one line for Flower and `trace`."""

    value: dict[str, Any]
    line: str


def run(job: Job, work: Callable[[Claim], ItemResult]) -> str:
    """Do one item's work if it can be claimed; give what became of it in words."""
    held = claimer().claim([job])
    if not held:
        return NOTHING_TO_DO
    claim = held[0]
    try:
        with _admission().entered(claim.losses):
            return _run(claim, work)
    finally:
        claimer().done([claim])


def _run(claim: Claim, work: Callable[[Claim], ItemResult]) -> str:
    try:
        retries.until_done(lambda: claims.begin([claim]))
        outcome = work(claim)
        value, line = outcome.value, outcome.line
        kept = retries.written(lambda: claims.complete(claim, value, line))
    # Whatever it is, the item must not stay claimed; what is not the item's goes on to Celery.
    except Exception as error:  # noqa: BLE001
        failure = error
        return retries.written(lambda: _settle(claim, failure))
    return line if kept else rounds.TOO_LATE


@functools.cache
def claimer() -> Claimer:
    """Give what claims items for this process."""
    return Claimer(lifecycle.WORKER, settings.load().lease)


@functools.cache
def _admission() -> Admission:
    return Admission()


def options(run: str, kind: type[_Options]) -> _Options:
    """Read how a run is to be worked on.

    Raises:
        Refused: it was enqueued by a votequeue whose runs are told otherwise.
    """
    return _read(run, kind.model_validate)


def training(run: str) -> Training:
    """Read how a run's model is to be trained; raises as `options` does."""
    return _read(run, recipes.READ.validate_python)


def _read(run: str, validate: Callable[[Any], _T]) -> _T:
    try:
        return validate(runs.get_run(run).options)
    except ValidationError as error:
        raise Refused(f"the run's settings are of another votequeue: {error.errors()[0]['msg']}") from error


def _settle(claim: Claim, error: Exception) -> str:
    policy = error.policy if isinstance(error, VotequeueError) else Policy.CHARGE
    return SETTLE[policy](claim, error, engine.storable(str(error)))


def _again(claim: Claim, error: Exception, reason: str) -> str:
    rounds.publish(claims.release([claim], "its worker was stopped"))
    return "given back: the worker was stopped"


def _elsewhere(claim: Claim, error: Exception, reason: str) -> str:
    # A setting is missing on this machine, or its ledger was away: nothing is paused for all.
    log.error("item %d of %s is given back: %s", claim.job.item, claim.job.run, reason)
    claims.release([claim], reason, PATIENCE)
    return f"given back: {reason}"


def _back_off(claim: Claim, error: Exception, reason: str) -> str:
    if claim.attempt >= settings.load().max_failures:
        claims.bury(claim, f"{claim.attempt} rounds ended in a failed call, last: {reason}")
        return f"dead: {reason}"
    # Jitter, or all that failed together would come back together.
    doubled: float = FIRST_DELAY * 2 ** min(claim.attempt - 1, 16)
    delay = min(doubled, LONGEST_DELAY) * random.uniform(0.5, 1.0)
    claims.put_off(claim, reason, delay)
    return f"again in {delay:.1f} s: {reason}"


def _put_off(claim: Claim, error: Exception, reason: str) -> str:
    delay = error.delay if isinstance(error, Held) else None
    claims.release([claim], reason, UNTIL_MENDED if delay is None else delay)
    return f"waits: {reason}"


def _charge(claim: Claim, error: Exception, reason: str) -> str:
    log.error("item %d of %s failed", claim.job.item, claim.job.run, exc_info=error)
    most = settings.load().max_losses
    rounds.publish(claims.lose([claim], "it failed, see the worker's log", most, alone=True))
    raise error


def _bury(claim: Claim, error: Exception, reason: str) -> str:
    claims.bury(claim, reason)
    return f"dead: {reason}"


# The gateway has paused the provider before a STOP_PROVIDER error comes here.
SETTLE: dict[Policy, Callable[[Claim, Exception, str], str]] = {
    Policy.AGAIN: _again,
    Policy.ELSEWHERE: _elsewhere,
    Policy.BACK_OFF: _back_off,
    Policy.PUT_OFF: _put_off,
    Policy.STOP_PROVIDER: _put_off,
    Policy.CHARGE: _charge,
    Policy.BURY: _bury,
}
