"""Messages between a worker and its training process, one JSON object a line.

    {"kind": "step", "step": 120, "of": 300, "told": {"loss": 0.61, "learning_rate": 8e-05}}

The worker says what to learn, and then, every few seconds, that the claim still holds; the process says how
far it is and how it ended.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.voting import Rule

HOLDS = b"holds\n"  # what the worker writes while the claim is its own


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartTraining(_Told):
    """What a process is to learn: a run's lessons, below ``folder``; ``parent`` is its worker's pid.

    It goes on for ``patience`` seconds after it was last told that the claim holds.
    """

    run: str
    fence: int
    folder: Path
    parent: int
    patience: float


class Step(_Told):
    """Figures of one step of ``of``: loss, learning rate, metrics of the held-out part."""

    kind: Literal["step"] = "step"
    step: int
    of: int
    told: dict[str, float]


class Saved(_Told):
    """A checkpoint is whole."""

    kind: Literal["saved"] = "saved"
    step: int
    of: int


class TrainedModel(_Told):
    """The model is there, in ``folder``, complete; ``problems`` are the digests of those it has seen."""

    kind: Literal["made"] = "made"
    name: str
    folder: Path
    metrics: dict[str, Any]
    rule: Rule | None
    beats_majority: bool | None
    problems: list[str]


class Failed(_Told):
    """Another try would end the same way, for a reason that a person can read."""

    kind: Literal["failed"] = "failed"
    reason: str


class Stopped(_Told):
    """It was told to stop, and did so after a checkpoint."""

    kind: Literal["stopped"] = "stopped"


Message = Step | Saved | TrainedModel | Failed | Stopped
READ: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
