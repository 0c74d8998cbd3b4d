"""The `infer` queue: answers questions, one Celery task each, in batches on one engine.

    celery -A workers.infer worker -Q infer --pool threads -c 64

A task passes its question to an event loop in another thread and waits. The loop claims arriving questions
together and retrieves their examples in batches of 16; each question ends by itself.
"""

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from shared import broker, settings
from shared.broker import app
from shared.errors import Policy, ServiceUnreachable, UserError
from shared.jobs import Infer, Job
from shared.ledger import claims, controls, models, outbox, sampling_progress
from shared.ledger.claims import Claim
from workers import instrumentation, lifecycle, retries, settlement, task_runner, wiring
from workers.claimer import Claimer
from workers.inference import rounds
from workers.inference.batcher import Batcher, Ended
from workers.inference.rounds import Batching, Rounds
from workers.inference.throughput_meter import ThroughputMeter
from workers.outcomes import NOTHING_TO_DO, ItemTask, Lost, PutOff
from workers.periodic import Periodic
from workers.reconcile import Swept
from workers.settlement import ErrorPolicies

log = logging.getLogger(__name__)
STOPPED = PutOff("given back: the worker was stopped")
HALTED = Lost("aborted: the run is cancelled, or near its deadline")
RESCUE_AFTER = 0.5  # seconds; if any worker has a free slot, a message is taken much sooner
CLAIMED_TOGETHER, CLAIM_LINGER = 64, 0.02
# An index server will be available again. Without weights or a scorer, a worker cannot answer anything.
ERROR_POLICIES = ErrorPolicies(
    {ServiceUnreachable: Policy.ELSEWHERE, UserError: Policy.STOP_WORKER}, patience=5.0
)
Value = TypeVar("Value")


class Answering:
    """The event loop, the engine and the batchers of one worker process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = threading.Event()
        self._rescued: dict[Job, asyncio.Task[str] | None] = {}
        self._entry = asyncio.Lock()
        self._by_entry: dict[Job, asyncio.Task[str]] = {}

    def start(self) -> None:
        """Load models and engine; half a minute on a CPU."""
        options = settings.load()
        self._claimer = Claimer(lifecycle.WORKER, options.lease)
        rounds_of_sampling, self._generator = wiring.rounds(options, self._stopping)
        self._calls = options.calls_provider
        size, in_flight = options.batches
        self._arrivals: Batcher[Job, Claim | None] = Batcher(
            self._claim, size=CLAIMED_TOGETHER, in_flight=1, linger=CLAIM_LINGER
        )
        self._batches: Batcher[Claim, str] = Batcher(
            functools.partial(run_round, rounds_of_sampling),
            size=size,
            in_flight=in_flight,
            linger=options.linger,
        )
        # The engine's process dies with the thread that starts it (`parent_death`), so this one must not end.
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        log.info("loading %s", options.model)
        self._in_loop(self._generator.start()).result()
        identity = self._generator.identity
        retries.written(lambda: models.add_generator(identity))
        instrumentation.generator().info(asdict(identity))
        self._capacity = size * in_flight
        self._progress = Periodic("progress", options.heartbeat, lambda: _record(rounds_of_sampling.meter))
        self._progress.start()
        log.info("ready: batches of %d, %d in flight", size, in_flight)

    def answer(self, job: Infer) -> str:
        """Run one round for a question; return its outcome as a sentence."""
        if self._stopping.is_set():
            return STOPPED
        try:
            return self._in_loop(self._answer(job, self._batching(job.run))).result()
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            return STOPPED if self._stopping.is_set() else HALTED

    def heed_controls(self) -> None:
        """Abort the work on runs that were cancelled or are near their deadline."""
        runs = [str(run) for run in self._batches.groups]
        for run in controls.ended(runs) if runs else ():
            reason = "its run is cancelled, or near its deadline"
            log.info("the work on run %s is aborted: %s", run, reason)
            self._loop.call_soon_threadsafe(self._batches.abort, run, reason)

    def rescue(self, at_once: bool) -> None:
        """Take over questions of a dead worker whose messages wait behind others.

        While all slots of this worker are taken, the queue would delay them until a question ends. They are
        claimed without the queue, at most as many as there are slots, and go into the next batches.
        ``at_once``: this worker has just found them.
        """
        if self._stopping.is_set() or len(self._rescued) >= self._capacity:
            return
        waited = 0.0 if at_once else RESCUE_AFTER
        for job in outbox.left_over(broker.consumed(), self._capacity - len(self._rescued), waited):
            batching = rounds.batching(job.run)
            self._in_loop(self._rescue(Infer(run=job.run, item=job.item), batching))

    def release(self) -> None:
        """Return all questions, including those in flight, and accept no more."""
        self._stopping.set()
        self._in_loop(self._release()).result()

    def close(self) -> None:
        """Stop the engine and its process."""
        self._progress.stop()
        self._in_loop(self._generator.stop()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _batching(self, run: str) -> Batching:
        def look() -> Batching:
            self._stop_if_stopping()
            return rounds.batching(run)

        return retries.until_done(look)

    async def _answer(self, job: Infer, batching: Batching) -> str:
        if not batching.by_entry:
            claim = await self._arrivals.submit(job)
            return await (self._rescued_answer(job) if claim is None else self._run(claim, batching))
        async with self._entry:
            task = await self._take_entry(job, batching)
        return NOTHING_TO_DO if task is None else await asyncio.shield(task)

    async def _rescued_answer(self, job: Job) -> str:
        """Wait for the answer to a rescued question, whose message follows."""
        rescue = self._rescued.get(job)
        if rescue is None or rescue is asyncio.current_task():
            return NOTHING_TO_DO
        return await asyncio.shield(rescue)

    async def _take_entry(self, job: Infer, batching: Batching) -> "asyncio.Task[str] | None":
        """Claim a question with the others of its entry; give the task that answers it.

        The messages of the others follow: in this worker they wait for the same tasks, in another one there
        is nothing to do. Since claims do not depend on messages here, their number is limited.
        """
        jobs = await retries.until_done_aside(lambda: self._siblings(job))
        while jobs and len(self._by_entry) >= self._capacity:
            await asyncio.wait(self._by_entry.values(), return_when=asyncio.FIRST_COMPLETED)
            jobs = await retries.until_done_aside(lambda: self._siblings(job))
        claimed = await asyncio.gather(*(self._arrivals.submit(each, job, len(jobs)) for each in jobs))
        for claim in filter(None, claimed):
            task = self._by_entry[claim.job] = self._loop.create_task(self._run(claim, batching))
            task.add_done_callback(functools.partial(self._forget, claim.job))
        return self._by_entry.get(job)

    def _siblings(self, job: Infer) -> list[Job]:
        self._stop_if_stopping()
        return claims.siblings(job, min(CLAIMED_TOGETHER, self._capacity))

    def _forget(self, job: Job, task: "asyncio.Task[str]") -> None:
        # The question may have been claimed again for its next round.
        if self._by_entry.get(job) is task:
            del self._by_entry[job]

    async def _run(self, claim: Claim, batching: Batching) -> str:
        try:
            size, exclusive = batching.size_of(claim), rounds.is_exclusive(claim)
            return await self._batches.submit(claim, group=claim.job.run, size=size, exclusive=exclusive)
        finally:
            self._claimer.done([claim])

    async def _rescue(self, job: Infer, batching: Batching) -> str:
        self._rescued[job] = asyncio.current_task()
        try:
            outcome = await self._answer(job, batching)
        except Exception:
            # The lease expires, and the question is retried.
            log.exception("%s item %d was taken up and failed", job.run, job.item)
            return NOTHING_TO_DO
        else:
            # Several workers may take over the same question: one of them claims it.
            if outcome != NOTHING_TO_DO:
                log.info("taken ahead of its message: %s item %d: %s", job.run, job.item, outcome)
            return outcome
        finally:
            self._rescued.pop(job, None)

    async def _claim(self, jobs: list[Job], _: Ended) -> list[Claim | None]:
        held = await asyncio.to_thread(self._claimer.claim, jobs, before_retry=self._stop_if_stopping)
        # Two copies of one message in one batch: the second has nothing to claim.
        by_job = {claim.job: claim for claim in held}
        return [by_job.pop(job, None) for job in jobs]

    def _stop_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise asyncio.CancelledError

    async def _release(self) -> None:
        # Wait for a claim in progress: if cancelled, it would be recovered only when its lease expires.
        await self._arrivals.stop(abort=False)
        # Calls in flight are paid for: they may end. Those that wait for their turn end at once.
        await self._batches.stop(abort=not self._calls)
        rest = await retries.until_done_aside(lambda: claims.release_all(lifecycle.WORKER, STOPPED))
        await asyncio.to_thread(settlement.publish, rest)

    def _in_loop(self, work: Coroutine[Any, Any, Value]) -> "concurrent.futures.Future[Value]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def run_round(
    rounds_of_sampling: Rounds, batch: Sequence[Claim], ended: Ended = lambda _at, _outcome: None
) -> list[str]:
    """Run one round for claims of one run; return each claim's outcome as a sentence.

    ``ended`` is told the outcome of each question when it is settled.
    """
    exclusive = rounds.is_exclusive(batch[0])
    work = rounds_of_sampling.run
    return await task_runner.run_batch(batch, work, ERROR_POLICIES, exclusive=exclusive, ended=ended)


def _record(meter: ThroughputMeter) -> None:
    if figures := meter.figures():
        sampling_progress.record(lifecycle.WORKER, figures)


@functools.cache
def service() -> Answering:
    """Give this process's one service."""
    return Answering()


@app.task(name=Infer.queue, base=ItemTask)
def infer(**message: Any) -> str:
    """Answer the question that a message names."""
    return service().answer(Infer.model_validate(message))


def _after_sweep(swept: Swept) -> None:
    service().heed_controls()
    service().rescue(at_once=swept.expired > 0)


lifecycle.attach(
    start=lambda: service().start(),
    stopping=lambda: service().release(),
    stopped=lambda: service().close(),
    swept=_after_sweep,
)
