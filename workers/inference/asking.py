"""Ask a question's votes of a round: each voice with its prompt, then letters, executions and repairs.

await Asker(generator, executors).ask(plan, claim, asked, examples, None, progress)
    ->  SampledRound([Completion("……答案是：A", 31), Completion("```python...", 90, execution=...)], [...])
"""

import asyncio
import dataclasses
import hashlib
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from shared import prompt_files, prompts, variety, voices
from shared.dataset import LETTERS
from shared.errors import NotServedHere, Refused, VotequeueError
from shared.ledger import prompt_store, vote_spending
from shared.ledger.claims import Claim, RoundRecord
from shared.options import Sampling
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, Message, ModelInput, PromptQuestion
from shared.voices import VOICES
from workers import instrumentation, retries
from workers.inference import allocation, judging, waves
from workers.inference.finished_rounds import Plan, SampledRound
from workers.inference.throughput_meter import Counter
from workers.inference.waves import PartialRound
from workers.ports import Completion, Executor, Generator, LetterQuestion, Step
from workers.program_replies import program_in

_AT_ONCE = 16  # programs
_SHOWN = 500  # characters of output, to a model that repairs its program
_T = TypeVar("_T")

# Records votes of a round before all of them have come.
Keep = Callable[[Sequence[Completion], RoundRecord], Awaitable[object]]


@dataclass(frozen=True)
class _Request:
    """The votes of one voice in a round of a question: ``sampling`` and ``template`` are the voice's.

    Its votes begin at the place ``first`` of the round, those of its voice at the place ``begin``.
    """

    voice: str
    sampling: Sampling
    template: PromptTemplate
    claim: Claim
    asked: PromptQuestion
    examples: Sequence[FewShotExample]
    adapter: str | None
    begin: int
    first: int
    step: str = "vote"
    keep: Keep | None = None

    @property
    def order(self) -> str:
        """Give the options' letters in the order in which its votes see them."""
        return self.sampling.order(self.asked, self.first)

    def by_prompt(self) -> list["_Request"]:
        """Split the request where successive votes see different prompts, and choose their examples."""
        if self.sampling.vary == "none":
            return [dataclasses.replace(self, examples=self.shown_examples())]
        votes = (self.part(at, 1, self.step) for at in range(self.sampling.votes))
        parts = []
        for (_, examples), same in itertools.groupby(votes, lambda vote: (vote.order, vote.shown_examples())):
            first, *others = same
            part = first.part(0, 1 + len(others), self.step)
            parts.append(dataclasses.replace(part, examples=examples))
        return parts

    def shown_examples(self) -> Sequence[FewShotExample]:
        """Choose the examples that its first vote sees: the nearest, or those after its predecessor's."""
        shown, size = list(filter(self.template.shows, self.examples)), self.sampling.num_examples
        if self.sampling.vary != "examples" or not 0 < size <= len(shown):
            return shown[:size]
        # After the last ones, the nearest come again.
        at = (self.first - self.begin) % (len(shown) // size) * size
        return shown[at : at + size]

    def part(self, at: int, votes: int, step: str) -> "_Request":
        """Give the request for some of its votes, from the place ``at`` on."""
        sampling = self.sampling.model_copy(update={"votes": votes})
        return dataclasses.replace(self, sampling=sampling, first=self.first + at, step=step)

    def within(self, places: Sequence[int]) -> "_Request | None":
        """Give the request for those of its votes that have some successive places of the round."""
        mine = [at for place in places if 0 <= (at := place - self.first) < self.sampling.votes]
        return self.part(mine[0], len(mine), self.step) if mine else None


@dataclass(frozen=True)
class _Part:
    """The votes that a request brought, and their sources."""

    request: _Request
    votes: Sequence[Completion]
    record: RoundRecord


class Asker:
    """Asks one generator.

    ``executors`` gives the executor of a voice, if it has one; ``aborts``: votes in flight can be aborted.
    """

    def __init__(
        self, generator: Generator, executors: Callable[[str], Executor | None], aborts: bool = True
    ) -> None:
        self._generator = generator
        # A call that has begun is paid for.
        self._aborts = aborts
        self._executors = executors
        self._threads = ThreadPoolExecutor(_AT_ONCE, "programs")

    async def ask(  # noqa: PLR0913, PLR0917  what a round depends on
        self,
        plan: Plan,
        claim: Claim,
        asked: PromptQuestion,
        examples: Sequence[FewShotExample],
        adapter: str | None,
        progress: Counter,
        fold: int,
        partial: PartialRound | None = None,
        keep: Keep | None = None,
    ) -> SampledRound:
        """Ask all voices at the same time; their votes are in the order of the run's voices.

        If the run stops at agreement, each voice votes once first. With ``partial``, votes are asked for in
        waves until it is decided. ``keep`` gets votes as they come.
        """
        counts = plan.sampling.votes_by_voice
        places = itertools.accumulate(counts.values(), initial=0)
        common = (claim, asked, examples, adapter)
        requests = [
            _Request(
                voice, plan.sampling.of_voice(voice), _template(plan, voice), *common, first, first, keep=keep
            )
            for voice, first in zip(counts, places, strict=False)
        ]
        if partial is not None:
            return await self._ask_in_waves(partial, requests, progress, plan.sampling, fold)
        if not plan.sampling.stops_at_agreement(fold):
            return _joined(await self._ask_all(requests, progress))
        name = f"round {claim.attempt} vote"
        first = await self._ask_all([request.part(0, 1, name) for request in requests], progress)
        if _agree(first, asked):
            joined = _joined(first)
            unfinished = plan.sampling.votes - len(joined.votes)
            records = _stopped(joined.records, unfinished, 0)
            return dataclasses.replace(joined, records=records, places=[part.request.first for part in first])
        rest = [request.part(1, request.sampling.votes - 1, name) for request in requests]
        others = await self._ask_all([request for request in rest if request.sampling.votes], progress)
        return _joined([*first, *others])

    async def _ask_in_waves(
        self,
        partial: PartialRound,
        requests: Sequence[_Request],
        progress: Counter,
        sampling: Sampling,
        fold: int,
    ) -> SampledRound:
        parts: list[_Part] = []

        async def draw(places: Sequence[int]) -> list[Completion]:
            wanted = [part for request in requests if (part := request.within(places))]
            drawn = await self._ask_all(
                [_final(part) if partial.final else part for part in wanted], progress
            )
            parts.extend(drawn)
            return [vote for part in drawn for vote in part.votes]

        if sampling.vote_budget is None:
            await waves.sample(partial, draw, sampling.first_wave, self._aborts)
        else:
            claim = requests[0].claim
            try:
                await allocation.sample(partial, draw, claim, sampling, fold)
            except VotequeueError:
                if not self._aborts:
                    # The replies that have come are on record: the next try does not sample them again.
                    await retries.written_aside(lambda: vote_spending.give_back(claim))
                raise
        aborted = sum(progress.abort_rest().values())
        return partial.sampled(_stopped(_joined(parts).records, len(partial.coming), aborted))

    async def _ask_all(self, requests: Sequence[_Request], progress: Counter) -> list["_Part"]:
        parts = [part for request in requests for part in request.by_prompt()]
        if self._aborts and requests[0].keep:  # a request gives its votes when all of them are finished
            parts = [part.part(at, 1, part.step) for part in parts for at in range(part.sampling.votes)]
        return list(itertools.chain(*await _all([self._ask_whole(part, progress) for part in parts])))

    async def _ask_whole(self, request: _Request, progress: Counter) -> list["_Part"]:
        """Ask for votes; those that a provider's reply lacks are asked for one by one."""
        instrumentation.ASKED.labels(request.voice).inc(request.sampling.votes)
        part = await self._ask(request, progress)
        missing = () if self._aborts else range(len(part.votes), request.sampling.votes)
        rest = [self._ask(request.part(at, 1, request.step), progress) for at in missing]
        return [part, *await _all(rest)]

    async def _ask(self, request: _Request, progress: Counter) -> "_Part":
        sampling, claim, template = request.sampling, request.claim, request.template
        style = self._style(request)
        executor = self._executors(request.voice)
        prompt, tokens, examples = self._fit(request, style)
        seed, begun = _seed(sampling.seed, claim), time.time()
        counted = progress.expect(request.first, sampling.votes)
        votes = await self._generator.sample(
            prompt, sampling, seed, request.adapter, counted, claim.job, Step(request.first, request.step)
        )
        votes = [
            dataclasses.replace(vote, voice=request.voice, place=request.first + at)
            for at, vote in enumerate(votes)
        ]

        def record() -> RoundRecord:
            return RoundRecord(
                generator=self._generator.identity.name,
                adapter=request.adapter,
                prompt=prompts.digest(prompt),
                prompt_tokens=tokens,
                examples=[example.position for example in examples],
                seed=seed,
                sampled_at=begun,
                seconds=time.time() - begun,
                style=style,
                voice=request.voice,
            )

        async def finish(some: list[Completion]) -> list[Completion]:
            if executor is not None:
                some = await self._execute(request, executor, prompt, some, seed)
            elif template.opening and sampling.asks_letters(claim.attempt):
                some = await self._force_letters(request, prompt, some)
            if request.keep is not None:
                await request.keep(some, record())
            return some

        # Votes that are recorded as they come do not wait for each other's letters and programs.
        groups = [[vote] for vote in votes] if request.keep else [votes]
        finished = itertools.chain(*await _all([finish(some) for some in groups]))
        return _Part(request, list(finished), record())

    def _style(self, request: _Request) -> str:
        """Give the style of a request's prompt.

        Raises:
            Refused: its voice wants a chat, and the model is not made for chats.
        """
        if VOICES[request.voice].chats and not self._generator.chats:
            raise Refused(
                f"the voice {request.voice} needs a model with a chat template: leave it out of --voices"
            )
        if request.sampling.prompt_style == "auto":
            return prompt_files.CHAT if self._generator.chats else prompt_files.COMPLETION
        return request.sampling.prompt_style

    def _fit(self, request: _Request, style: str) -> tuple[ModelInput, int, Sequence[FewShotExample]]:
        """Build the prompt with as many examples as fit the engine; give its tokens and those examples.

        Raises:
            Refused: the question alone does not fit.
        """
        sampling, template, examples = request.sampling, request.template, request.examples
        room = sampling.max_tokens + (sampling.max_thinking or 0)
        seen = variety.reordered(request.asked, request.order)
        for count in range(len(examples), -1, -1):
            prompt = template.build(seen, examples[:count], style, sampling.examples_as)
            tokens = self._generator.count_tokens(prompt, sampling)
            if self._generator.fits(tokens, room):
                return prompt, tokens, examples[:count]
        raise Refused(
            f"the question does not fit the engine with {room} tokens of answer: "
            "raise VOTEQUEUE_MAX_MODEL_LEN or lower --max-tokens"
        )

    async def _force_letters(
        self, request: _Request, prompt: ModelInput, votes: list[Completion]
    ) -> list[Completion]:
        """Ask the votes that end without a letter for one."""
        letters = LetterQuestion(request.template.opening, LETTERS[: len(request.asked.options)])
        texts = [judging.read(vote, request.sampling, request.asked).text for vote in votes]
        unread = {at: text.text for at, text in enumerate(texts) if text.letter is None}
        if not unread:
            return votes
        ended = [dataclasses.replace(votes[at], text=text) for at, text in unread.items()]
        chosen = await self._generator.choose(
            prompt, ended, letters, request.sampling, request.adapter, request.claim.job
        )
        own = [letter and request.order[LETTERS.index(letter)] for letter in chosen]
        forced = dict(zip(unread, own, strict=True))
        return [dataclasses.replace(vote, forced=forced.get(at)) for at, vote in enumerate(votes)]

    # Programs

    async def _execute(
        self,
        request: _Request,
        executor: Executor,
        prompt: ModelInput,
        votes: Sequence[Completion],
        seed: int | None,
    ) -> list[Completion]:
        """Run the votes' programs; ask once more for those without a letter, if the run repairs."""
        ran = await asyncio.gather(*(self._run(request, executor, vote) for vote in votes))
        if not request.sampling.repair or isinstance(prompt, str):
            return ran
        return await asyncio.gather(*(self._repair(request, executor, prompt, vote, seed) for vote in ran))

    async def _run(self, request: _Request, executor: Executor, vote: Completion) -> Completion:
        program = program_in(prompt_store.answer_text(vote.text, request.sampling))
        loop = asyncio.get_running_loop()
        execution = await loop.run_in_executor(self._threads, executor.run, program)
        return dataclasses.replace(vote, execution=execution)

    async def _repair(
        self,
        request: _Request,
        executor: Executor,
        prompt: tuple[Message, ...],
        vote: Completion,
        seed: int | None,
    ) -> Completion:
        sampling, ran = request.sampling, vote.execution
        read = judging.read(vote, sampling, request.asked)
        if read.text.letter is not None or ran is None:
            return vote
        error = f"{ran.failure}: {ran.detail}" if ran.failure else ""
        told = request.template.repair(error, "" if ran.failure else ran.output.strip()[-_SHOWN:])
        turns = (*prompt, Message("assistant", read.text.text or "…"), Message("user", told))
        if not self._generator.fits(self._generator.count_tokens(turns, sampling), sampling.max_tokens):
            return vote
        one = sampling.model_copy(update={"votes": 1})
        step = Step(vote.place, "repair")
        try:
            (again,) = await self._generator.sample(
                turns, one, seed, request.adapter, None, request.claim.job, step
            )
        except Refused:
            return vote
        again = dataclasses.replace(
            again,
            voice=vote.voice,
            place=vote.place,
            tokens=vote.tokens + again.tokens,
            first=(vote.text, error or str(read.outcome)),
        )
        return await self._run(request, executor, again)


async def _all(asking: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Wait for all requests, and only then raise the error of one: paid replies are to be recorded."""
    if len(asking) == 1:  # nearly always: a task of its own would only cost time
        return [await asking[0]]
    results = await asyncio.gather(*asking, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _joined(parts: Sequence[_Part]) -> SampledRound:
    """Join the votes in the order of their places, and the records of each voice into one.

    If votes see different prompts, the record has the prompt of the first one, and the examples of all.
    """
    ordered = sorted(parts, key=lambda part: part.request.first)
    records: dict[str, RoundRecord] = {}
    for part in ordered:
        before = records.setdefault(part.record.voice, part.record)
        begun = min(before.sampled_at, part.record.sampled_at)
        ended = max(each.sampled_at + (each.seconds or 0.0) for each in (before, part.record))
        shown = list(dict.fromkeys([*before.examples, *part.record.examples]))
        records[part.record.voice] = dataclasses.replace(
            before, sampled_at=begun, seconds=ended - begun, examples=shown
        )
    return SampledRound([vote for part in ordered for vote in part.votes], list(records.values()))


def _stopped(records: Sequence[RoundRecord], unfinished: int, aborted_tokens: int) -> list[RoundRecord]:
    """Note with the first voice's record how many votes of a round are unfinished."""
    return [
        dataclasses.replace(
            record, unfinished=0 if at else unfinished, aborted_tokens=0 if at else aborted_tokens
        )
        for at, record in enumerate(records)
    ]


def _final(request: _Request) -> _Request:
    """Let votes of a round that has no successor be asked for letters as in the last one."""
    if request.sampling.ask_letter != "last":
        return request
    return dataclasses.replace(request, sampling=request.sampling.model_copy(update={"ask_letter": "always"}))


def _agree(parts: Sequence[_Part], asked: PromptQuestion) -> bool:
    """Tell whether the first votes of all voices name the same letter."""
    letters = (
        (vote.voice, judging.read(vote, part.request.sampling, asked).text.letter)
        for part in parts
        for vote in part.votes
    )
    return voices.agreed(letters) is not None


def _template(plan: Plan, voice: str) -> PromptTemplate:
    template = plan.prompts[voice]
    if template is None:
        raise NotServedHere("the run is for the prompt of another version of votequeue")
    return template


def _seed(seed: int | None, claim: Claim) -> int | None:
    """Derive the seed of a question's round, so that a repeated run samples the same votes."""
    if seed is None:
        return None
    name = f"{seed}:{claim.key}:{claim.attempt}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
