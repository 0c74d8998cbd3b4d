"""Command-line flags, generated from the models that declare a run's options (`shared.options`).

    @options.flags_of(Sampling)
    def infer(data: ..., given: dict[str, Any]): ...    has --votes, --max-tokens, ...

Typer reads a command's options from its signature, so `flags_of` adds one parameter per field. cyclopts and
tyro support such models directly, but lack the command groups, shell completion and error style that Typer
gives the rest of this command line.
"""

import contextlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from producers.enqueue import option_checks
from shared import options
from shared.errors import InvalidOption
from shared.options import Augmentation, Flag, Sampling
from shared.settings import PREFIX, Settings
from shared.strategies import STRATEGIES

_BEFORE = "_before"
# The strategy that an option of `enqueue translate` is shown under.
_USERS = {name: strategy for strategy in STRATEGIES.built_in.values() for name in strategy.options}

NewRun = Annotated[str | None, typer.Option("--run", help="name of the run; default: derived from the data")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="skip invalid lines and list them")]
Force = Annotated[bool, typer.Option("--force", help="overwrite the file even if a run reads it")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
ReportTo = Annotated[
    str | None,
    typer.Option(
        "--report-to",
        help=Settings.model_fields["report_to"].description,
        show_default=f"none; {PREFIX}REPORT_TO",
    ),
]


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an `InvalidOption` into an error of usage (exit code 2); also a decorator of commands."""
    try:
        yield
    except InvalidOption as error:
        raise typer.BadParameter(error.problem, param_hint=error.option) from None


def flags_of(
    model: type[BaseModel], unset: str = "none", into: str = "given"
) -> Callable[[Callable[..., None]], Any]:
    """Add a flag for each option of a model; the command receives the given ones as a dict, ``into``.

    ``unset`` is the help text for the default of an option that has none.
    """
    flags = {name: flag for name in model.model_fields if (flag := options.flag_of(model, name))}

    def decorated(command: Callable[..., None]) -> Any:
        def run(**arguments: Any) -> None:
            older = {name: arguments.pop(name + _BEFORE, None) for name in flags}
            given = {name: arguments.pop(name) for name in flags}
            given |= {name: value for name, value in older.items() if value is not None}
            chosen = {name: value for name, value in given.items() if value is not None}
            with usage_errors():
                command(**arguments, **{into: chosen})

        parameters = list(_with_flags(command, model, flags, unset, into))
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorated


def _with_flags(
    command: Callable[..., None], model: type[BaseModel], flags: dict[str, Flag], unset: str, into: str
) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != into:
            yield parameter
            continue
        for name, flag in flags.items():
            option = _option(model, name, flag, unset)
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            if flag.before:
                kind: Any = _kind(model.model_fields[name].annotation)
                hidden = Annotated[kind | None, typer.Option(flag.before, hidden=True)]
                yield inspect.Parameter(
                    name + _BEFORE, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hidden
                )


def _option(model: type[BaseModel], name: str, flag: Flag, unset: str) -> Any:
    field = model.model_fields[name]
    kind = _kind(field.annotation)
    spelling = flag.spelling or option_checks.option_of(name)
    if kind is bool and "/" not in spelling:
        spelling = f"{spelling}/--no-{spelling.removeprefix('--')}"
    user = _USERS.get(name) if model is Augmentation else None
    option = typer.Option(
        spelling,
        help=field.description,
        show_default=str(user.options[name]) if user else _default(model, name, flag, unset),
        rich_help_panel=f"Strategy {user.name}" if user else None,
    )
    return Annotated[kind | None, option]


def _default(model: type[BaseModel], name: str, flag: Flag, unset: str) -> str:
    if flag.shown:
        return flag.shown
    default = model.model_fields[name].default
    if default is PydanticUndefined or (default is None and unset != "none"):
        return unset
    text = "none" if default is None else str(default)
    setting = "batch_size" if name == "batch" else name
    if not issubclass(model, Sampling) or setting not in Settings.model_fields:
        return text
    return f"{text}; {PREFIX}{setting.upper()}"


def _kind(annotation: Any) -> type:
    """Return the type with which a flag is parsed; the model validates the value."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, str)):
        return str
    if origin in (Union, types.UnionType):
        return _kind(next(kind for kind in get_args(annotation) if kind is not type(None)))
    # A list is given as one comma-separated text.
    kind: type = str if origin is tuple else annotation
    return kind


def split_commas(text: str) -> tuple[str, ...]:
    """Split a text at its commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))
