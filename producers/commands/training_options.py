"""The options of `enqueue train`: what is given wins over a setting, a setting over the recipe.

scorer(recipe="reference", layers=6)  ->  ScorerTraining(recipe="reference", layers=6, optimizer="lomo", ...)
"""

from typing import Annotated, Any

import typer

from producers.commands.options import filled, setting
from shared import recipes, settings
from shared.errors import UserError
from shared.recipes import RECIPES, LoraTraining, ScorerTraining
from shared.settings import Settings


def _recipes(name: str, option: str) -> Any:
    return setting(name, option, unset="the recipe's")


Files = Annotated[
    list[str] | None, typer.Option("--data", metavar="FILE", help="data set with reasonings; repeatable")
]
Runs = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="a labelled infer run, for its votes, or a reason or translate run; repeatable",
    ),
]
Tests = Annotated[
    list[str] | None,
    typer.Option(
        "--test",
        metavar="RUN",
        help="a labelled infer run whose entries are kept out, and on whose votes the scorer is tried; "
        "repeatable",
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="NAME=NUMBER",
        help="how often texts of a run or file are learned from, where others are once; repeatable",
    ),
]
ReportTo = Annotated[str | None, setting("report_to", "--report-to")]

# Of a scorer
Recipe = Annotated[str | None, setting("scorer_recipe", "--recipe")]
Base = Annotated[str | None, setting("scorer_base", "--base")]
InputWord = Annotated[str | None, _recipes("scorer_input", "--input")]
Objective = Annotated[str | None, _recipes("scorer_objective", "--objective")]
Tune = Annotated[str | None, _recipes("scorer_tune", "--tune")]
Layers = Annotated[float | None, _recipes("scorer_layers", "--layers")]
FreezeEmbeddings = Annotated[
    bool | None, _recipes("scorer_freeze_embeddings", "--freeze-embeddings/--train-embeddings")
]
Balance = Annotated[bool | None, _recipes("scorer_balance", "--balance/--no-balance")]
Calibrate = Annotated[bool | None, _recipes("scorer_calibrate", "--calibrate/--no-calibrate")]
Promote = Annotated[
    bool | None,
    typer.Option(
        "--promote/--no-promote",
        help="use it from now on if it beats the plain majority on its held-out questions",
        show_default="promote",
    ),
]
Epochs = Annotated[float | None, _recipes("scorer_epochs", "--epochs")]
MaxSteps = Annotated[int | None, setting("scorer_max_steps", "--max-steps")]
LearningRate = Annotated[float | None, _recipes("scorer_learning_rate", "--learning-rate")]
BatchSize = Annotated[int | None, _recipes("scorer_batch_size", "--batch-size")]
ScorerAccumulation = Annotated[int | None, _recipes("scorer_accumulation", "--accumulation")]
MaxLength = Annotated[int | None, _recipes("scorer_max_length", "--max-length")]
Optimizer = Annotated[str | None, _recipes("scorer_optimizer", "--optimizer")]
HeldOut = Annotated[float | None, _recipes("scorer_held_out", "--held-out")]
Seed = Annotated[int | None, _recipes("scorer_seed", "--seed")]

# Of an adapter
LoraBase = Annotated[str | None, setting("lora_base", "--base")]
Rank = Annotated[int | None, setting("lora_rank", "--rank")]
Alpha = Annotated[int | None, setting("lora_alpha", "--alpha")]
Dropout = Annotated[float | None, setting("lora_dropout", "--dropout")]
Targets = Annotated[str | None, setting("lora_targets", "--targets")]
PerQuestion = Annotated[int | None, setting("lora_per_question", "--per-question")]
LoraEpochs = Annotated[float | None, setting("lora_epochs", "--epochs")]
LoraMaxSteps = Annotated[int | None, setting("lora_max_steps", "--max-steps")]
LoraLearningRate = Annotated[float | None, setting("lora_learning_rate", "--learning-rate")]
LoraBatchSize = Annotated[int | None, setting("lora_batch_size", "--batch-size")]
Accumulation = Annotated[int | None, setting("lora_accumulation", "--accumulation")]
LoraMaxLength = Annotated[int | None, setting("lora_max_length", "--max-length")]
LoraOptimizer = Annotated[str | None, setting("lora_optimizer", "--optimizer")]
LoraHeldOut = Annotated[float | None, setting("lora_held_out", "--held-out")]
LoraSeed = Annotated[int | None, setting("lora_seed", "--seed")]
Neighbours = Annotated[int | None, setting("neighbours", "--neighbours")]


def scorer(**given: Any) -> ScorerTraining:
    """Fill in what was not given from the settings, and the rest from the recipe.

    Raises:
        UserError: there is no such recipe.
        typer.BadParameter: a value that cannot be.
    """
    loaded = settings.load()
    recipe = given.pop("recipe", None) or loaded.scorer_recipe
    if recipe not in RECIPES:
        raise UserError(f"--recipe {recipe}: there are {', '.join(RECIPES)}")
    defaults = {"recipe": recipe, "base": loaded.scorer_base or loaded.model, **RECIPES[recipe]}
    defaults |= _set(loaded, "scorer_", list(RECIPES[recipe]))
    reports = _words(given, "report_to", loaded.report_to)
    return filled(ScorerTraining, {**defaults, "report_to": reports}, given)


def lora(**given: Any) -> LoraTraining:
    """Fill in what was not given from the settings.

    Raises:
        typer.BadParameter: a value that cannot be.
    """
    loaded = settings.load()
    defaults = _set(loaded, "lora_", list(LoraTraining.model_fields))
    defaults |= {
        "max_steps": loaded.lora_max_steps,
        "base": loaded.lora_base or loaded.model,
        "neighbours": loaded.neighbours,
        "targets": _words(given, "targets", loaded.lora_targets),
        "report_to": _words(given, "report_to", loaded.report_to),
    }
    return filled(LoraTraining, defaults, given)


def unlike_recipe(options: ScorerTraining) -> list[str]:
    """Tell in which options a training is not its recipe's own: ``layers 6, not none``."""
    return [
        f"{name.replace('_', '-')} {getattr(options, name)}, not {'none' if value is None else value}"
        for name, value in recipes.RECIPES[options.recipe].items()
        if getattr(options, name) != value
    ]


def _set(loaded: Settings, prefix: str, fields: list[str]) -> dict[str, Any]:
    found = {name: getattr(loaded, prefix + name, None) for name in fields}
    return {name: value for name, value in found.items() if value is not None}


def _words(given: dict[str, Any], name: str, default: str) -> tuple[str, ...]:
    told = given.pop(name, None)
    words = default if told is None else told
    return tuple(filter(None, map(str.strip, words.split(","))))
