"""Command-line flags, generated from the models that declare a run's options (`shared.options`).

    @options.flags_of(Sampling)
    def infer(data: ..., given: dict[str, Any]): ...    has --votes, --max-tokens, ...

Typer reads a command's options from its signature, so `flags_of` adds one parameter per field. cyclopts and
tyro support such models directly, but lack the command groups, shell completion and error style that Typer
gives the rest of this command line.
"""

import inspect
import types
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from shared import options, settings
from shared.options import Augmentation, Flag, Sampling
from shared.settings import PREFIX, Settings
from shared.strategies import STRATEGIES

_M = TypeVar("_M", bound=BaseModel)
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
            command(
                **arguments, **{into: {name: value for name, value in given.items() if value is not None}}
            )

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
    spelling = flag.spelling or option_of(name)
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
    if not issubclass(model, Sampling):
        return text
    return f"{text}; {PREFIX}{'BATCH_SIZE' if name == 'batch' else name.upper()}"


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


def sampling(given: dict[str, Any]) -> Sampling:
    """Fill in missing options from the settings.

    Raises:
        typer.BadParameter: a value is invalid.
    """
    loaded = settings.load()
    # A reader that is not set stays unset: the prompt's reading rule then applies.
    unset = {"reader"} - loaded.model_fields_set
    names = options.SamplingDefaults.model_fields.keys() - unset
    defaults = {name: getattr(loaded, name) for name in names}
    return filled(Sampling, {**defaults, "batch": loaded.batch_size}, given)


def filled(model: type[_M], defaults: dict[str, Any], given: dict[str, Any]) -> _M:
    """Build a model from the given options and the defaults.

    Raises:
        typer.BadParameter: a value is invalid.
    """
    try:
        return model.model_validate({**defaults, **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = option_of(str(first["loc"][0]), model)
        raise typer.BadParameter(f"{first['msg']}, not {first['input']!r}", param_hint=option) from None


def refuse_others(
    given: Mapping[str, Any], allowed: Container[str], why: str, model: type[BaseModel]
) -> None:
    """Refuse options that do not apply.

    Raises:
        typer.BadParameter: for the first of them.
    """
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise typer.BadParameter(why, param_hint=option_of(name, model))


def split_commas(text: str) -> tuple[str, ...]:
    """Split a text at its commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def one_of(text: str, option: str, known: Iterable[str]) -> tuple[str, ...]:
    """Split a text at its commas into known names.

    Raises:
        typer.BadParameter: a name is unknown.
    """
    names, allowed = tuple(dict.fromkeys(split_commas(text))), tuple(known)
    for name in names:
        if name not in allowed:
            raise typer.BadParameter(
                f"no {name!r} here; choose from: {', '.join(allowed)}", param_hint=option
            )
    return names


def option_of(field: str, model: type[BaseModel] | None = None) -> str:
    """Return the command-line flag of a run's field."""
    flag = options.flag_of(model, field) if model is not None and field in model.model_fields else None
    return (flag and flag.spelling) or "--" + field.replace("_", "-")
