"""The messages: small typed references to items of the ledger, one model a queue.

    Infer(run="round1", item=41)

A queue's name is the name of its class in lower case. Task, worker module, extra and compose service have the
same name. The ledger, not the message, describes the work.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Job(BaseModel):
    """A reference to one item of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    queue: ClassVar[str]
    run: Annotated[str, Field(min_length=1, max_length=200)]
    item: Annotated[int, Field(ge=0)]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Derive the queue's name from the class's name."""
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


DATA_QUEUES = (Reason.queue, Translate.queue)  # the queues that generate data with outside services
