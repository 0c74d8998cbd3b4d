"""The options of commands whose defaults are settings.

    Votes  ->  --votes INTEGER  votes a question and round  (5; VOTEQUEUE_VOTES)

A setting's description is its option's help, so that each is said once. What is left out is ``None`` here,
and becomes the setting when the run is enqueued.
"""

from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from shared import settings
from shared.jobs import Sampling
from shared.settings import PREFIX, Settings

# Options that are not called as their fields are.
_NAMED = {"language": "--from", "skip": "--skip-pattern"}
_M = TypeVar("_M", bound=BaseModel)


def setting(name: str, option: str, strategy: str | None = None, unset: str = "none") -> Any:
    """Declare an option whose help and default are a setting's; ``strategy`` is what it is for.

    ``unset`` says what it means that the setting has no default.
    """
    field = Settings.model_fields[name]
    default = unset if field.default is None else field.default
    panel = strategy and f"Strategy {strategy}"
    shown = f"{default}; {PREFIX}{name.upper()}"
    return typer.Option(option, help=field.description, show_default=shown, rich_help_panel=panel)


NewRun = Annotated[str | None, typer.Option("--run", help="name of the run; left out: made from the data")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="leave bad lines out, and list them")]
Force = Annotated[bool, typer.Option("--force", help="write over a file even if a run reads it")]
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
ReaderName = Annotated[str | None, setting("reader", "--reader")]
Scorer = Annotated[str | None, setting("scorer", "--scorer")]
Lora = Annotated[str | None, setting("lora", "--lora")]
UseWord = Annotated[str | None, setting("use", "--use")]
Threshold = Annotated[float | None, setting("threshold", "--threshold")]
FallbackWord = Annotated[str | None, setting("fallback", "--fallback")]


def sampling(**given: Any) -> Sampling:
    """Fill in what was not given from the settings.

    Raises:
        typer.BadParameter: a value that cannot be.
    """
    loaded = settings.load()
    names = [name for name in Sampling.model_fields if name not in ("batch", "votes_of")]
    defaults = {name: getattr(loaded, name) for name in names}
    return filled(Sampling, {**defaults, "batch": loaded.batch_size}, given)


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


def refuse(why: str, **given: object) -> None:
    """Refuse options that have no meaning together with others.

    Raises:
        typer.BadParameter: naming the first that was given.
    """
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(why, param_hint=option_of(name))


def option_of(field: str) -> str:
    """Name the option that a run's field is given by."""
    return _NAMED.get(field, "--" + field.replace("_", "-"))
