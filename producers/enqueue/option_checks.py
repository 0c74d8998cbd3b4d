"""Check the options of a run, and fill in those that were not given.

    sampling({"votes": 9})  ->  Sampling(votes=9, max_attempts=5, ...)
    split({"votes": 9, "limit": 20})  ->  ({"votes": 9}, {"limit": 20})

Commands and the Python API refuse the same options with the same words. No service is called here.
"""

import difflib
import math
import re
from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared import options, settings
from shared.errors import InvalidOption
from shared.options import Reading, Sampling
from shared.providers import PROVIDERS

_M = TypeVar("_M", bound=BaseModel)
_DEFAULT_MODEL = {"chats": "chat_model", "translates": "translation_model"}


def split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort given options into those of `Sampling` and those of `Reading`; ``None`` means not given.

    Raises:
        InvalidOption: there is no such option.
    """
    known = {
        name: model
        for model in (Sampling, Reading)
        for name in model.model_fields
        if options.flag_of(model, name)
    }
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            raise InvalidOption(name, f"there is no such option; {hint}")
    chosen = {name: value for name, value in given.items() if value is not None}
    read = {name: chosen.pop(name) for name in given if name in chosen and known[name] is Reading}
    return chosen, read


def sampling(given: Mapping[str, Any]) -> Sampling:
    """Fill in missing options from the settings.

    Raises:
        InvalidOption: a value is invalid.
    """
    loaded = settings.load()
    # A reader that is not set stays unset: the prompt's reading rule then applies.
    unset = {"reader"} - loaded.model_fields_set
    if "votes" in given and "voices" in given:
        raise InvalidOption("--votes", "it cannot be given with --voices, which counts the votes")
    names = options.SamplingDefaults.model_fields.keys() - unset
    defaults = {name: getattr(loaded, name) for name in names}
    return filled(Sampling, {**defaults, "batch": loaded.batch_size}, given)


def filled(model: type[_M], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> _M:
    """Build a model from the given options and the defaults.

    Raises:
        InvalidOption: a value is invalid.
    """
    try:
        return model.model_validate({**defaults, **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = option_of(str(first["loc"][0]), model)
        raise InvalidOption(option, f"{first['msg']}, not {first['input']!r}") from None


def refuse_others(
    given: Mapping[str, Any], allowed: Container[str], why: str, model: type[BaseModel]
) -> None:
    """Refuse options that do not apply.

    Raises:
        InvalidOption: for the first of them.
    """
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise InvalidOption(option_of(name, model), why)


def option_of(field: str, model: type[BaseModel] | None = None) -> str:
    """Return the command-line flag of a run's field."""
    flag = options.flag_of(model, field) if model is not None and field in model.model_fields else None
    return (flag and flag.spelling) or "--" + field.replace("_", "-")


def amount(budget: float | None) -> float | None:
    """Check an amount of money.

    Raises:
        InvalidOption: it is negative or not finite.
    """
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        raise InvalidOption("--budget", f"expected an amount of money, not {budget:g}")
    return budget


def seconds(option: str, text: str, otherwise: str = "") -> float:
    """Parse a span of time, such as ``30d`` or ``1.5h``; errors name what else is allowed.

    Raises:
        InvalidOption: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None:
        expected = f"expected a time in s, m, h or d, such as 30d or 12h{otherwise}"
        raise InvalidOption(option, f"{expected}, not {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def moment(option: str, text: str) -> float:
    """Parse a future time, ISO 8601 (by default in local time) or a span from now, by the ledger's clock.

    Raises:
        InvalidOption: it is none, or too near.
    """
    # `--help` needs this module, but no database.
    from shared.ledger import runs
    from shared.ledger.schema import SAMPLING_ENDS

    now = runs.ledger_time()
    try:
        at = datetime.fromisoformat(text).timestamp()
    except ValueError:
        at = now + seconds(option, text, ", or an ISO time such as 2026-12-01T18:00")
    if at <= now + SAMPLING_ENDS:
        raise InvalidOption(option, f"{text!r} is past or less than {SAMPLING_ENDS:.0f} s ahead")
    return at


def default_model(provider: str, ability: str) -> str:
    """Give the model of a provider that is used if none is named; its ability is chats or translates.

    Raises:
        InvalidOption: there is none.
    """
    default = getattr(PROVIDERS[provider], _DEFAULT_MODEL[ability])
    model = settings.load().model if provider == "local" else default
    if model is None:
        raise InvalidOption("--model", f"provider {provider} has no default model: name one")
    return str(model)
