"""One round of sampling for a batch of claimed questions: retrieve, prompt, sample, score, vote, settle.

    await Rounds(generator, scorer, retriever).run([claim])  ->  ["B: majority, 3 of 5 votes"]

The adapter and the scorer of a run are pinned when it is enqueued. A run with `follow` looks them up per
batch. A rescoring run takes the recorded votes of another run instead of sampling.

A question without an accepted vote becomes pending and gets a new message, so that batches stay full. The
order is: commit to the ledger, then publish, then acknowledge (by returning).
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from shared import answers, prompts, voting
from shared.errors import NotServedHere, Refused, UserError, VotequeueError
from shared.generators import VLLM
from shared.ledger import claims, engine, models, prompt_store, runs
from shared.ledger import votes as recorded_votes
from shared.ledger.claims import Claim, RoundRecord, Settled, VoteRecord
from shared.ledger.models import Model
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, PromptQuestion
from shared.training_examples import Text
from shared.voting import Rule, Vote, VotingMode
from workers import retries, settlement
from workers.inference.throughput_meter import ThroughputMeter
from workers.ports import Completion, Generator, Retriever, Scorer

EXCLUSIVE_FROM = 2  # consecutive deaths from which a question's batch runs alone


@dataclass(frozen=True)
class _Plan:
    """How the questions of one run are answered."""

    sampling: Sampling
    examples: str | None
    # None: this worker does not know it.
    prompt: PromptTemplate | None


@dataclass(frozen=True)
class _Sampled:
    """A round's votes and their sources."""

    votes: list[Completion]
    record: RoundRecord | None


@dataclass(frozen=True)
class _FinishedRound:
    """A question of a batch with its round's votes; ``last``: this is its last round."""

    claim: Claim
    asked: PromptQuestion
    sampled: _Sampled
    last: bool


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
        plan = await asyncio.to_thread(_plan, batch[0].job.run)
        asked = await asyncio.to_thread(_asked, batch)
        outcomes: dict[Claim, str | VotequeueError] = {}
        if plan.sampling.votes_of is None:
            sampled = await self._sample(plan, batch, asked)
            finished = [
                _FinishedRound(claim, question, result, claim.attempt >= plan.sampling.max_attempts)
                for claim, question, result in zip(batch, asked, sampled, strict=True)
                if isinstance(result, _Sampled)
            ]
            outcomes = {
                claim: result
                for claim, result in zip(batch, sampled, strict=True)
                if not isinstance(result, _Sampled)
            }
        else:
            finished = await asyncio.to_thread(_recorded, plan.sampling.votes_of, batch, asked)
        # From here on, an outage of the ledger must not lose the sampled votes.
        ends = await retries.until_done_aside(lambda: self._judge(plan, finished))
        kept = await retries.until_done_aside(lambda: claims.settle(ends))
        await asyncio.to_thread(settlement.publish, [end.claim.job for end in kept if end.answer is None])
        late = dict.fromkeys((each.claim for each in finished), settlement.TOO_LATE)
        outcomes |= late | {end.claim: end.outcome for end in kept}
        return [outcomes[claim] for claim in batch]

    async def _sample(
        self, plan: _Plan, batch: Sequence[Claim], asked: Sequence[PromptQuestion]
    ) -> list[_Sampled | VotequeueError]:
        template = self._require_same(plan)
        examples = await asyncio.to_thread(self._examples, plan, asked, batch[0].job.run)
        adapter = await asyncio.to_thread(models.chosen, "lora", plan.sampling.lora)
        name = adapter.name if adapter else None
        rounds = (self._ask(plan, template, name, *each) for each in zip(batch, asked, examples, strict=True))
        results = await asyncio.gather(*rounds, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not _is_of_question(result):
                raise result
        return results  # type: ignore[return-value]  # the loop above raises all others

    def _examples(self, plan: _Plan, asked: Sequence[PromptQuestion], run: str) -> list[list[FewShotExample]]:
        if plan.examples is None:
            return [[] for _ in asked]
        sampling = plan.sampling
        retriever = self._retriever(sampling.retriever)
        count, same_problem = sampling.num_examples, sampling.same_problem
        return retriever.nearest(plan.examples, asked, count, same_problem, run)

    async def _ask(
        self,
        plan: _Plan,
        template: PromptTemplate,
        adapter: str | None,
        claim: Claim,
        asked: PromptQuestion,
        examples: list[FewShotExample],
    ) -> _Sampled:
        sampling = plan.sampling
        prompt = template.completion(asked, examples)
        while not self._generator.fits(tokens := self._generator.count_tokens(prompt), sampling.max_tokens):
            if not examples:
                raise Refused(
                    f"the question does not fit the engine with {sampling.max_tokens} tokens of answer: "
                    "raise VOTEQUEUE_MAX_MODEL_LEN or lower --max-tokens"
                )
            examples = examples[:-1]
            prompt = template.completion(asked, examples)
        progress = self.meter.begin(claim.job.run, claim, sampling.votes)
        seed, begun = _seed(sampling.seed, claim), time.time()
        votes = await self._generator.sample(prompt, sampling, seed, adapter, progress, claim.job)
        record = RoundRecord(
            generator=self._generator.identity.name,
            adapter=adapter,
            prompt=prompts.digest(prompt),
            prompt_tokens=tokens,
            examples=[example.position for example in examples],
            seed=seed,
            sampled_at=begun,
            seconds=time.time() - begun,
        )
        return _Sampled(votes, record)

    def _require_same(self, plan: _Plan) -> PromptTemplate:
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

    def _judge(self, plan: _Plan, finished: Sequence[_FinishedRound]) -> list[Settled]:
        model = models.chosen("scorer", plan.sampling.scorer)
        rule, name = _rule(plan.sampling, model), model.name if model else None
        texts = [(each.asked, _read(plan, each)) for each in finished]
        scores: Sequence[Sequence[float | None]]
        scores = self._scorer.score(name, texts) if name else [[None] * len(each) for _, each in texts]
        return [
            _end(plan.sampling, each, read, scored, rule, name)
            for each, (_, read), scored in zip(finished, texts, scores, strict=True)
        ]


def _is_of_question(error: BaseException) -> bool:
    """Tell whether an error concerns one question, rather than the worker with all its questions."""
    return isinstance(error, VotequeueError) and not isinstance(error, UserError | NotServedHere)


@functools.lru_cache(maxsize=64)
def _plan(run: str) -> _Plan:
    record = runs.get_run(run)
    try:
        sampling = Sampling.of_record(record.options)
    except ValidationError as error:
        raise Refused(f"the run's options are of another votequeue: {error.errors()[0]['msg']}") from error
    return _Plan(sampling, record.examples, prompt_store.find(sampling.prompt))


def batch_size(claim: Claim) -> int:
    """Give a question's maximum batch size: its run's, halved with each death of its work."""
    return max(1, _plan(claim.job.run).sampling.batch >> claim.losses)


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


def _recorded(source: str, batch: Sequence[Claim], asked: Sequence[PromptQuestion]) -> list[_FinishedRound]:
    """Take this round's votes from the run that sampled them."""
    items = [claim.job.item for claim in batch]
    recorded = recorded_votes.recorded_rounds(source, items)
    finished = []
    for claim, question in zip(batch, asked, strict=True):
        rounds = recorded.get(claim.job.item, [])
        votes, record = rounds[claim.attempt - 1] if claim.attempt <= len(rounds) else ([], None)
        completions = [
            Completion(vote.text, vote.tokens, vote.finish_reason, vote.mean_logprob) for vote in votes
        ]
        sampled = _Sampled(completions, record)
        finished.append(_FinishedRound(claim, question, sampled, claim.attempt >= len(rounds)))
    return finished


def _rule(sampling: Sampling, model: Model | None) -> Rule:
    """Give a run's voting rule; the run's options override the scorer's best rule."""
    best = (model.rule if model else None) or voting.GATE
    use = best.use if sampling.use == "auto" else VotingMode(sampling.use)
    if sampling.threshold is not None:
        return Rule(use, sampling.threshold)
    return Rule(use, model.threshold(use) if model else best.threshold)


def _read(plan: _Plan, finished: _FinishedRound) -> list[Text]:
    """Truncate votes and extract their letters with the run's reader."""
    name, options = plan.sampling.reader, len(finished.asked.options)
    stops = (plan.prompt or prompt_store.of_votes(None)).stop
    cut = [answers.READERS[name].cut(vote.text, stops) for vote in finished.sampled.votes]
    return [Text(text=text, letter=answers.extract(text, options, name)) for text in cut]


def _end(
    sampling: Sampling,
    finished: _FinishedRound,
    read: Sequence[Text],
    scores: Sequence[float | None],
    rule: Rule,
    scorer: str | None,
) -> Settled:
    claim, votes, records = finished.claim, [], []
    for completion, text, score in zip(finished.sampled.votes, read, scores, strict=True):
        accepted = rule.accepts(text.letter, score)
        votes.append(Vote(text.letter, score))
        records.append(
            VoteRecord(
                engine.storable(completion.text),
                text.letter,
                score,
                accepted,
                completion.tokens,
                completion.finish_reason,
                completion.mean_logprob,
            )
        )
    answer = voting.decide(votes, rule)
    if answer is None and finished.last:
        answer = voting.fall_back(recorded_votes.earlier_votes(claim.job) + votes, sampling.fallback)
    if answer is None:
        outcome = f"again: none of {len(votes)} votes was accepted"
    else:
        outcome = f"{answer.letter}: {answer.how}, {answer.support} of {len(votes)} votes"
    return Settled(claim, records, answer, outcome, scorer, finished.sampled.record)
