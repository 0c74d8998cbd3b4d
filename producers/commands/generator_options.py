"""Options of `enqueue infer` that depend on the generator, and their checks.

    fitted(Sampling(generator="openai", provider="local"), {"generator": "openai", ...})
        ->  Sampling(generator="openai", provider="local", model="Qwen2.5-...", scorer="none", ...)

As in `service_options`, no service is called here.
"""

from collections.abc import Mapping
from typing import Any

import typer

from producers.commands import service_options
from shared.generators import GENERATORS, LEXICAL, STATIC, Generator
from shared.options import Sampling
from shared.providers import PROVIDERS

_TRAINED = {
    "scorer": "score the votes of the finished run with `votequeue enqueue infer RUN --scorer NAME`",
    "lora": "serve the adapter as a model, and name it with --model",
}
NONE = "none"


def fitted(sampling: Sampling, given: Mapping[str, Any]) -> Sampling:
    """Fill in the options that depend on the generator; ``given`` are those of the command line.

    Raises:
        typer.BadParameter: an option does not apply to the generator, or is missing.
    """
    generator = GENERATORS[sampling.generator]
    changes = _called(sampling) if generator.calls_provider else _uncalled(generator, given)
    if not generator.torch:
        changes |= _without_torch(generator, sampling, given)
    return sampling.model_copy(update=changes)


def _called(sampling: Sampling) -> dict[str, Any]:
    able = [name for name, provider in PROVIDERS.items() if provider.samples]
    if sampling.provider not in able:
        problem = f"{sampling.provider!r} samples no votes; " if sampling.provider else ""
        raise typer.BadParameter(f"{problem}choose one of: {', '.join(able)}", param_hint="--provider")
    return {"model": sampling.model or service_options.default_model(sampling.provider, "chats")}


def _uncalled(generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("provider", "endpoint"):
        if name in given:
            raise typer.BadParameter(
                f"generator {generator.name} calls no provider: use --generator openai",
                param_hint=f"--{name}",
            )
    return {"provider": None, "endpoint": Sampling.model_fields["endpoint"].default}


def _without_torch(generator: Generator, sampling: Sampling, given: Mapping[str, Any]) -> dict[str, Any]:
    reason = f"needs torch, which workers with generator {generator.name} do not have"
    for name, instead in _TRAINED.items():
        if given.get(name, NONE) != NONE:
            raise typer.BadParameter(f"a {name} {reason}: {instead}", param_hint=f"--{name}")
    if sampling.retriever == STATIC:
        raise typer.BadParameter(f"{STATIC} {reason}: use {LEXICAL}", param_hint="--retriever")
    return {"scorer": NONE, "lora": NONE, "retriever": sampling.retriever or LEXICAL}
