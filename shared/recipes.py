"""How models are trained: the options of a training, stored with its run and with the model it makes.

    ScorerTraining.model_validate({**RECIPES["reference"], "base": "Qwen2-0.5B", ...})

A recipe is a set of options that belong together. Every number of ``reference`` is the reference's own. What
is learned from, `training_examples` knows.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
ANSWER = "question+answer"  # the input that is no text of a vote, but each answer a question has


class _Training(BaseModel):
    """What all trainings are told; ``max_steps`` ends one early, ``report_to`` names trackers (wandb)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str
    epochs: Positive
    max_steps: Count | None
    learning_rate: Positive
    batch_size: Count
    accumulation: Count
    max_length: Annotated[int, Field(ge=8)]
    optimizer: str
    held_out: Share
    seed: int
    report_to: tuple[str, ...]


class ScorerTraining(_Training):
    """How a scorer is trained."""

    target: Literal["scorer"] = "scorer"
    recipe: str
    input: Literal["reasoning", "question+reasoning", "question+answer"]
    objective: Literal["classification", "pairwise"]
    tune: Literal["all", "lora", "head"]
    # How many layers are kept, the first ones; below 1, which share of them.
    layers: Positive | None
    freeze_embeddings: bool
    balance: bool
    calibrate: bool
    # Whether it comes into use when it has shown that it is better than none.
    promote: bool


class LoraTraining(_Training):
    """How a LoRA adapter for the generator is trained; ``examples`` are digests of sets that prompts show."""

    target: Literal["lora"] = "lora"
    rank: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    neighbours: Annotated[int, Field(ge=0)]
    per_question: Count
    examples: tuple[str, ...] = ()


Training = ScorerTraining | LoraTraining
READ: TypeAdapter[Training] = TypeAdapter(Annotated[Training, Field(discriminator="target")])

RECIPES: dict[str, dict[str, Any]] = {
    # Ours: the generator's own state at an answer, after two thirds of its layers, knows more of whether it
    # is right than the generator says. See docs/log.md for what was measured.
    "verifier": {
        "input": ANSWER,
        "objective": "classification",
        "tune": "head",
        "layers": 0.67,
        "freeze_embeddings": False,
        "balance": True,
        "calibrate": True,
        "promote": True,
        "epochs": 20,
        "max_steps": None,
        "learning_rate": 1e-3,
        "batch_size": 32,
        "accumulation": 1,
        "max_length": 1024,
        "optimizer": "adamw_torch",
        "held_out": 0.1,
        "seed": 42,
    },
    # Whole and unchanged: the baseline. The batch size it leaves open.
    "reference": {
        "input": "reasoning",
        "objective": "classification",
        "tune": "all",
        "layers": None,
        "freeze_embeddings": False,
        "balance": False,
        "calibrate": False,
        "promote": True,
        "epochs": 3,
        "max_steps": None,
        "learning_rate": 1e-4,
        "batch_size": 8,
        "accumulation": 1,
        "max_length": 512,
        "optimizer": "lomo",
        "held_out": 0.1,
        "seed": 42,
    },
}
