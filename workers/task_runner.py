"""Run items of all queues: claim them, begin, do their work, and settle results or errors.

    run(Reason(run="correct", item=41), explain)  ->  "B: agreed, asked 2 times"

The class of an error is the item's policy (`shared.errors`), which `settlement` carries out.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared import broker, recipes, settings
from shared.errors import Refused, VotequeueError
from shared.jobs import Job
from shared.ledger import claims, runs
from shared.ledger.claims import Claim
from shared.ledger.engine import Connection
from shared.recipes import Training
from workers import instrumentation, lifecycle, retries, settlement
from workers.admission_control import Admission
from workers.claimer import Claimer
from workers.inference.batcher import Ended
from workers.outcomes import NOTHING_TO_DO
from workers.ports import Interrupted
from workers.settlement import TOO_LATE, ErrorPolicies

_T = TypeVar("_T")
_Options = TypeVar("_Options", bound=BaseModel)


@dataclass(frozen=True)
class ItemResult:
    """The result of an item as the ledger stores it, and one line for Flower and `trace`.

    ``also`` writes in the transaction that records the result; ``recorded`` is called after it.
    """

    value: dict[str, Any]
    line: str
    also: Callable[[Connection], object] = lambda _: None
    recorded: Callable[[], object] = lambda: None


def run(job: Job, work: Callable[[Claim], ItemResult], policies: ErrorPolicies = settlement.DEFAULT) -> str:
    """Do one item's work if it can be claimed; return its outcome as a sentence."""
    held = claimer().claim([job])
    if not held:
        return NOTHING_TO_DO
    claim = held[0]
    try:
        with _admission().entered(claim.losses):
            return run_claimed(claim, work, policies)
    finally:
        claimer().done([claim])


def run_claimed(claim: Claim, work: Callable[[Claim], ItemResult], policies: ErrorPolicies) -> str:
    """Do the work of a claim as `run` does.

    Raises:
        Exception: an unexplained error, after its item is settled, so that Celery shows it.
    """
    try:
        retries.until_done(lambda: claims.begin([claim]))
        result = work(claim)
        kept = retries.written(lambda: claims.complete(claim, result.value, result.line, result.also))
    # After any error, the item must not stay claimed.
    except Exception as error:
        settle = functools.partial(settlement.settle, [claim], error, policies)
        (outcome,) = retries.written(settle)
        if isinstance(error, VotequeueError):
            return outcome
        raise
    if not kept:
        return TOO_LATE
    instrumentation.DONE.labels(broker.queue_for(claim.job)).inc()
    result.recorded()
    return result.line


async def run_batch(
    batch: Sequence[Claim],
    work: Callable[[Sequence[Claim], Ended], Awaitable[Sequence[str | VotequeueError]]],
    policies: ErrorPolicies,
    *,
    exclusive: bool,
    ended: Ended = lambda _at, _outcome: None,
) -> list[str]:
    """Do the work of some claims of one run together; return each claim's outcome as a sentence.

    ``work`` returns the outcome or the error of each claim, and tells an `Ended` of each that is settled
    before the others. An error that it raises concerns all that are not. ``exclusive``: no other batch runs
    concurrently. ``ended`` is told of outcomes before all have one.

    Raises:
        CancelledError: the worker stops; the claims are returned untouched.
    """
    # A failure of a single claim that ran exclusively has a known cause.
    alone = exclusive and len(batch) == 1

    early: dict[int, str] = {}

    def end(at: int, outcome: str) -> None:
        early[at] = outcome
        ended(at, outcome)

    async def settle(failed: Sequence[Claim], error: Exception) -> list[str]:
        return await retries.written_aside(lambda: settlement.settle(failed, error, policies, alone))

    try:
        await retries.until_done_aside(lambda: claims.begin(batch))
        results = await work(batch, end)
        return [
            result if isinstance(result, str) else (await settle([claim], result))[0]
            for claim, result in zip(batch, results, strict=True)
        ]
    except asyncio.CancelledError as error:
        await asyncio.shield(settle(_without(batch, early), Interrupted(*error.args)))
        raise
    # After any error, no item may stay claimed.
    except Exception as error:  # noqa: BLE001
        rest = iter(await settle(_without(batch, early), error))
        return [early[at] if at in early else next(rest) for at in range(len(batch))]


def _without(batch: Sequence[Claim], places: Container[int]) -> list[Claim]:
    return [claim for at, claim in enumerate(batch) if at not in places]


@functools.cache
def claimer() -> Claimer:
    """Give this process's claimer."""
    return Claimer(lifecycle.WORKER, settings.load().lease)


@functools.cache
def _admission() -> Admission:
    return Admission()


def options(run: str, kind: type[_Options]) -> _Options:
    """Read a run's options.

    Raises:
        Refused: another version of votequeue enqueued the run, with other options.
    """
    return _read(run, kind.model_validate)


def training(run: str) -> Training:
    """Read the recipe of a training run; raises as `options` does."""
    return _read(run, recipes.READ.validate_python)


def require_prompt(recorded: str | None, version: str | None) -> None:
    """Compare the prompt version that a run records (``None``: it uses no prompt) with this worker's.

    Raises:
        Refused: they differ.
    """
    if recorded not in (None, version):
        raise Refused(f"the run wants prompt {recorded}, this votequeue has {version}: enqueue it again")


def _read(run: str, validate: Callable[[Any], _T]) -> _T:
    try:
        return validate(runs.get_run(run).options)
    except ValidationError as error:
        raise Refused(f"the run's settings are of another votequeue: {error.errors()[0]['msg']}") from error
