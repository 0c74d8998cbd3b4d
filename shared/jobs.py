"""The messages: small typed references into the ledger, one model a queue.

    Infer(run="round1", item=41)

The word of the queue is the class's name in lower case, and nothing else: task, worker module, extra and
compose service are called the same. What is to be done stands in the ledger, not in the message.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

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


KINDS: dict[str, type[Job]] = {kind.queue: kind for kind in (Infer, Train)}


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


class ScorerTraining(BaseModel):
    """How a scorer is trained; stored with the run and with the model it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    target: Literal["scorer"] = "scorer"
    base: str
    input: Literal["reasoning", "question+reasoning"]
    layers: Annotated[int, Field(ge=1)] | None
    freeze_embeddings: bool
    epochs: Annotated[float, Field(gt=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    max_length: Annotated[int, Field(ge=8)]
    optimizer: str
    held_out: Annotated[float, Field(gt=0, lt=1)]
    seed: int
