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
import hashlib
import time
from collections.abc import Callable, Sequence

from shared import prompt_files, prompts
from shared.dataset import LETTERS
from shared.errors import NotServedHere, Refused, UserError, VotequeueError
from shared.generators import GENERATORS, VLLM
from shared.jobs import Job
from shared.ledger import claims, models, runs
from shared.ledger.claims import Claim, RoundRecord
from shared.ledger.models import Model
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, ModelInput, PromptQuestion
from workers import retries, settlement
from workers.inference import judging, recorded_rounds, waves
from workers.inference.finished_rounds import FinishedRound, Plan, SampledRound, plan_of
from workers.inference.throughput_meter import ThroughputMeter
from workers.inference.waves import Ballot
from workers.ports import Completion, Generator, LetterQuestion, Retriever, Scorer, Step

EXCLUSIVE_FROM = 2  # consecutive deaths from which a question's batch runs alone


class Rounds:
    """Runs rounds of sampling; ``kind`` is the generator's name, ``retriever`` gives a run's by its name."""

    def __init__(
        self,
        generator: Generator,
        scorer: Scorer,
        retriever: Callable[[str | None], Retriever],
        kind: str = VLLM,
    ) -> None:
        self._generator = generator
        self._scorer = scorer
        self._retriever = retriever
        self._kind = kind
        # A call that has begun is paid for.
        self._aborts = not GENERATORS[kind].calls_provider
        self.meter = ThroughputMeter()

    async def run(self, batch: Sequence[Claim]) -> list[str | VotequeueError]:
        """Run one round for claims of one run; return the outcome or the error of each.

        Raises:
            NotServedHere: the worker lacks what the run was enqueued with.
            UserError: a service does not answer, or the worker lacks a requirement.
        """
        try:
            return await self._run(batch)
        finally:
            self.meter.end(batch[0].job.run, batch)

    async def _run(self, batch: Sequence[Claim]) -> list[str | VotequeueError]:
        plan = await asyncio.to_thread(plan_of, batch[0].job.run)
        asked = await asyncio.to_thread(_asked, batch)
        model = await asyncio.to_thread(models.chosen, "scorer", plan.sampling.scorer)
        outcomes: dict[Claim, str | VotequeueError] = {}
        if plan.sampling.votes_of is None:
            sampled = await self._sample(plan, model, batch, asked)
            most = plan.sampling.max_attempts
            finished = [
                FinishedRound(claim, question, result, result.final or claim.attempt >= most)
                for claim, question, result in zip(batch, asked, sampled, strict=True)
                if isinstance(result, SampledRound)
            ]
            outcomes = {
                claim: result
                for claim, result in zip(batch, sampled, strict=True)
                if not isinstance(result, SampledRound)
            }
        else:
            finished = await asyncio.to_thread(recorded_rounds.recorded, plan.sampling, batch, asked)
        # From here on, an outage of the ledger must not lose the sampled votes.
        ends = await retries.until_done_aside(lambda: judging.judge(self._scorer, plan, model, finished))
        kept = await retries.until_done_aside(lambda: claims.settle(ends))
        await asyncio.to_thread(settlement.publish, [end.claim.job for end in kept if end.answer is None])
        late = dict.fromkeys((each.claim for each in finished), settlement.TOO_LATE)
        outcomes |= late | {end.claim: end.outcome for end in kept}
        return [outcomes[claim] for claim in batch]

    async def _sample(
        self, plan: Plan, model: Model | None, batch: Sequence[Claim], asked: Sequence[PromptQuestion]
    ) -> list[SampledRound | VotequeueError]:
        template = self._require_same(plan)
        examples = await asyncio.to_thread(self._examples, plan, asked, batch[0].job.run)
        adapter = await asyncio.to_thread(models.chosen, "lora", plan.sampling.lora)
        name = adapter.name if adapter else None
        rounds = (
            self._ask(plan, model, template, name, *each) for each in zip(batch, asked, examples, strict=True)
        )
        results = await asyncio.gather(*rounds, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not _is_of_question(result):
                raise result
        return results  # type: ignore[return-value]  # the loop above raises all others

    def _examples(self, plan: Plan, asked: Sequence[PromptQuestion], run: str) -> list[list[FewShotExample]]:
        if plan.examples is None:
            return [[] for _ in asked]
        sampling = plan.sampling
        retriever = self._retriever(sampling.retriever)
        count, same_problem = sampling.num_examples, sampling.same_problem
        return retriever.nearest(plan.examples, asked, count, same_problem, run)

    async def _ask(
        self,
        plan: Plan,
        model: Model | None,
        template: PromptTemplate,
        adapter: str | None,
        claim: Claim,
        asked: PromptQuestion,
        examples: list[FewShotExample],
    ) -> SampledRound:
        sampling, style = plan.sampling, self._style(plan.sampling)
        prompt, tokens, examples = self._fit(template, asked, examples, style, sampling)
        progress = self.meter.begin(claim.job.run, claim, sampling.votes)
        seed, begun = _seed(sampling.seed, claim), time.time()

        ballot = None
        if sampling.stop == "exact":
            ballot = await asyncio.to_thread(Ballot, self._scorer, plan, model, claim, asked)
        forces = sampling.asks_letters(sampling.max_attempts if ballot and ballot.final else claim.attempt)
        letters = LetterQuestion(template.opening, LETTERS[: len(asked.options)])

        async def ask(first: int, count: int) -> list[Completion]:
            part, counted = sampling.model_copy(update={"votes": count}), progress.after(first)
            votes = await self._generator.sample(prompt, part, seed, adapter, counted, claim.job, Step(first))
            if forces:
                return await self._force_letters(votes, prompt, letters, asked, part, adapter, claim.job)
            return votes

        if ballot:
            await waves.sample(ballot, ask, sampling.first_wave, self._aborts)
        votes = [] if ballot else await ask(0, sampling.votes)
        record = RoundRecord(
            generator=self._generator.identity.name,
            adapter=adapter,
            prompt=prompts.digest(prompt),
            prompt_tokens=tokens,
            examples=[example.position for example in examples],
            seed=seed,
            sampled_at=begun,
            seconds=time.time() - begun,
            style=style,
            unfinished=len(ballot.coming) if ballot else None,
            aborted_tokens=sum(progress.abort_rest().values()) if ballot else None,
        )
        return ballot.sampled(record) if ballot else SampledRound(votes, record)

    def _style(self, sampling: Sampling) -> str:
        if sampling.prompt_style == "auto":
            return prompt_files.CHAT if self._generator.chats else prompt_files.COMPLETION
        return sampling.prompt_style

    def _fit(
        self,
        template: PromptTemplate,
        asked: PromptQuestion,
        examples: list[FewShotExample],
        style: str,
        sampling: Sampling,
    ) -> tuple[ModelInput, int, list[FewShotExample]]:
        """Build the prompt with as many examples as fit the engine; give its tokens and those examples.

        Raises:
            Refused: the question alone does not fit.
        """
        room = sampling.max_tokens + (sampling.max_thinking or 0)
        for count in range(len(examples), -1, -1):
            prompt = template.build(asked, examples[:count], style, sampling.examples_as)
            tokens = self._generator.count_tokens(prompt, sampling)
            if self._generator.fits(tokens, room):
                return prompt, tokens, examples[:count]
        raise Refused(
            f"the question does not fit the engine with {room} tokens of answer: "
            "raise VOTEQUEUE_MAX_MODEL_LEN or lower --max-tokens"
        )

    async def _force_letters(
        self,
        votes: list[Completion],
        prompt: ModelInput,
        letters: LetterQuestion,
        asked: PromptQuestion,
        sampling: Sampling,
        adapter: str | None,
        job: Job,
    ) -> list[Completion]:
        """Ask the votes that end without a letter for one."""
        texts = [judging.read(vote, sampling, len(asked.options)) for vote in votes]
        unread = {at: text.text for at, text in enumerate(texts) if text.letter is None}
        if not unread:
            return votes
        ended = [dataclasses.replace(votes[at], text=text) for at, text in unread.items()]
        chosen = await self._generator.choose(prompt, ended, letters, sampling, adapter, job)
        forced = dict(zip(unread, chosen, strict=True))
        return [dataclasses.replace(vote, forced=forced.get(at)) for at, vote in enumerate(votes)]

    def _require_same(self, plan: Plan) -> PromptTemplate:
        """Give the run's prompt; raise `NotServedHere` unless the worker has it, generator and model."""
        generator, model = plan.sampling.generator, plan.sampling.model
        if generator != self._kind:
            raise NotServedHere(f"the run is for generator {generator}, this worker has {self._kind}")
        here = self._generator.identity.model
        if model not in (None, here):
            raise NotServedHere(f"the run is for the model {model}, this worker has {here} (VOTEQUEUE_MODEL)")
        if plan.prompt is None:
            raise NotServedHere("the run is for the prompt of another version of votequeue")
        return plan.prompt


def _is_of_question(error: BaseException) -> bool:
    """Tell whether an error concerns one question, rather than the worker with all its questions."""
    return isinstance(error, VotequeueError) and not isinstance(error, UserError | NotServedHere)


def batch_size(claim: Claim) -> int:
    """Give a question's maximum batch size: its run's, halved with each death of its work."""
    return max(1, plan_of(claim.job.run).sampling.batch >> claim.losses)


def is_exclusive(claim: Claim) -> bool:
    """Tell whether a question's batch must run alone, because its work has died more than once.

    A single death nearly always means that a worker was stopped, and costs no parallelism.
    """
    return claim.losses >= EXCLUSIVE_FROM


def _asked(batch: Sequence[Claim]) -> list[PromptQuestion]:
    places = [(claim.entry, claim.question) for claim in batch]
    questions = runs.load_asked(batch[0].job.run, places)
    return [questions[place] for place in places]


def _seed(seed: int | None, claim: Claim) -> int | None:
    """Derive the seed of a question's round, so that a repeated run samples the same votes."""
    if seed is None:
        return None
    name = f"{seed}:{claim.key}:{claim.attempt}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
