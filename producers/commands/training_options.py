"""Options of `enqueue train`: a value that is given wins over the recipe's.

scorer("reference", {"layers": 6})  ->  ScorerTraining(recipe="reference", layers=6, optimizer="lomo", ...)
"""

from typing import Annotated, Any

import typer

from producers.commands import options
from shared import recipes, settings
from shared.recipes import LoraTraining, ScorerTraining

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


def scorer(given: dict[str, Any], report_to: str | None = None) -> ScorerTraining:
    """Fill in what was not given from the recipe.

    Raises:
        UserError: there is no such recipe, or it has what it cannot.
        typer.BadParameter: a value that cannot be.
    """
    return options.filled(ScorerTraining, _defaults(ScorerTraining, given, report_to), given)


def lora(given: dict[str, Any], report_to: str | None = None) -> LoraTraining:
    """Fill in what was not given from the recipe; raises as `scorer` does."""
    if "targets" in given:
        given = {**given, "targets": options.split_commas(given["targets"])}
    return options.filled(LoraTraining, _defaults(LoraTraining, given, report_to), given)


def _defaults(
    model: type[ScorerTraining] | type[LoraTraining], given: dict[str, Any], report_to: str | None
) -> dict[str, Any]:
    loaded = settings.load()
    trackers = loaded.report_to if report_to is None else report_to
    recipe = recipes.load(given.get("recipe", model.model_fields["recipe"].default), model)
    return {"base": loaded.model, **recipe, "report_to": options.split_commas(trackers)}


def deviations(chosen: ScorerTraining) -> list[str]:
    """Tell in which options a training is not its recipe's own: ``layers 6, not none``."""
    own = recipes.load(chosen.recipe, ScorerTraining)
    return [
        f"{name.replace('_', '-')} {value}, not {'none' if own.get(name) is None else own[name]}"
        for name, value in chosen.model_dump(exclude={"base", "report_to", "target", "recipe"}).items()
        if value != own.get(name)
    ]
