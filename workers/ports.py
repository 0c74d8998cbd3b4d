"""The ports: protocols of what the queues need; `wiring` names the class behind each.

await generator.sample("...### 推理\\n", sampling, seed=7)  ->  [Completion("甲……\\n答案是：A", 31), ...]
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.errors import Policy, VotequeueError
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.providers import Limits, Price, Usage
from shared.training_examples import Text


class Interrupted(VotequeueError):
    """The worker was told to stop before the work was through: the item is given back untouched."""

    policy = Policy.AGAIN
    outcome = "not made"

    def __init__(self, message: str = "the worker was stopped") -> None:
        super().__init__(message)


@dataclass(frozen=True)
class Completion:
    """One sampled text and how many tokens it has.

    ``finish_reason`` says why it ended (``stop``, ``length``); ``mean_logprob`` is the mean log-probability
    of its tokens, in nats and at temperature 1. None: the engine does not say.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    mean_logprob: float | None = None


class Ear(Protocol):
    """Hears how far a training is, and says when to stop."""

    def step(self, step: int, of: int, told: dict[str, float]) -> None:
        """Hear the figures of one step of ``of``."""

    def saved(self, step: int, of: int) -> None:
        """Hear that a checkpoint is whole."""

    def stopping(self) -> bool:
        """Tell whether the training is to stop after a checkpoint."""


@dataclass(frozen=True)
class TrainingContext:
    """Where a training works: its job's folder, the fence of the claim it works under, who hears of it.

    ``checkpoint_every`` is in seconds.
    """

    folder: Path
    fence: int
    checkpoint_every: float
    post: Ear

    def made(self) -> Path:
        """Give an empty folder for the model that comes of it."""
        folder = self.folder / str(self.fence) / "made"
        folder.mkdir(parents=True)
        return folder


class Progress(Protocol):
    """Hears how far the votes of one question are."""

    def count(self, vote: int, tokens: int, finished: bool) -> None:
        """Hear how many tokens a vote has so far, and whether it is finished."""


class Generator(Protocol):
    """Samples votes from a language model."""

    @property
    def identity(self) -> GeneratorIdentity:
        """Say what it is; known once it has started."""

    async def start(self) -> None:
        """Load the model; questions may be asked once this returns."""

    async def sample(
        self,
        prompt: str,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Sample ``sampling.votes`` texts after a prompt, with the LoRA adapter of a name or with none.

        ``progress`` hears of the tokens while they are made.

        Raises:
            EngineDied: the engine is gone; the next call starts a new one.
            Refused: the engine will never take this prompt.
            UserError: there is no such adapter here.
        """

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens."""

    def fits(self, prompt: str, max_tokens: int) -> bool:
        """Tell whether a prompt leaves room for an answer of ``max_tokens`` tokens."""

    async def stop(self) -> None:
        """Stop the engine and its processes."""


class Scorer(Protocol):
    """Judges whether reasonings are sound."""

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Give, for each question and each of its round's votes, the probability in [0, 1] that it is sound.

        ``name`` says which scorer judges. The votes' letters are those that their run's reader has read.

        Raises:
            UserError: there is no such scorer here.
        """


class Retriever(Protocol):
    """Finds the solved questions nearest to those asked."""

    def nearest(
        self, digest: str, asked: Sequence[PromptQuestion], count: int, siblings: bool
    ) -> list[list[FewShotExample]]:
        """Give up to ``count`` solved examples for each question, nearest first, never the question itself.

        Without ``siblings``, none about its problem either.

        Raises:
            ServiceUnreachable: the index server does not answer.
        """


# Outside services


@dataclass(frozen=True)
class Service:
    """One model of one account at one provider: what limits, quotas and pauses are kept for.

    ``account`` is a digest of who we are there, never a credential.
    """

    provider: str
    model: str
    account: str
    limits: Limits
    price: Price

    @property
    def name(self) -> str:
        """Name it: ``chat/deepseek-chat@1f0c22aa``."""
        return f"{self.provider}/{self.model}@{self.account}"

    @property
    def whole(self) -> str:
        """Name the account with all its models: ``chat@1f0c22aa``."""
        return f"{self.provider}@{self.account}"


@dataclass(frozen=True)
class Prompt:
    """One message for a chat model."""

    text: str
    max_tokens: int
    temperature: float


@dataclass(frozen=True)
class Needs:
    """What a call may use: by estimate, for limits; at the most, for budgets."""

    likely: Usage
    most: Usage


@dataclass(frozen=True)
class Reply:
    """A chat model's answer, and what it used."""

    text: str
    usage: Usage


@dataclass(frozen=True)
class Translated:
    """Translations in the order of the texts, and what they used."""

    texts: list[str]
    usage: Usage


class ChatModel(Protocol):
    """A chat model at a provider."""

    @property
    def service(self) -> Service:
        """Say what it is."""

    def complete(self, prompt: Prompt) -> Reply:
        """Answer one message, in one call: nothing is retried here.

        Raises:
            Throttled, Unavailable, Unreadable: again, later.
            Exhausted, Barred: the service takes no calls from us.
            Refused: it will never answer this one.
        """


class Translator(Protocol):
    """A translation service."""

    @property
    def service(self) -> Service:
        """Say what it is; its limits say how many texts and characters a call may have."""

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Tell what translating some texts may use."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts, in one call; raises as `ChatModel.complete` does."""


class Permit(Protocol):
    """One caller's turn at a service."""

    def await_moment(self, call: int | None = None) -> None:
        """Sleep until the call may be made; the very next thing to do is to make it.

        ``call`` is its number on record.

        Raises:
            Interrupted: the worker stops.
            Exhausted: the service wants so long a pause that the queue should not wait for it.
            ServiceUnreachable: the broker does not answer.
        """

    def rest(self, seconds: float) -> None:
        """Wait before the call is begun.

        Raises:
            Interrupted: the worker stops.
            ServiceUnreachable: the broker does not answer.
        """

    def answered(self, used: Usage) -> None:
        """Tell that the call was answered, and what it has used."""

    def slow_down(self, delay: float | None, said: str) -> None:
        """Let all callers wait, since the service ``said`` so to this call, for ``delay`` seconds if it told.

        Raises:
            ServiceUnreachable: the broker does not answer.
        """


class Limiter(Protocol):
    """Keeps all workers of an account within its limits."""

    def admit(self, service: Service, needs: Needs) -> AbstractContextManager[Permit]:
        """Wait until one of the calls at once is ours.

        Raises:
            Exhausted: the day's quota is used up.
            Refused: no minute has so many tokens.
            Interrupted: the worker stops.
            ServiceUnreachable: the broker does not answer.
        """
