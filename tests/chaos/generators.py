"""Generators without an engine: one that answers at once, and one that takes the time of a GPU.

await SimulatedGpu([[("……答案是：A", 140)] * 5], step=0.025).sample(prompt, sampling, None, job=job)
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

from shared import prompts, settings
from shared.jobs import Job
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import ModelInput
from tests.chaos import questions
from tests.fakes import EnginelessGenerator
from workers.ports import WHOLE_ROUND, Completion, Progress, Step

FASTEST, SLOWEST = 0.05, 0.3  # seconds
UNREADABLE = 0.1  # share of rounds
SLOTS = 256  # sequences that a GPU decodes in the time of one
# Where a worker process finds the votes of a `SimulatedGpu`, and the seconds of a step.
VOTES, STEP = "SIMULATED_GPU_VOTES", "SIMULATED_GPU_STEP"


class FastGenerator(EnginelessGenerator):
    """Answers each question with the letter that belongs to its number, in 50 to 300 ms.

    A question whose text has the poison mark kills the process that samples it. About one round in ten has no
    readable vote, so that questions go through several rounds.
    """

    @property
    def identity(self) -> GeneratorIdentity:
        """Be what the settings name."""
        return GeneratorIdentity(settings.load().model, "none", "fast")

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
        """Give the votes of some places, as `reply` does."""
        return await self.reply(prompt, sampling, job, step)

    async def reply(
        self, prompt: ModelInput, sampling: Sampling, job: Job | None, step: Step
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


class SimulatedGpu(FastGenerator):
    """Takes the time of a GPU, and none of its work.

    A step takes ``step`` seconds for any number of sequences up to `SLOTS`; further ones wait. Prefill takes
    no time. ``votes`` are texts with their tokens, for each question of a data set, which may repeat.
    """

    def __init__(self, votes: Sequence[Sequence[tuple[str, int]]], step: float) -> None:
        self._votes = votes
        self._step = step
        self._slots = asyncio.Semaphore(SLOTS)

    @classmethod
    def of_environment(cls) -> "SimulatedGpu | None":
        """Build the one that the environment describes, if it does."""
        path = os.environ.get(VOTES)
        return cls(json.loads(Path(path).read_text("utf-8")), float(os.environ[STEP])) if path else None

    async def reply(
        self, prompt: ModelInput, sampling: Sampling, job: Job | None, step: Step
    ) -> list[Completion]:
        """Give the votes of some places when as many tokens would have been decoded."""
        assert job is not None
        recorded = self._votes[job.item % len(self._votes)]
        places = range(step.first, step.first + sampling.votes)
        return list(await asyncio.gather(*(self._decode(*recorded[place]) for place in places)))

    async def _decode(self, text: str, tokens: int) -> Completion:
        async with self._slots:
            await asyncio.sleep(tokens * self._step)
        return Completion(text, tokens)
