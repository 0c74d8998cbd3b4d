"""Options of `votequeue worker`: what an infer worker serves.

    chosen("infer", {"generator": "openai", "provider": "local"})  ->  settings with that generator
    queues("infer", settings, named=True)  ->  ["infer.openai.local.Qwen2.5-Coder-0.5B-Instruct"]

The options are settings of the worker's process, and reach it through the environment.
"""

import os
from collections.abc import Mapping

import typer

from shared import generators, settings
from shared.generators import INFER
from shared.settings import PREFIX, Settings


def chosen(kind: str, given: Mapping[str, str]) -> Settings:
    """Give the settings of a worker with the options that were given.

    Raises:
        typer.BadParameter: an option does not apply to this queue or generator, or is missing.
    """
    for name in given:
        if kind != INFER:
            raise typer.BadParameter("applies to the queue infer only", param_hint=f"--{name}")
    os.environ.update({PREFIX + name.upper(): value for name, value in given.items()})
    if given:
        settings.load.cache_clear()
    loaded = settings.load()
    if "provider" in given and not loaded.calls_provider:
        problem = f"generator {loaded.generator} calls no provider: use --generator openai"
        raise typer.BadParameter(problem, param_hint="--provider")
    if kind == INFER and loaded.refusal:
        option, problem = loaded.refusal
        raise typer.BadParameter(problem, param_hint=f"--{option}")
    return loaded


def queues(kind: str, loaded: Settings, named: bool) -> list[str]:
    """Name the queues that a worker consumes; ``named``: it serves only the generator or model it names."""
    if kind != INFER:
        return [kind]
    provider = loaded.provider if loaded.calls_provider else None
    return generators.queues_of(loaded.generator, provider, loaded.model, named)
