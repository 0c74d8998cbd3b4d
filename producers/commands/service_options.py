"""Options of runs that call outside services, and their checks.

    augmentation("variant", "chat", "qwen-max", samples=7)
        ->  Augmentation(strategy="variant", provider="chat", model="qwen-max", samples=7, agree=4, ...)

As in `options`, what is left out becomes the setting. What a strategy has no use for is refused rather than
ignored. No service is called here.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from producers.commands import options
from shared import prompts, settings
from shared.options import Augmentation, Reasoning
from shared.providers import PROVIDERS
from shared.strategies import STRATEGIES, Strategy

# Of a run that calls outside services
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print calls, cost and time; write nothing, send nothing")
]


def amount(value: float | None) -> float | None:
    """Read an amount of money.

    Raises:
        typer.BadParameter: it is none.
    """
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"an amount of money is expected, not {value:g}")
    return value


Budget = Annotated[
    float | None,
    typer.Option("--budget", callback=amount, help="most to spend on the run, in VOTEQUEUE_CURRENCY"),
]
_CHATTING = ", ".join(name for name, provider in PROVIDERS.built_in.items() if provider.chats)
_FREE = ", ".join(name for name, strategy in STRATEGIES.built_in.items() if not strategy.ability)
_VERBS = {"chats": "chat", "translates": "translation"}
_DEFAULT_MODEL = {"chats": "chat_model", "translates": "translation_model"}

# Of one that gets reasonings
Chatting = Annotated[str, typer.Option("--provider", help=f"who is asked: {_CHATTING}")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="repeatable: the second is asked where the first does not agree",
        show_default="the provider's; local: VOTEQUEUE_MODEL",
    ),
]
Label = Annotated[str, typer.Option("--label", metavar="correct|wrong", help="reasonings for which letters")]
Letters = Annotated[
    str | None,
    typer.Option(
        "--letters",
        metavar="next|every",
        help="wrong letters: the next option, or every other one",
        show_default="next",
    ),
]
# Of one that makes new entries
StrategyName = Annotated[
    str, typer.Option("--strategy", metavar="|".join(STRATEGIES.built_in), help="how they are made")
]
Provider = Annotated[
    str | None,
    typer.Option("--provider", help=f"who translates or chats; the strategy {_FREE} needs none"),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="its model", show_default="the provider's; local: VOTEQUEUE_MODEL"),
]


def reasoning(
    label: str,
    letters: str | None,
    provider: str,
    models: Sequence[str] | None,
    given: dict[str, Any],
) -> Reasoning:
    """Fill in what was not given from the settings and from what is known of the provider.

    Raises:
        typer.BadParameter: a value that cannot be, or a model must be named.
    """
    if label == "correct" and letters is not None:
        raise typer.BadParameter("there is one right letter only", param_hint="--letters")
    _require_provider(provider, "chats")
    defaults = {
        "label": label,
        "letters": letters or "next",
        "provider": provider,
        "models": tuple(dict.fromkeys([*filter(None, models or [])] or [_default_model(provider, "chats")])),
        "prompt": prompts.version("explaining"),
        "reader": settings.load().reader,
    }
    return options.filled(Reasoning, defaults, given)


def augmentation(
    strategy: str, provider: str | None, model: str | None, given: dict[str, Any]
) -> Augmentation:
    """Fill in what a strategy needs and was not given; the rest stays ``None``.

    Raises:
        typer.BadParameter: a value that cannot be, or that the strategy has no use for, or that is missing.
    """
    options.filled(Augmentation, {"strategy": strategy}, {})
    spec = STRATEGIES[strategy]
    service = {} if spec.ability else {"provider": provider, "model": model}
    reason = f"the strategy {strategy} has no use for it"
    options.refuse_others(given | service, spec.options, reason, Augmentation)
    defaults = {**spec.options} | ({"reader": settings.load().reader} if "reader" in spec.options else {})
    if spec.ability:
        defaults |= _service(spec, spec.ability, provider, model)
    chosen = options.filled(Augmentation, {"strategy": strategy, **defaults}, given)
    _require_consistent(chosen)
    return chosen


def _service(strategy: Strategy, ability: str, provider: str | None, model: str | None) -> dict[str, Any]:
    if provider is None:
        raise typer.BadParameter(f"name one of: {', '.join(_capable(ability))}", param_hint="--provider")
    _require_provider(provider, ability)
    return {
        "provider": provider,
        "model": model or _default_model(provider, ability),
        # Who does not chat is not prompted.
        "prompt": strategy.prompt if PROVIDERS[provider].chats else None,
    }


def _require_provider(provider: str, ability: str) -> None:
    """Refuse a provider that is none, or cannot do what is asked of it.

    Raises:
        typer.BadParameter: naming those that can.
    """
    able = _capable(ability)
    if provider not in able:
        problem = f"does not support {_VERBS[ability]}" if provider in PROVIDERS else "does not exist"
        raise typer.BadParameter(
            f"provider {provider!r} {problem}; choose one of: {', '.join(able)}", param_hint="--provider"
        )


def _capable(ability: str) -> list[str]:
    return [name for name, provider in PROVIDERS.items() if getattr(provider, ability)]


def _default_model(provider: str, ability: str) -> str:
    default = getattr(PROVIDERS[provider], _DEFAULT_MODEL[ability])
    model = settings.load().model if provider == "local" else default
    if model is None:
        raise typer.BadParameter(f"provider {provider} has none of its own: name one", param_hint="--model")
    return str(model)


def _require_consistent(chosen: Augmentation) -> None:
    if chosen.samples is not None and chosen.agree is not None and chosen.agree > chosen.samples:
        message = f"{chosen.agree} of {chosen.samples} samples cannot agree"
        raise typer.BadParameter(message, param_hint="--agree")
    if chosen.pivot is not None and chosen.pivot == chosen.language:
        raise typer.BadParameter(f"the data are in {chosen.pivot} already", param_hint="--pivot")
    try:
        re.compile(chosen.skip or "")
    except re.error as error:
        message = f"{chosen.skip!r} is no regular expression: {error}"
        raise typer.BadParameter(message, param_hint="--skip-pattern") from None
