"""The messages: small typed references into the ledger, one model a queue.

    Infer(run="round1", item=41)

The word of the queue is the class's name in lower case, and nothing else: task, worker module, extra and
compose service are called the same. What is to be done stands in the ledger, not in the message.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared import answers
from shared.answers import ReaderName
from shared.dataset import Question
from shared.voting import Fallback


class Job(BaseModel):
    """A reference to one item of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    queue: ClassVar[str]
    run: Annotated[str, Field(min_length=1, max_length=200)]
    item: Annotated[int, Field(ge=0)]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Derive the queue's word from the class's name."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.queue = cls.__name__.lower()


class Infer(Job):
    """Answer one question."""


class Train(Job):
    """Train one model."""


class Reason(Job):
    """Get a reasoning for one question from a chat model."""


class Translate(Job):
    """Make new data from one entry, or from one question of it."""


KINDS: dict[str, type[Job]] = {kind.queue: kind for kind in (Infer, Train, Reason, Translate)}


DATA_QUEUES = (Reason.queue, Translate.queue)  # those that make data through outside services


class Sampling(BaseModel):
    """How a run's questions are answered; stored with the run, so that all its workers agree."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    votes: Annotated[int, Field(ge=1, le=1000)]
    max_attempts: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: int | None
    neighbours: Annotated[int, Field(ge=0)]
    fallback: Fallback
    # What follows is said of every new run; runs that are older have what was so then.
    siblings: bool = True
    # A model's name, `registry.IN_USE` or `registry.NONE`; ``use`` auto: as the scorer's held-out part says.
    scorer: str = "in-use"
    lora: str = "in-use"
    use: Literal["auto", "majority", "gate", "weighted", "gate-weighted"] = "auto"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    # The run whose votes are judged, instead of sampling.
    votes_of: str | None = None
    reader: ReaderName = answers.REFERENCE


class Reasoning(BaseModel):
    """How a run asks for reasonings; ``prompt`` is the version of the prompt they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: Literal["correct", "wrong"]
    letters: Literal["next", "every"]
    provider: str
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    asks: Annotated[int, Field(ge=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    prompt: str
    reader: ReaderName = answers.REFERENCE  # of runs that do not say, as above

    def letters_of(self, question: Question) -> str:
        """Give the letters of a question that reasonings are wanted for; none where its answer is unknown."""
        if self.label == "correct":
            return question.answer or ""
        return question.wrong_letters[:1] if self.letters == "next" else question.wrong_letters


WRITES = 3  # times that a chat model writes a variant until one is kept


class Augmentation(BaseModel):
    """How a run makes new entries from old ones; what a strategy has no use for is ``None``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    strategy: Literal["back-translation", "synonym", "variant"]
    provider: str | None = None
    model: str | None = None
    prompt: str | None = None
    # back-translation
    language: str | None = None
    pivot: str | None = None
    skip: str | None = None
    shortest: Annotated[float, Field(gt=0, le=1)] | None = None
    longest: Annotated[float, Field(ge=1)] | None = None
    # synonym
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    # variant
    samples: Annotated[int, Field(ge=1)] | None = None
    agree: Annotated[int, Field(ge=1)] | None = None
    near_copy: Annotated[float, Field(gt=0, le=1)] | None = None
    reader: ReaderName | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    @property
    def per_question(self) -> bool:
        """Tell whether an item is one question, rather than an entry with all its questions."""
        return self.strategy == "variant"
