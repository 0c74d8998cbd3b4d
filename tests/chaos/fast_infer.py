"""`workers.infer` over a generator that answers in 50 to 300 ms without an engine.

A question whose text has the poison mark kills the process that samples it. About one round in ten has no
readable vote, so that questions go through several rounds.
"""

import asyncio
import os
import random
import signal
import threading
from collections.abc import Sequence

from shared import prompts, settings
from shared.jobs import Job
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import ModelInput
from shared.settings import Settings
from tests.chaos import questions
from tests.fakes import FakeRetriever, FakeScorer
from workers import wiring
from workers.inference.rounds import Rounds
from workers.ports import WHOLE_ROUND, Completion, Generator, LetterQuestion, Progress, Step

FASTEST, SLOWEST = 0.05, 0.3  # seconds
UNREADABLE = 0.1  # share of rounds


class FastGenerator:
    """Answers each question with the letter that belongs to its number."""

    async def start(self) -> None:
        """Be ready."""

    async def stop(self) -> None:
        """Be gone."""

    @property
    def identity(self) -> GeneratorIdentity:
        """Be what the settings name."""
        return GeneratorIdentity(settings.load().model, "none", "fast")

    chats = False

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count characters."""
        return len(prompts.plain_text(prompt))

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Give none."""
        return [None for _ in votes]

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Take every prompt."""
        return True

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
        """Answer after a moment, or kill this process."""
        await asyncio.sleep(random.uniform(FASTEST, SLOWEST))
        text = prompts.plain_text(prompt)
        if questions.POISON in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if random.random() < UNREADABLE:
            return [Completion("因为如此。", 5)] * sampling.votes
        letter = questions.letter(questions.number_in(text))
        return [Completion(f"因为如此。\n答案是：{letter}", 9)] * sampling.votes


def fast_rounds(settings: Settings, _: threading.Event) -> tuple[Rounds, Generator]:
    """Build what the infer queue stands on, without weights."""
    generator = FastGenerator()
    return Rounds(generator, FakeScorer(), lambda _: FakeRetriever()), generator


wiring.rounds = fast_rounds

from workers.infer import app  # noqa: E402  (only now does `rounds` mean ours)

__all__ = ["app"]
