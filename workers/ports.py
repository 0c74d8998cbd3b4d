"""What the queues need of the world, as protocols; `wiring` names what stands behind each.

await generator.sample("...### 推理\\n", sampling, seed=7)  ->  [Completion("甲……\\n答案是：A", 31), ...]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.jobs import Sampling
from shared.prompts import Asked, Solved


@dataclass(frozen=True)
class Completion:
    """One sampled text and how many tokens it has."""

    text: str
    tokens: int


class Generator(Protocol):
    """Samples votes from a language model."""

    async def start(self) -> None:
        """Load the model; questions may be asked once this returns."""

    async def sample(self, prompt: str, sampling: Sampling, seed: int | None) -> list[Completion]:
        """Sample ``sampling.votes`` texts after a prompt.

        Raises:
            EngineDied: the engine is gone; the next call starts a new one.
            Refused: the engine will never take this prompt.
        """

    def fits(self, prompt: str, max_tokens: int) -> bool:
        """Tell whether a prompt leaves room for an answer of ``max_tokens`` tokens."""

    async def stop(self) -> None:
        """Stop the engine and its processes."""


class Scorer(Protocol):
    """Judges whether a reasoning is sound."""

    def refresh(self) -> str | None:
        """Take up the scorer to use from now on; give its version, ``None`` while there is none."""

    def score(self, texts: Sequence[tuple[Asked, str]]) -> list[float]:
        """Give, for each question and reasoning, the probability in [0, 1] that it is sound."""


class Retriever(Protocol):
    """Finds the solved questions nearest to those asked."""

    def nearest(self, digest: str, asked: Sequence[Asked], count: int) -> list[list[Solved]]:
        """Give up to ``count`` solved examples for each question, nearest first, never the question itself.

        Raises:
            ServiceUnreachable: the index server does not answer.
        """
