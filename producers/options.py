"""The options of commands whose defaults are settings.

    Votes  ->  --votes INTEGER  votes a question and round  (5; VOTEQUEUE_VOTES)

A setting's description is its option's help, so that each is said once. What is left out is ``None`` here,
and becomes the setting when the run is enqueued.
"""

from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from shared import settings
from shared.jobs import Sampling, ScorerTraining
from shared.settings import PREFIX, Settings

# Options that are not called as their fields are.
_NAMED = {"language": "--from", "skip": "--skip-pattern"}
_M = TypeVar("_M", bound=BaseModel)


def setting(name: str, option: str, strategy: str | None = None) -> Any:
    """Declare an option whose help and default are a setting's; ``strategy`` is what it is for."""
    field = Settings.model_fields[name]
    default = "none" if field.default is None else field.default
    panel = strategy and f"Strategy {strategy}"
    shown = f"{default}; {PREFIX}{name.upper()}"
    return typer.Option(option, help=field.description, show_default=shown, rich_help_panel=panel)


NewRun = Annotated[str | None, typer.Option("--run", help="name of the run; left out: made from the data")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave bad lines out, and list them")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]

# Of a run that answers questions
Votes = Annotated[int | None, setting("votes", "--votes")]
MaxAttempts = Annotated[int | None, setting("max_attempts", "--max-attempts")]
Batch = Annotated[int | None, setting("batch_size", "--batch")]
MaxTokens = Annotated[int | None, setting("max_tokens", "--max-tokens")]
Temperature = Annotated[float | None, setting("temperature", "--temperature")]
TopP = Annotated[float | None, setting("top_p", "--top-p")]
Seed = Annotated[int | None, setting("seed", "--seed")]
Neighbours = Annotated[int | None, setting("neighbours", "--neighbours")]
Siblings = Annotated[bool | None, setting("siblings", "--siblings/--no-siblings")]
FallbackWord = Annotated[str | None, setting("fallback", "--fallback")]

# Of a run that trains a scorer
Base = Annotated[str | None, setting("scorer_base", "--base")]
InputWord = Annotated[str | None, setting("scorer_input", "--input")]
Layers = Annotated[int | None, setting("scorer_layers", "--layers")]
FreezeEmbeddings = Annotated[bool | None, setting("scorer_freeze_embeddings", "--freeze-embeddings")]
Epochs = Annotated[float | None, setting("scorer_epochs", "--epochs")]
LearningRate = Annotated[float | None, setting("scorer_learning_rate", "--learning-rate")]
BatchSize = Annotated[int | None, setting("scorer_batch_size", "--batch-size")]
MaxLength = Annotated[int | None, setting("scorer_max_length", "--max-length")]
Optimizer = Annotated[str | None, setting("scorer_optimizer", "--optimizer")]
HeldOut = Annotated[float | None, setting("scorer_held_out", "--held-out")]
ScorerSeed = Annotated[int | None, setting("scorer_seed", "--seed")]


def sampling(**given: Any) -> Sampling:
    """Fill in what was not given from the settings.

    Raises:
        typer.BadParameter: a value that cannot be.
    """
    loaded = settings.load()
    defaults = {name: getattr(loaded, name) for name in Sampling.model_fields if name != "batch"}
    return filled(Sampling, {**defaults, "batch": loaded.batch_size}, given)


def scorer_training(**given: Any) -> ScorerTraining:
    """Fill in what was not given from the settings.

    Raises:
        typer.BadParameter: a value that cannot be.
    """
    loaded = settings.load()
    names = [name for name in ScorerTraining.model_fields if name not in ("target", "base")]
    defaults = {name: getattr(loaded, f"scorer_{name}") for name in names}
    return filled(ScorerTraining, {**defaults, "base": loaded.scorer_base or loaded.model}, given)


def filled(model: type[_M], defaults: dict[str, Any], given: dict[str, Any]) -> _M:
    """Make a model of what was given, and of defaults for the rest.

    Raises:
        typer.BadParameter: a value that cannot be.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return model.model_validate({**defaults, **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        option = option_of(str(first["loc"][0]))
        raise typer.BadParameter(f"{first['msg']}, not {first['input']!r}", param_hint=option) from None


def option_of(field: str) -> str:
    """Name the option that a run's field is given by."""
    return _NAMED.get(field, "--" + field.replace("_", "-"))
