"""The ports: protocols of the classes that the queues need; `wiring` chooses the implementations.

await generator.sample("...### 推理\\n", sampling, seed=7)  ->  [Completion("甲……\\n答案是：A", 31), ...]
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shared.errors import Policy, VotequeueError
from shared.jobs import Job
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import FewShotExample, Message, ModelInput, PromptQuestion
from shared.providers import Limits, Price, Usage
from shared.result_reader import Execution
from shared.training_examples import Text
from shared.voices import REASONING


class Interrupted(VotequeueError):
    """The worker was stopped before the work was complete: the item is released unchanged."""

    policy = Policy.AGAIN
    outcome = "not made"

    def __init__(self, message: str = "the worker was stopped") -> None:
        super().__init__(message)


@dataclass(frozen=True)
class Completion:
    """One sampled text and its number of tokens, with those of its thinking.

    ``finish_reason`` says why it ended (``stop``, ``length``); ``mean_logprob`` is the mean log-probability
    of its tokens, in nats and at temperature 1. None: the engine does not report it. ``thinking`` is what the
    model thought before its answer; ``text`` does not contain it. ``forced`` is the letter that the model
    chose when it was asked for one. ``voice`` names the `shared.voices.Voice`. A program has an
    ``execution``; if it was asked for again, ``first`` is its first text, and how that ended. ``place`` is
    the vote's in its round.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    mean_logprob: float | None = None
    thinking: str | None = None
    forced: str | None = None
    voice: str = REASONING
    execution: Execution | None = None
    first: tuple[str, str] | None = None
    place: int = 0


@dataclass(frozen=True)
class Step:
    """Which votes of a question's round a request is for: those from the place ``first`` on, from 0.

    ``name`` tells it from another request for the same votes.
    """

    first: int = 0
    name: str = "vote"


WHOLE_ROUND = Step()
# How many are retrieved for each example that a prompt shows: not all have a text of its voice.
CANDIDATES_PER_EXAMPLE = 10


@dataclass(frozen=True)
class LetterQuestion:
    """What a vote is continued with to get its letter: ``opening`` ("答案是："), then one of ``letters``."""

    opening: str
    letters: str


class TrainingListener(Protocol):
    """Receives the progress of a training, and decides when it must stop."""

    def step(self, step: int, total_steps: int, metrics: dict[str, float]) -> None:
        """Receive the metrics of one step."""

    def saved(self, step: int, total_steps: int) -> None:
        """Receive that a checkpoint is complete."""

    def stopping(self) -> bool:
        """Tell whether the training is to stop after a checkpoint."""


@dataclass(frozen=True)
class TrainingContext:
    """Where a training works: its job's folder, the fence of its claim, and the listener it reports to.

    ``checkpoint_every`` is in seconds.
    """

    folder: Path
    fence: int
    checkpoint_every: float
    listener: TrainingListener

    def output_folder(self) -> Path:
        """Create an empty folder for the trained model."""
        folder = self.folder / str(self.fence) / "made"
        folder.mkdir(parents=True)
        return folder


class Progress(Protocol):
    """Receives the progress of one question's votes."""

    def count(self, vote: int, tokens: int, finished: bool) -> None:
        """Receive a vote's number of tokens so far, and whether it is finished."""


class Generator(Protocol):
    """Samples votes from a language model."""

    @property
    def identity(self) -> GeneratorIdentity:
        """Give the identity; available once the generator has started."""

    @property
    def chats(self) -> bool:
        """Tell whether the model has a chat template and is no base model; available as the identity is."""

    async def start(self) -> None:
        """Load the model; the generator accepts prompts once this returns."""

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
        """Sample ``sampling.votes`` texts after a prompt, with the named LoRA adapter or with none.

        A provider may give fewer; the others are then asked for one by one.

        A text after a raw prompt ends at the run's stop sequences, a turn of a chat where the model ends it.

        ``progress`` receives token counts during generation. ``job`` and ``step`` are the question's and the
        request's, which paid calls are recorded for. ``seed`` is the round's: a vote's own is the sum of the
        seed and its place. Cancelling this aborts the votes, unless they are calls.

        Raises:
            EngineDied: the engine has died; the next call starts a new one.
            Refused: the engine can never accept this prompt.
            NotServedHere: this worker has no such adapter, or no such provider.
            As `Gateway.sample`, of a generator that calls a provider.
        """

    async def choose(
        self,
        prompt: ModelInput,
        votes: Sequence[Completion],
        question: LetterQuestion,
        sampling: Sampling,
        adapter: str | None = None,
        job: Job | None = None,
    ) -> list[str | None]:
        """Ask for the letter of each vote that was sampled after a prompt; None: the model gave none of them.

        Raises as `sample` does.
        """

    def count_tokens(self, prompt: ModelInput, sampling: Sampling) -> int:
        """Count a prompt's tokens, with those of the chat template.

        Raises:
            Refused: the model has no chat template, or it fails.
        """

    def fits(self, prompt_tokens: int, max_tokens: int) -> bool:
        """Tell whether a prompt leaves room for an answer of ``max_tokens`` tokens."""

    async def stop(self) -> None:
        """Stop the engine and its processes."""


class Executor(Protocol):
    """Runs programs that a model wrote, isolated from the machine; called from several threads."""

    def run(self, program: str) -> Execution:
        """Run a program within the limits of the settings; whatever it does, no error is raised."""


class Scorer(Protocol):
    """Estimates whether reasonings are sound."""

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Give, for each question and each of its round's votes, the probability in [0, 1] that it is sound.

        ``name`` selects the scorer. The votes' letters are those that their run's reader extracted.

        Raises:
            NotServedHere: this worker has no such scorer.
        """


class Retriever(Protocol):
    """Finds the solved questions nearest to given ones."""

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        """Give up to ``count`` solved examples for each question, nearest first, never the question itself.

        Without ``same_problem``, other questions about its problem are excluded too. ``run`` is the
        questions', which paid calls are recorded for.

        Raises:
            ServiceUnreachable: the index server does not answer.
            As `Gateway.embed`, of a retriever that calls a provider.
        """


# Outside services


@dataclass(frozen=True)
class Service:
    """One model of one account at one provider: the unit of limits, quotas and pauses.

    ``account`` is a digest of the account's identity, never a credential. ``priced``: the price is known, and
    not 0 for lack of a setting.
    """

    provider: str
    model: str
    account: str
    limits: Limits
    price: Price
    priced: bool = True

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
class VotesPrompt(Prompt):
    """A prompt for several votes: a raw text, or the turns of a chat with the arguments of its template.

    ``letters``: the reply must be one of them.
    """

    votes: int = 1
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    messages: tuple[Message, ...] = ()
    template_args: Mapping[str, Any] = field(default_factory=dict)
    letters: str | None = None


@dataclass(frozen=True)
class Needs:
    """A call's usage in advance: ``likely`` is an estimate, for limits; ``most`` a bound, for budgets."""

    likely: Usage
    most: Usage


@dataclass(frozen=True)
class Reply:
    """A chat model's reply and its usage."""

    text: str
    usage: Usage


@dataclass(frozen=True)
class Votes:
    """The votes that one request brought, and their usage."""

    completions: list[Completion]
    usage: Usage


@dataclass(frozen=True)
class Embedded:
    """The vectors of some texts, in the order of the texts, and their usage."""

    vectors: list[list[float]]
    usage: Usage


@dataclass(frozen=True)
class Translated:
    """Translations in the order of the texts, and their usage."""

    texts: list[str]
    usage: Usage


class ChatModel(Protocol):
    """A chat model at a provider."""

    @property
    def service(self) -> Service:
        """Give the service that the model belongs to."""

    def complete(self, prompt: Prompt) -> Reply:
        """Answer one message, in one call, without retries.

        Raises:
            Throttled, Unavailable, Unreadable: the call may be retried later.
            Exhausted, Barred: the service accepts no calls from this account.
            Refused: the service will never answer this message.
        """


class Sampler(Protocol):
    """A model at a provider that samples votes.

    ``one_by_one``: it has shown that it gives one vote a request, whatever it is asked for. ``chats``: it has
    not shown that its model has no chat template.
    """

    one_by_one: bool
    chats: bool

    @property
    def service(self) -> Service:
        """Give the service that the model belongs to."""

    def sample(self, prompt: VotesPrompt) -> Votes:
        """Sample up to ``prompt.votes`` votes, in one call; raises as `ChatModel.complete` does."""


class EmbeddingModel(Protocol):
    """A model at a provider that embeds texts."""

    @property
    def service(self) -> Service:
        """Give the service that the model belongs to; its limits bound the texts of a call."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed some texts, in one call; raises as `ChatModel.complete` does."""


class Translator(Protocol):
    """A translation service."""

    @property
    def service(self) -> Service:
        """Give the service; its limits bound the texts and characters of a call."""

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Estimate what translating some texts uses."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts, in one call; raises as `ChatModel.complete` does."""


class Permit(Protocol):
    """The right to make one call to a service."""

    def await_moment(self, call: int | None = None) -> None:
        """Sleep until the call may be made; the caller must then make it at once.

        ``call`` is its number in the ledger.

        Raises:
            Interrupted: the worker stops.
            Exhausted: the service asks for a pause that is too long to wait for.
            ServiceUnreachable: the broker does not answer.
        """

    def rest(self, seconds: float) -> None:
        """Wait before the call begins.

        Raises:
            Interrupted: the worker stops.
            ServiceUnreachable: the broker does not answer.
        """

    def answered(self, used: Usage) -> None:
        """Report that the call was answered, and its usage."""

    def slow_down(self, delay: float | None, message: str) -> None:
        """Make all callers wait because the service throttled a call: for ``delay`` seconds if it gave them.

        Raises:
            ServiceUnreachable: the broker does not answer.
        """


class Limiter(Protocol):
    """Keeps all workers of an account within its limits."""

    def admit(self, service: Service, needs: Needs) -> AbstractContextManager[Permit]:
        """Wait for one of the account's concurrent calls.

        Raises:
            Exhausted: the daily quota is used up.
            Refused: the call needs more tokens than the limit per minute.
            Interrupted: the worker stops.
            ServiceUnreachable: the broker does not answer.
        """
