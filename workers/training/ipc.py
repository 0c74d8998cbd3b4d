"""Messages between a worker and its training process, one JSON object a line.

    {"kind": "step", "step": 120, "total_steps": 300, "metrics": {"loss": 0.61, "learning_rate": 8e-05}}

The worker sends the order, and then confirms every few seconds that the claim still holds. The process
reports its progress and its end.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.voting import Rule

HOLDS = b"holds\n"  # the worker writes this while it holds the claim


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartTraining(_Message):
    """The order to train on a run's examples, in ``folder``; ``parent`` is the worker's pid.

    The process ends ``patience`` seconds after the last confirmation of the claim.
    """

    run: str
    fence: int
    folder: Path
    parent: int
    patience: float


class Step(_Message):
    """Metrics of one step: loss, learning rate, held-out metrics."""

    kind: Literal["step"] = "step"
    step: int
    total_steps: int
    metrics: dict[str, float]


class Saved(_Message):
    """A checkpoint is complete."""

    kind: Literal["saved"] = "saved"
    step: int
    total_steps: int


class TrainedModel(_Message):
    """The complete model is in ``folder``; ``problems`` are the digests of those it was trained on."""

    kind: Literal["trained"] = "trained"
    name: str
    folder: Path
    metrics: dict[str, Any]
    rule: Rule | None
    beats_majority: bool | None
    problems: list[str]


class Failed(_Message):
    """A retry would fail in the same way; ``reason`` is for the user."""

    kind: Literal["failed"] = "failed"
    reason: str


class Stopped(_Message):
    """The training stopped on request, after a checkpoint."""

    kind: Literal["stopped"] = "stopped"


Message = Step | Saved | TrainedModel | Failed | Stopped
READ: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
