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


class Difference(_Message):
    """A difference of shares of right answers: ± ``half_width`` (95 %); ``p`` is one-sided."""

    gain: float
    half_width: float
    p: float

    def __str__(self) -> str:
        """Give it in points."""
        return f"{100 * self.gain:+.1f} points (± {100 * self.half_width:.1f}, one-sided p {self.p:.2g})"


class Comparison(_Message):
    """A new scorer's gains; ``obstacle``: why it could not be compared with the scorer in use."""

    questions: int
    entries: int
    over_majority: Difference
    in_use: str | None = None
    over_in_use: Difference | None = None
    obstacle: str | None = None

    def is_better(self, level: float) -> bool:
        """Tell whether the gain over the majority, and that over the scorer in use, are shown."""
        gains = [self.over_majority] + ([self.over_in_use] if self.over_in_use else [])
        return all(each.gain > 0 and each.p <= level for each in gains)

    def __str__(self) -> str:
        """Give the figures as a phrase."""
        phrase = (
            f"on {self.questions} questions in {self.entries} entries that it was not trained on, "
            f"{self.over_majority} over the plain majority"
        )
        return phrase + (
            f", {self.over_in_use} over {self.in_use}, until now in use" if self.over_in_use else ""
        )


class TrainedModel(_Message):
    """The complete model is in ``folder``; ``problems`` are the digests of those it was trained on.

    A scorer has a ``comparison`` if there were held-out votes.
    """

    kind: Literal["trained"] = "trained"
    name: str
    folder: Path
    metrics: dict[str, Any]
    rule: Rule | None
    comparison: Comparison | None
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
