"""The `enqueue train` commands: parse, call, print.

    votequeue enqueue train scorer --from mine --test other

As in `cli`, each command imports its dependencies when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from producers.commands import options, training_options
from shared.recipes import LoraTraining, ScorerTraining

if TYPE_CHECKING:
    from producers.enqueue.train import EnqueuedTraining, TrainingSource

app = typer.Typer(help="Train a model through the train queue.", no_args_is_help=True)


@app.command("scorer")
@options.flags_of(ScorerTraining, unset="the recipe's")
def scorer(
    *,
    data: training_options.Files = None,
    source: training_options.Runs = None,
    test: training_options.Tests = None,
    weight: training_options.Weights = None,
    run: options.NewRun = None,
    given: dict[str, Any],
    report_to: options.ReportTo = None,
    json: options.Json = False,
) -> None:
    """Train a scorer from right and wrong texts."""
    chosen = training_options.scorer(given, report_to)
    from producers import console
    from producers.enqueue import train

    sources = _sources(data, source, test, weight)
    if chosen.recipe == "reference" and (deviations := training_options.deviations(chosen)):
        console.note(f"differs from the reference: {'; '.join(deviations)}")
    _print_enqueued(train.scorer(chosen, sources, run), json)


@app.command("lora")
@options.flags_of(LoraTraining, unset="the recipe's")
def lora(
    *,
    data: training_options.Files = None,
    source: training_options.Runs = None,
    run: options.NewRun = None,
    given: dict[str, Any],
    report_to: options.ReportTo = None,
    json: options.Json = False,
) -> None:
    """Fine-tune the generator with a LoRA adapter on right texts, in the prompt format of `infer`."""
    chosen = training_options.lora(given, report_to)
    from producers.enqueue import train

    _print_enqueued(train.lora(chosen, _sources(data, source, None, None), run), json)


def _sources(
    data: list[str] | None, source: list[str] | None, test: list[str] | None, weight: list[str] | None
) -> "list[TrainingSource]":
    if not data and not source:
        raise typer.BadParameter("training data are required", param_hint="--data or --from")
    from producers.enqueue import train

    return train.sources([Path(file) for file in data or []], source or [], test or [], weight or [])


def _print_enqueued(enqueued: "EnqueuedTraining", json: bool) -> None:
    from producers import console
    from producers.reports import render

    if json:
        return render.as_json(enqueued)
    before = "continued" if enqueued.continued else "enqueued"
    texts = f"{console.count(enqueued.questions, 'question')} with {enqueued.right} right and "
    texts += console.count(enqueued.wrong, "wrong text")
    held_out = f", {enqueued.tested} more for testing" if enqueued.tested else ""
    sent = console.count(enqueued.sent, "message")
    return render.text(f"run {enqueued.run} {before}: {texts}{held_out}, {sent} sent")
