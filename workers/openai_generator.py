"""Sample votes through a provider: any OpenAI-compatible server, called within limits and budget.

    votes of item 41: step "vote 1" (5 votes asked for, 5 given), next round "vote 6"

A step is named by the first vote that it brings. So a reply that is on record is found again, whatever became
of its round: votes that were paid for are never bought twice.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared import prompts
from shared.errors import NotServedHere
from shared.jobs import Job
from shared.ledger import prompt_store
from shared.ledger import votes as recorded_votes
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.settings import Settings
from workers import wiring
from workers.gateway.gateway import Gateway
from workers.ports import Completion, Generator, Progress, Sampler, VotesPrompt


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
    def identity(self) -> GeneratorIdentity:
        """Give model and account; a provider does not tell its weights."""
        service = self._sampler.service
        return GeneratorIdentity(service.model, service.whole, "openai")

    async def start(self) -> None:
        """Do nothing: the server runs already."""

    async def sample(
        self,
        prompt: str,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None = None,
        progress: Progress | None = None,
        job: Job | None = None,
    ) -> list[Completion]:
        """Sample a round's votes, in one request if the server gives them all."""
        provider = self._sampler.service.provider
        if sampling.provider != provider or adapter is not None or job is None:
            wanted = f"the provider {sampling.provider}" + (f" and the adapter {adapter}" if adapter else "")
            raise NotServedHere(f"the run is for {wanted}, this worker has the provider {provider} only")
        recorded = await asyncio.to_thread(recorded_votes.earlier_votes, job)
        votes = _Round(self, job, len(recorded), prompt, sampling, seed)
        completions = await votes.sample()
        for vote, completion in enumerate(completions):
            if progress is not None:
                progress.count(vote, completion.tokens, finished=True)
        return completions

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens, or estimate them where the model's tokenizer is not at hand."""
        return self._count(prompt)

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
        prompt: str,
        sampling: Sampling,
        seed: int | None,
    ) -> None:
        self._generator, self._job, self._recorded = generator, job, recorded
        self._prompt, self._sampling, self._seed = prompt, sampling, seed

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

    async def _ask(self, place: int, votes: int) -> list[Completion]:
        sampling = self._sampling
        prompt = VotesPrompt(
            self._prompt,
            sampling.max_tokens,
            sampling.temperature,
            votes=votes,
            top_p=sampling.top_p,
            stop=tuple(prompt_store.stops(sampling)),
            # With one seed, votes of separate requests would all be the same.
            seed=None if self._seed is None else self._seed + place,
            endpoint=sampling.endpoint,
        )
        return await self._generator.call(self._job, f"vote {self._recorded + place + 1}", prompt)


def make(settings: Settings, stopping: threading.Event) -> Generator:
    """Build the generator for the provider and model in the settings; raises as `wiring.sampler` does."""
    sampler, counters = wiring.sampler(settings), wiring.counters(settings)

    def count(prompt: str) -> int:
        # A tokenizer takes seconds to load: not before the first prompt.
        return (counters(sampler.service) or prompts.tokens)(prompt)

    gateway = wiring.gateway(settings, stopping)
    return OpenAIGenerator(gateway, sampler, settings.max_model_len, settings.calls_in_flight, count)
