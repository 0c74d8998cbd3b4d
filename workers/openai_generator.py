"""Sample votes through a provider: any OpenAI-compatible server, called within limits and budget.

    votes of item 41: step "vote 1" (5 votes asked for, 5 given), next round "vote 6"

A step is named by the first vote that it brings. So a reply that is on record is found again, whatever became
of its round: votes that were paid for are never bought twice.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared import answers, prompts
from shared.errors import NotServedHere, Refused
from shared.jobs import Job
from shared.ledger import prompt_store
from shared.ledger import votes as recorded_votes
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling, template_arguments
from shared.prompts import Message, ModelInput
from shared.settings import Settings
from workers import wiring
from workers.gateway.gateway import Gateway
from workers.ports import (
    WHOLE_ROUND,
    Completion,
    Generator,
    LetterQuestion,
    Progress,
    Sampler,
    Step,
    VotesPrompt,
)

_BASE = re.compile(r"(?i)(?:^|[-_./])(?:base|pt)(?:$|[-_.:/])")  # in the names of base models
_LETTER = re.compile(r"[\s\"'“（(*]*([A-Za-z])(?![A-Za-z])")
_LETTER_TOKENS = 64  # a server that writes JSON may fill it with white space first
_NOTHING = "…"  # services refuse empty turns


class OpenAIGenerator:
    """A generator that has no engine: each round is one request, or one for each vote.

    ``context`` is the longest prompt with its answer, in tokens, as ``count`` counts them. ``at_once`` is how
    many requests this worker makes at the same time.
    """

    def __init__(
        self,
        gateway: Gateway,
        sampler: Sampler,
        context: int,
        at_once: int,
        count: Callable[[str], int] = prompts.tokens,
    ) -> None:
        self._gateway = gateway
        self._sampler = sampler
        self._context = context
        self._count = count
        self._threads = ThreadPoolExecutor(at_once, "calls")

    @property
    def chats(self) -> bool:
        """Tell whether the model is made for chats, by its name and by what the server said."""
        return self._sampler.chats and not _BASE.search(self._sampler.service.model)

    @property
    def identity(self) -> GeneratorIdentity:
        """Give model and account; a provider does not tell its weights."""
        service = self._sampler.service
        return GeneratorIdentity(service.model, service.whole, "openai")

    async def start(self) -> None:
        """Do nothing: the server runs already."""

    async def sample(
        self,
        prompt: ModelInput,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None = None,
        progress: Progress | None = None,
        job: Job | None = None,
        step: Step = WHOLE_ROUND,
    ) -> list[Completion]:
        """Sample a round's votes, in one request if the server gives them all."""
        votes = await self._round(prompt, sampling, seed, adapter, job, step)
        completions = await votes.sample()
        for vote, completion in enumerate(completions):
            if progress is not None:
                progress.count(vote, completion.tokens, finished=True)
        return completions

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Ask for the letter of each vote, in a request of its own."""
        asking = await self._round(prompt, sampling, None, adapter, job)
        return list(await asyncio.gather(*(asking.choose(vote, question) for vote in votes)))

    async def _round(
        self,
        prompt: ModelInput,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None,
        job: Job | None,
        step: Step = WHOLE_ROUND,
    ) -> "_Round":
        provider = self._sampler.service.provider
        if sampling.provider != provider or adapter is not None or job is None:
            wanted = f"the provider {sampling.provider}" + (f" and the adapter {adapter}" if adapter else "")
            raise NotServedHere(f"the run is for {wanted}, this worker has the provider {provider} only")
        if not isinstance(prompt, str) and not self._sampler.chats:
            raise Refused("the server has no chat template for the model: use --prompt-style completion")
        recorded = await asyncio.to_thread(recorded_votes.earlier_votes, job)
        return _Round(self, job, len(recorded), prompt, sampling, seed, step)

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count a prompt's tokens, or estimate them where the model's tokenizer is not at hand."""
        return self._count(prompts.plain_text(prompt))

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Tell whether prompt and answer fit ``VOTEQUEUE_MAX_MODEL_LEN``."""
        return prompt_tokens + max_tokens <= self._context

    async def stop(self) -> None:
        """Wait for the calls in flight: their replies are recorded."""
        await asyncio.to_thread(self._threads.shutdown)

    @property
    def one_by_one(self) -> bool:
        """Tell whether the server gives one vote a request."""
        return self._sampler.one_by_one

    async def call(self, job: Job, step: str, prompt: VotesPrompt) -> list[Completion]:
        """Make one request in a thread, unless its reply is on record."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._gateway.sample, job, step, self._sampler, prompt
        )


class _Round:
    """The votes of one round of a question that has ``recorded`` votes of earlier rounds."""

    def __init__(
        self,
        generator: OpenAIGenerator,
        job: Job,
        recorded: int,
        prompt: ModelInput,
        sampling: Sampling,
        seed: int | None,
        step: Step,
    ) -> None:
        self._generator, self._job, self._recorded = generator, job, recorded
        self._prompt, self._sampling, self._seed, self._step = prompt, sampling, seed, step

    async def sample(self) -> list[Completion]:
        wanted = self._sampling.votes
        first = await self._ask(0, 1 if self._generator.one_by_one else wanted)
        singles = [self._ask(place, 1) for place in range(len(first), wanted)]
        results = await asyncio.gather(*singles, return_exceptions=True)
        # Only now: the replies of those that succeeded are on record for the next try.
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [*first, *(vote for votes in results if isinstance(votes, list) for vote in votes[:1])][
            :wanted
        ]

    async def _ask(self, at: int, votes: int) -> list[Completion]:
        sampling, place = self._sampling, self._step.first + at
        prompt = self._request(
            self._prompt,
            # A server has one limit for both.
            sampling.max_tokens + (sampling.max_thinking or 0),
            sampling.temperature,
            votes=votes,
            top_p=sampling.top_p,
            stop=tuple(prompt_store.stops(sampling)) if isinstance(self._prompt, str) else (),
            # With one seed, votes of separate requests would all be the same.
            seed=None if self._seed is None else self._seed + place,
        )
        name = f"{self._step.name} {self._recorded + place + 1}"
        return await self._generator.call(self._job, name, prompt)

    async def choose(self, vote: Completion, question: LetterQuestion) -> str | None:
        """Ask for a vote's letter: at the end of its text, or in another turn of its chat."""
        text, opening = vote.text.strip(), question.opening.rstrip()
        asked: ModelInput
        if isinstance(self._prompt, str):
            asked = f"{self._prompt}{text}\n{opening}"
        else:
            asked = (*self._prompt, Message("assistant", text or _NOTHING), Message("user", opening))
        # A model that thinks does so again.
        limit = self._sampling.max_tokens if vote.thinking else _LETTER_TOKENS
        prompt = self._request(asked, limit, 0.0, letters=question.letters)
        # The text names the vote: its place may differ when the round is tried again.
        step = f"letter {self._recorded + 1} {prompts.digest(prompt.text)[:12]}"
        reply = (await self._generator.call(self._job, step, prompt))[0]
        return letter_of(reply.text, question.letters)

    def _request(self, prompt: ModelInput, max_tokens: int, temperature: float, **more: Any) -> VotesPrompt:
        return VotesPrompt(
            prompts.plain_text(prompt),
            max_tokens,
            temperature,
            messages=() if isinstance(prompt, str) else prompt,
            template_args=template_arguments(self._sampling.template_arg),
            **more,
        )


def letter_of(text: str, letters: str) -> str | None:
    """Read the letter of a reply to the question for a letter: ``B``, ``B。``, ``{"answer": "B"}``."""
    match = _LETTER.match(text)
    letter = match[1].upper() if match else answers.extract(text, len(letters))
    return letter if letter and letter in letters else None


def make(settings: Settings, stopping: threading.Event) -> Generator:
    """Build the generator for the provider and model in the settings; raises as `wiring.sampler` does."""
    sampler, counters = wiring.sampler(settings), wiring.counters(settings)

    def count(prompt: str) -> int:
        # A tokenizer takes seconds to load: not before the first prompt.
        return (counters(sampler.service) or prompts.tokens)(prompt)

    gateway = wiring.gateway(settings, stopping)
    return OpenAIGenerator(gateway, sampler, settings.max_model_len, settings.calls_in_flight, count)
