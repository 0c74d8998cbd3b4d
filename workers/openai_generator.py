"""Sample votes through a provider: any OpenAI-compatible server, called within limits and budget.

    votes of item 41: step "vote 1" (5 votes asked for, 5 given), next round "vote 6"

A step is named by the first vote that it brings. So a reply that is on record is found again, whatever became
of its round: votes that were paid for are never bought twice.
"""

import asyncio
import functools
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
    """A generator that has no engine.

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
        self._under_way: dict[tuple[Job, str], asyncio.Future[list[Completion]]] = {}

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
        """Sample votes in one request; a server may give fewer than asked for."""
        asked_for = self._accept(prompt, sampling, adapter, job)
        before = len(await asyncio.to_thread(recorded_votes.earlier_votes, asked_for))
        stop = tuple(prompt_store.stops(sampling)) if isinstance(prompt, str) else ()
        # A server has one limit for both.
        limit = sampling.max_tokens + (sampling.max_thinking or 0)
        # With one seed, votes of separate requests would all be the same.
        own_seed = None if seed is None else seed + step.first
        votes = 1 if self._sampler.one_by_one else sampling.votes
        more = {"votes": votes, "top_p": sampling.top_p, "stop": stop, "seed": own_seed}
        request = _request(prompt, sampling, limit, sampling.temperature, **more)
        reply = await self._call(asked_for, f"{step.name} {before + step.first + 1}", request)
        completions = reply[: sampling.votes]  # a reply on record may have more than are asked for now
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
        """Ask for the letter of each different vote, in a request of its own."""
        asked_for = self._accept(prompt, sampling, adapter, job)
        requests = [_letter_request(prompt, vote, question, sampling) for vote in votes]
        # The text names the vote: its place may differ when the round is tried again.
        steps = [f"letter {prompts.digest(request.text)[:12]}" for request in requests]
        replies = await asyncio.gather(*map(functools.partial(self._call, asked_for), steps, requests))
        return [letter_of(reply[0].text, question.letters) for reply in replies]

    def _accept(self, prompt: ModelInput, sampling: Sampling, adapter: str | None, job: Job | None) -> Job:
        """Give the job that calls are recorded for, of a run that this worker serves."""
        provider = self._sampler.service.provider
        if sampling.provider != provider or adapter is not None or job is None:
            wanted = f"the provider {sampling.provider}" + (f" and the adapter {adapter}" if adapter else "")
            raise NotServedHere(f"the run is for {wanted}, this worker has the provider {provider} only")
        if not isinstance(prompt, str) and not self._sampler.chats:
            raise Refused("the server has no chat template for the model: use --prompt-style completion")
        return job

    async def _call(self, job: Job, step: str, request: VotesPrompt) -> list[Completion]:
        """Make one request in a thread, unless its reply is on record, or the same one is under way."""
        if (job, step) not in self._under_way:
            call = asyncio.get_running_loop().run_in_executor(
                self._threads, self._gateway.sample, job, step, self._sampler, request
            )
            self._under_way[job, step] = call
            call.add_done_callback(lambda _: self._under_way.pop((job, step)))
        return await self._under_way[job, step]

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count a prompt's tokens, or estimate them where the model's tokenizer is not at hand."""
        return self._count(prompts.plain_text(prompt))

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Tell whether prompt and answer fit ``VOTEQUEUE_MAX_MODEL_LEN``."""
        return prompt_tokens + max_tokens <= self._context

    async def stop(self) -> None:
        """Wait for the calls in flight: their replies are recorded."""
        await asyncio.to_thread(self._threads.shutdown)


def _letter_request(
    prompt: ModelInput, vote: Completion, question: LetterQuestion, sampling: Sampling
) -> VotesPrompt:
    """Ask for a vote's letter: at the end of its text, or in another turn of its chat."""
    text, opening = vote.text.strip(), question.opening.rstrip()
    asked: ModelInput
    if isinstance(prompt, str):
        asked = f"{prompt}{text}\n{opening}"
    else:
        asked = (*prompt, Message("assistant", text or _NOTHING), Message("user", opening))
    # A model that thinks does so again.
    limit = sampling.max_tokens if vote.thinking else _LETTER_TOKENS
    return _request(asked, sampling, limit, 0.0, letters=question.letters)


def _request(
    prompt: ModelInput, sampling: Sampling, max_tokens: int, temperature: float, **more: Any
) -> VotesPrompt:
    return VotesPrompt(
        prompts.plain_text(prompt),
        max_tokens,
        temperature,
        messages=() if isinstance(prompt, str) else prompt,
        template_args=template_arguments(sampling.template_arg),
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
