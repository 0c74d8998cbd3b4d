"""Training recipes: the hyper-parameters of a training, stored in full with its run and its model.

    load("reference", ScorerTraining)  ->  {"input": "reasoning", "objective": "classification", ...}

A recipe is a TOML file with a value for each hyper-parameter: a file beside this module or the user's own.
``reference`` has the reference's values. docs/log.md has the measurements of ``verifier``.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared import text_files
from shared.errors import UserError
from shared.options import Count, Derived, Flag, Positive, flag_of, renamed

Share = Annotated[float, Field(gt=0, lt=1)]
LEVEL = 0.05  # of tests
_FOLDER = Path(__file__).parent
_MAX_BYTES = 1 << 20
_RECIPE = "recipe: a name, or a TOML file of your own"


@dataclass(frozen=True)
class ScorerInput:
    """What a scorer reads: optionally the question, then each of its ``answers`` or the texts of votes."""

    question: bool
    answers: bool


INPUTS = {
    "reasoning": ScorerInput(question=False, answers=False),
    "question+reasoning": ScorerInput(question=True, answers=False),
    "question+answer": ScorerInput(question=True, answers=True),
}


class _Training(BaseModel):
    """The hyper-parameters of all trainings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: Annotated[str, Flag(shown="VOTEQUEUE_MODEL")] = Field(description="weights to start from")
    epochs: Positive = Field(description="passes over the training data")
    max_steps: Count | None = Field(None, description="steps after which training stops early")
    learning_rate: Positive = Field(description="peak learning rate")
    batch_size: Count = Field(description="texts (or pairs) per batch")
    accumulation: Count = Field(description="batches per training step (gradient accumulation)")
    max_length: Annotated[int, Field(ge=8)] = Field(description="maximum length of a text, in tokens")
    optimizer: str = Field(description="transformers optimiser name: lomo, adamw_torch, ...")
    held_out: Share = Field(description="share of entries held out")
    seed: int = Field(description="seed for training and the held-out split")
    report_to: Annotated[tuple[str, ...], Derived()]


class ScorerTraining(_Training):
    """How a scorer is trained."""

    target: Annotated[Literal["scorer"], Derived()] = "scorer"
    recipe: str = Field("verifier", description=_RECIPE)
    input: Literal["reasoning", "question+reasoning", "question+answer"] = Field(
        description="input of the scorer: reasoning, question+reasoning or question+answer"
    )
    # Older recipes and records lack it.
    thinking: bool = Field(False, description="read a vote's thinking before its text")
    objective: Literal["classification", "pairwise"] = Field(
        description="loss: classification (right or wrong), pairwise (which of two votes is right)"
    )
    tune: Literal["all", "lora", "head"] = Field(
        description="weights to train: all, lora (adapters), head (on frozen layers)"
    )
    layers: Positive | None = Field(None, description="layers to keep; below 1: share of the layers to keep")
    freeze_embeddings: Annotated[bool, Flag("--freeze-embeddings/--train-embeddings")] = Field(
        description="freeze the token embeddings (three times as fast on CPUs)"
    )
    balance: bool = Field(description="train on as many right as wrong texts of each question")
    calibrate: bool = Field(description="calibrate scores and choose thresholds on the held-out part")
    promote: bool = Field(
        description="use the scorer for new runs if it beats the plain majority and the scorer in use"
    )
    # Older recipes and records lack it.
    promotion_level: Share = Field(
        LEVEL, description="level of the tests that promote the scorer, and that later switch it off"
    )


class LoraTraining(_Training):
    """How a LoRA adapter for the generator is trained; ``examples`` are digests of few-shot example sets."""

    target: Annotated[Literal["lora"], Derived()] = "lora"
    recipe: str = Field("lora", description=_RECIPE)
    rank: Count = Field(description="rank of the adapter")
    alpha: Count = Field(description="LoRA alpha: the adapter is scaled by alpha / rank")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(description="dropout during training")
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = Field(description="layers to adapt")
    num_examples: Annotated[int, Field(ge=0), Flag(before="--neighbours")] = Field(
        description="solved examples in a prompt",
        validation_alias=AliasChoices("num_examples", "neighbours"),  # the latter in older records
    )
    per_question: Count = Field(description="right texts per question to train on")
    examples: Annotated[tuple[str, ...], Derived()] = ()
    # The digest of the prompt file; older trainings lack it.
    prompt: Annotated[str | None, Derived()] = None
    # The digests of the prompts of texts of other voices.
    voice_prompts: Annotated[dict[str, str], Derived()] = Field({}, exclude_if=lambda prompts: not prompts)


Training = ScorerTraining | LoraTraining
READ: TypeAdapter[Training] = TypeAdapter(Annotated[Training, Field(discriminator="target")])


def load(name: str, model: type[_Training]) -> dict[str, Any]:
    """Load a recipe by the name of a built-in one, or from a file.

    Raises:
        UserError: the name is unknown; the file is not TOML; a key or value is invalid.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in names(model):
        raise UserError(f"recipe {name!r}: there are {', '.join(names(model))}, or name a .toml file")
    try:
        values = renamed(tomllib.loads(text_files.read(path, _MAX_BYTES)))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    keys = {field for field in model.model_fields if flag_of(model, field)} - {"recipe"}
    if other := next((key for key in values if key not in keys), None):
        raise UserError(f"{path}: {other!r} is not a key of this recipe")
    try:
        model.model_validate({"base": "any", "report_to": (), **values})
    except ValidationError as error:
        raise UserError(f"{path}: {_explained(error)}") from None
    return {**values, "recipe": name}


def names(model: type[_Training]) -> list[str]:
    """List the built-in recipes for a kind of training."""
    return ["lora"] if model is LoraTraining else ["verifier", "reference"]


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"{key!r} is missing"
    return f"{key} = {first['input']!r}: {first['msg']}"
