"""Options of `enqueue train`: given values override the recipe's.

scorer("reference", {"layers": 6})  ->  ScorerTraining(recipe="reference", layers=6, optimizer="lomo", ...)
"""

from typing import Annotated, Any

import typer

from producers.commands import options
from producers.enqueue import option_checks
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
        help="labelled infer run (its votes), or reason or translate run (its texts); repeatable",
    ),
]
Tests = Annotated[
    list[str] | None,
    typer.Option(
        "--test",
        metavar="RUN",
        help="labelled infer run to test the scorer on; its entries are not trained on; repeatable",
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="NAME=NUMBER",
        help="training weight of a run's or file's texts, by default 1; repeatable",
    ),
]


def scorer(given: dict[str, Any], report_to: str | None = None) -> ScorerTraining:
    """Fill in missing options from the recipe.

    Raises:
        UserError: there is no such recipe, or it is invalid.
        InvalidOption: a value is invalid.
    """
    return option_checks.filled(ScorerTraining, _defaults(ScorerTraining, given, report_to), given)


def lora(given: dict[str, Any], report_to: str | None = None) -> LoraTraining:
    """Fill in what was not given from the recipe; raises as `scorer` does."""
    if "targets" in given:
        given = {**given, "targets": options.split_commas(given["targets"])}
    return option_checks.filled(LoraTraining, _defaults(LoraTraining, given, report_to), given)


def _defaults(
    model: type[ScorerTraining] | type[LoraTraining], given: dict[str, Any], report_to: str | None
) -> dict[str, Any]:
    loaded = settings.load()
    trackers = loaded.report_to if report_to is None else report_to
    recipe = recipes.load(given.get("recipe", model.model_fields["recipe"].default), model)
    return {"base": loaded.model, **recipe, "report_to": options.split_commas(trackers)}


def deviations(chosen: ScorerTraining) -> list[str]:
    """List the options that differ from the recipe: ``layers 6, not none``."""
    own = recipes.load(chosen.recipe, ScorerTraining)
    return [
        f"{name.replace('_', '-')} {value}, not {'none' if own.get(name) is None else own[name]}"
        for name, value in chosen.model_dump(exclude={"base", "report_to", "target", "recipe"}).items()
        if value != own.get(name)
    ]
