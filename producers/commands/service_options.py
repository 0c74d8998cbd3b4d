"""Options of runs that call outside services, and their checks.

    augmentation("variant", "chat", "qwen-max", samples=7)
        ->  Augmentation(strategy="variant", provider="chat", model="qwen-max", samples=7, agree=4, ...)

As in `options`, missing options come from the settings. Options that do not apply to a strategy are refused.
No service is called here.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from producers.commands import options
from producers.enqueue import option_checks
from shared import prompts, settings
from shared.options import Augmentation, Reasoning
from shared.providers import PROVIDERS
from shared.strategies import STRATEGIES, Strategy
from shared.voices import VOICES

# Options of runs that call external services
DryRun = Annotated[bool, typer.Option("--dry-run", help="estimate calls, cost and time; enqueue nothing")]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        callback=options.usage_errors()(option_checks.amount),
        help="maximum cost of the run, in VOTEQUEUE_CURRENCY",
    ),
]
_CHATTING = ", ".join(name for name, provider in PROVIDERS.built_in.items() if provider.chats)
_FREE = ", ".join(name for name, strategy in STRATEGIES.built_in.items() if not strategy.ability)
_VERBS = {"chats": "chat", "translates": "translation"}

# Options of `enqueue reason`
Chatting = Annotated[str, typer.Option("--provider", help=f"chat provider: {_CHATTING}")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="model; repeatable: each next one is asked if the one before never agrees",
        show_default="the provider's; local: VOTEQUEUE_MODEL",
    ),
]
Label = Annotated[str, typer.Option("--label", metavar="correct|wrong", help="letters to justify")]
Letters = Annotated[
    str | None,
    typer.Option(
        "--letters",
        metavar="next|every",
        help="with --label wrong: the next option, or every other one",
        show_default="next",
    ),
]
# Options of `enqueue translate`
StrategyName = Annotated[
    str, typer.Option("--strategy", metavar="|".join(STRATEGIES.built_in), help="augmentation strategy")
]
Provider = Annotated[
    str | None,
    typer.Option("--provider", help=f"provider that translates or chats; not used by strategy {_FREE}"),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="model of the provider", show_default="the provider's; local: VOTEQUEUE_MODEL"
    ),
]


def reasoning(
    label: str,
    letters: str | None,
    provider: str,
    models: Sequence[str] | None,
    given: dict[str, Any],
) -> Reasoning:
    """Fill in missing options from the settings and the provider's defaults.

    Raises:
        typer.BadParameter, InvalidOption: a value is invalid, or a model must be named.
    """
    if label == "correct" and letters is not None:
        raise typer.BadParameter("only applies to --label wrong", param_hint="--letters")
    _require_provider(provider, "chats")
    defaults = {
        "label": label,
        "letters": letters or "next",
        "provider": provider,
        "models": tuple(
            dict.fromkeys([*filter(None, models or [])] or [option_checks.default_model(provider, "chats")])
        ),
        "prompt": prompts.version("explaining"),
        "reader": settings.load().reader,
    }
    chosen = option_checks.filled(Reasoning, defaults, given)
    voice = VOICES[chosen.voice]
    if label != "correct" and not voice.explains:
        raise typer.BadParameter(
            f"--as {voice.name} takes correct only: no letter is shown to the model, so that it cannot be "
            "asked for a wrong one",
            param_hint="--label",
        )
    voice.require_package()
    return chosen


def augmentation(
    strategy: str, provider: str | None, model: str | None, given: dict[str, Any]
) -> Augmentation:
    """Fill in the missing options that a strategy needs; the others stay ``None``.

    Raises:
        typer.BadParameter, InvalidOption: a value is invalid, does not apply to the strategy, or is missing.
    """
    option_checks.filled(Augmentation, {"strategy": strategy}, {})
    spec = STRATEGIES[strategy]
    service = {} if spec.ability else {"provider": provider, "model": model}
    reason = f"not used by strategy {strategy}"
    option_checks.refuse_others(given | service, spec.options, reason, Augmentation)
    defaults = {**spec.options} | ({"reader": settings.load().reader} if "reader" in spec.options else {})
    if spec.ability:
        defaults |= _service(spec, spec.ability, provider, model)
    chosen = option_checks.filled(Augmentation, {"strategy": strategy, **defaults}, given)
    _require_consistent(chosen)
    return chosen


def _service(strategy: Strategy, ability: str, provider: str | None, model: str | None) -> dict[str, Any]:
    if provider is None:
        raise typer.BadParameter(f"name one of: {', '.join(_capable(ability))}", param_hint="--provider")
    _require_provider(provider, ability)
    return {
        "provider": provider,
        "model": model or option_checks.default_model(provider, ability),
        # Only chat models are prompted.
        "prompt": strategy.prompt if PROVIDERS[provider].chats else None,
    }


def _require_provider(provider: str, ability: str) -> None:
    """Refuse an unknown provider, or one without the required ability.

    Raises:
        typer.BadParameter: listing the providers that have it.
    """
    able = _capable(ability)
    if provider not in able:
        problem = f"does not support {_VERBS[ability]}" if provider in PROVIDERS else "does not exist"
        raise typer.BadParameter(
            f"provider {provider!r} {problem}; choose one of: {', '.join(able)}", param_hint="--provider"
        )


def _capable(ability: str) -> list[str]:
    return [name for name, provider in PROVIDERS.items() if getattr(provider, ability)]


def _require_consistent(chosen: Augmentation) -> None:
    if chosen.samples is not None and chosen.agree is not None and chosen.agree > chosen.samples:
        message = f"{chosen.agree} of {chosen.samples} samples cannot agree"
        raise typer.BadParameter(message, param_hint="--agree")
    if chosen.pivot is not None and chosen.pivot == chosen.language:
        raise typer.BadParameter(f"the data are already in {chosen.pivot}", param_hint="--pivot")
    try:
        re.compile(chosen.skip or "")
    except re.error as error:
        message = f"{chosen.skip!r} is not a regular expression: {error}"
        raise typer.BadParameter(message, param_hint="--skip-pattern") from None
