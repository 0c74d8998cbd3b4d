"""One round of sampling for a batch of claimed questions: retrieve, prompt, sample, score, vote, settle.

    await Rounds(generator, scorer, retriever).run([claim])  ->  ["B: majority, 3 of 5 votes"]

The adapter and the scorer of a run are pinned when it is enqueued. A run with `follow` looks them up per
batch. A rescoring run takes the recorded votes of another run instead of sampling. A combination takes those
of several runs; each vote is read by the rule of its own run.

A question without an accepted vote becomes pending and gets a new message, so that batches stay full. The
order is: commit to the ledger, then publish, then acknowledge (by returning).
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from shared.errors import NotServedHere, Refused, ServiceUnreachable, UserError, VotequeueError
from shared.generators import GENERATORS, VLLM
from shared.ledger import claims, deadlines, models, runs
from shared.ledger.claims import Claim, RoundRecord
from shared.ledger.deadlines import EarlyVote
from shared.ledger.models import Model
from shared.prompts import FewShotExample, PromptQuestion
from shared.vote_weights import UNLABELLED
from workers import instrumentation, retries, settlement
from workers.inference import judging, recorded_rounds
from workers.inference.asking import Asker
from workers.inference.batcher import Batcher, Ended
from workers.inference.finished_rounds import FinishedRound, Plan, SampledRound, folds_of, plan_of
from workers.inference.throughput_meter import ThroughputMeter
from workers.inference.waves import PartialRound
from workers.ports import CANDIDATES_PER_EXAMPLE, Completion, Executor, Generator, Retriever, Scorer

EXCLUSIVE_FROM = 2  # consecutive deaths from which a question's batch runs alone
KEPT_TOGETHER, KEPT_AFTER = 256, 0.2  # votes, and seconds until they are recorded, in runs with a deadline
SETTLED_TOGETHER = 0.5  # seconds within which questions finish that are judged and recorded together


class Rounds:
    """Runs rounds of sampling.

    ``kind`` is the generator's name. ``retriever`` gives a run's retriever by its name, ``executors`` the
    executor of a voice, if it has one.
    """

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        retriever: Callable[[str | None], Retriever],
        kind: str = VLLM,
        executors: Callable[[str], Executor | None] = lambda _: None,
    ) -> None:
        self._generator = generator
        self._asker = Asker(generator, executors, aborts=not GENERATORS[kind].calls_provider)
        self._scorer = scorer
        self._retriever = retriever
        self._kind = kind
        self.meter = ThroughputMeter()
        self._early: Batcher[EarlyVote, None] = Batcher(
            _keep_early, size=KEPT_TOGETHER, in_flight=1, linger=KEPT_AFTER
        )

    async def run(
        self, batch: Sequence[Claim], ended: Ended = lambda _at, _outcome: None
    ) -> list[str | VotequeueError]:
        """Run one round for claims of one run; return the outcome or the error of each.

        A question is settled when its votes are there, with others that are ready at the same time. ``ended``
        is told its place in the batch and its outcome then.

        Raises:
            NotServedHere: the worker lacks what the run was enqueued with.
            UserError: a service does not answer, or the worker lacks a requirement.
        """
        try:
            return await self._run(batch, ended)
        finally:
            self.meter.end(batch[0].job.run, batch)

    async def _run(self, batch: Sequence[Claim], ended: Ended) -> list[str | VotequeueError]:
        # An entry's questions side by side: the engine computes the common part of their prompts once.
        given, batch = batch, sorted(batch, key=lambda claim: claim.job.item)
        plan, asked, model = await asyncio.to_thread(_loaded, batch)
        if model is not None:
            plan = dataclasses.replace(plan, sampling=model.weighing(plan.sampling))
        outcomes: dict[Claim, str | VotequeueError] = {}
        if plan.sampling.votes_of is None:
            async with aclosing(self._sample(plan, model, batch, asked, outcomes)) as groups:
                async for finished in groups:
                    settled = await self._settle(plan, model, finished)
                    outcomes |= settled
                    self.meter.end(batch[0].job.run, settled)
                    for claim, outcome in settled.items():
                        ended(given.index(claim), outcome)
        else:
            finished = await asyncio.to_thread(recorded_rounds.recorded, plan.sampling, batch, asked)
            outcomes |= await self._settle(plan, model, finished)
        return [outcomes[claim] for claim in given]

    async def _settle(
        self, plan: Plan, model: Model | None, finished: Sequence[FinishedRound]
    ) -> dict[Claim, str]:
        """Judge and record rounds; give the outcome of each question."""
        # From here on, an outage of the ledger must not lose the sampled votes.
        ends = await retries.until_done_aside(lambda: judging.judge(self._scorer, plan, model, finished))
        kept = await retries.until_done_aside(lambda: claims.settle(ends))
        instrumentation.rounds_settled(kept, sampled=plan.sampling.votes_of is None)
        if again := [end.claim.job for end in kept if end.answer is None]:
            # First: otherwise the question would wait behind all messages of a large run again.
            await asyncio.to_thread(settlement.publish, again, first=True)
        late = dict.fromkeys((each.claim for each in finished), settlement.TOO_LATE)
        return late | {end.claim: end.outcome for end in kept}

    async def _sample(
        self,
        plan: Plan,
        model: Model | None,
        batch: Sequence[Claim],
        asked: Sequence[PromptQuestion],
        failed: dict[Claim, str | VotequeueError],
    ) -> AsyncGenerator[list[FinishedRound], None]:
        """Sample the votes of a batch; give the questions in groups that finish at the same time.

        A question whose sampling fails goes to ``failed``, with its error.
        """
        self._require_same(plan)
        examples, adapter = await asyncio.to_thread(
            lambda: (
                self._examples(plan, asked, batch[0].job.run),
                models.chosen("lora", plan.sampling.lora),
            )
        )
        name = adapter.name if adapter else None
        stops = plan.sampling.stop != "never" or plan.sampling.vote_budget is not None
        folds = (
            await asyncio.to_thread(folds_of, batch) if stops or plan.deadline else [UNLABELLED] * len(batch)
        )
        rounds = {
            asyncio.create_task(self._ask(plan, model, name, *question)): question[:2]
            for question in zip(batch, asked, examples, folds, strict=True)
        }
        try:
            while rounds:
                finished = []
                for task in await _first_finished(rounds):
                    claim, question = rounds.pop(task)
                    try:
                        result = task.result()
                    except (UserError, NotServedHere):
                        raise
                    except VotequeueError as error:
                        failed[claim] = error
                    else:
                        last = result.final or claim.attempt >= plan.sampling.max_attempts
                        finished.append(FinishedRound(claim, question, result, last))
                if finished:
                    yield finished
        finally:
            for task in rounds:
                task.cancel()
            await asyncio.gather(*rounds, return_exceptions=True)

    def _examples(self, plan: Plan, asked: Sequence[PromptQuestion], run: str) -> list[list[FewShotExample]]:
        if plan.examples is None:
            return [[] for _ in asked]
        sampling = plan.sampling
        retriever = self._retriever(sampling.retriever)
        # More than are shown: each voice shows the nearest ones with a text of its own.
        count = CANDIDATES_PER_EXAMPLE * sampling.num_examples
        if sampling.vary == "examples":
            count *= max(sampling.votes_by_voice.values())
        if sampling.examples_per == "question":
            return retriever.nearest(plan.examples, asked, count, sampling.same_problem, run)
        sought = [_without_question(question) for question in asked]
        distinct = list(dict.fromkeys(sought))
        nearest = retriever.nearest(plan.examples, distinct, count, False, run)
        found = dict(zip(distinct, nearest, strict=True))
        return [found[each] for each in sought]

    async def _ask(
        self,
        plan: Plan,
        model: Model | None,
        adapter: str | None,
        claim: Claim,
        asked: PromptQuestion,
        examples: list[FewShotExample],
        fold: int,
    ) -> SampledRound:
        progress = self.meter.begin(claim.job.run, claim)
        partial = None
        if plan.sampling.stop == "exact" or plan.sampling.vote_budget is not None:
            partial = await asyncio.to_thread(PartialRound, self._scorer, plan, model, claim, asked, fold)

        async def keep(votes: Sequence[Completion], sampled: RoundRecord) -> None:
            place = claim, asked, fold, votes, sampled
            judged = await retries.until_done_aside(
                lambda: judging.judge_early(self._scorer, plan, model, *place)
            )
            await asyncio.gather(*map(self._early.submit, judged))

        voting = progress, fold, partial, keep if plan.deadline is not None else None
        return await self._asker.ask(plan, claim, asked, examples, adapter, *voting)

    def _require_same(self, plan: Plan) -> None:
        """Raise `NotServedHere` unless the worker has the run's generator and model."""
        generator, model = plan.sampling.generator, plan.sampling.model
        if generator != self._kind:
            raise NotServedHere(f"the run is for generator {generator}, this worker has {self._kind}")
        here = self._generator.identity.model
        if model not in (None, here):
            raise NotServedHere(f"the run is for the model {model}, this worker has {here} (VOTEQUEUE_MODEL)")


async def _keep_early(votes: list[EarlyVote], _: Ended) -> list[None]:
    await retries.until_done_aside(lambda: deadlines.keep(votes))
    return [None] * len(votes)


async def _first_finished(
    rounds: Collection["asyncio.Task[SampledRound]"],
) -> "list[asyncio.Task[SampledRound]]":
    """Wait for the first round to finish, and a little for others; give the finished ones in order."""
    await asyncio.wait(rounds, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(rounds, timeout=SETTLED_TOGETHER)
    return [task for task in rounds if task.done()]


def _without_question(asked: PromptQuestion) -> PromptQuestion:
    """Keep a question's problem only, unless it has none."""
    return PromptQuestion(asked.problem, "", ()) if asked.problem.strip() else asked


@dataclass(frozen=True)
class Batching:
    """How a run's questions become batches: of which size, and whether an entry's are claimed together."""

    size: int
    by_entry: bool

    def size_of(self, claim: Claim) -> int:
        """Give a question's maximum batch size: its run's, halved with each death of its work."""
        return max(1, self.size >> claim.losses)


def batching(run: str) -> Batching:
    """Tell how a run's questions become batches; they are claimed by entry if its prompts share examples."""
    try:
        sampling = plan_of(run).sampling
    except ServiceUnreachable:
        raise
    except (Refused, UserError):
        return Batching(1, by_entry=False)  # there is no such run, or its round ends in this error
    return Batching(sampling.batch, sampling.examples_per == "entry")


def is_exclusive(claim: Claim) -> bool:
    """Tell whether a question's batch must run alone, because its work has died more than once.

    A single death nearly always means that a worker was stopped, and costs no parallelism.
    """
    return claim.losses >= EXCLUSIVE_FROM


def _loaded(batch: Sequence[Claim]) -> tuple[Plan, list[PromptQuestion], Model | None]:
    """Read the plan of a batch's run, the questions, and the scorer."""
    plan = plan_of(batch[0].job.run)
    return plan, _asked(batch), models.chosen("scorer", plan.sampling.scorer)


def _asked(batch: Sequence[Claim]) -> list[PromptQuestion]:
    places = [(claim.entry, claim.question) for claim in batch]
    questions = runs.load_asked(batch[0].job.run, places)
    return [questions[place] for place in places]
