"""The `enqueue train` commands: parse, call, print.

    votequeue enqueue train scorer --from mine --test other

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from producers.commands import options, training_options

if TYPE_CHECKING:
    from producers.enqueue.train import Enqueued, Source

app = typer.Typer(help="Train a model through the train queue.", no_args_is_help=True)


@app.command("scorer")
def scorer(  # noqa: PLR0913  Typer reads the options from the signature
    *,
    data: training_options.Files = None,
    source: training_options.Runs = None,
    test: training_options.Tests = None,
    weight: training_options.Weights = None,
    run: options.NewRun = None,
    recipe: training_options.Recipe = None,
    base: training_options.Base = None,
    text: training_options.InputWord = None,
    objective: training_options.Objective = None,
    tune: training_options.Tune = None,
    layers: training_options.Layers = None,
    freeze_embeddings: training_options.FreezeEmbeddings = None,
    balance: training_options.Balance = None,
    calibrate: training_options.Calibrate = None,
    promote: training_options.Promote = None,
    epochs: training_options.Epochs = None,
    max_steps: training_options.MaxSteps = None,
    learning_rate: training_options.LearningRate = None,
    batch_size: training_options.BatchSize = None,
    accumulation: training_options.ScorerAccumulation = None,
    max_length: training_options.MaxLength = None,
    optimizer: training_options.Optimizer = None,
    held_out: training_options.HeldOut = None,
    seed: training_options.Seed = None,
    report_to: training_options.ReportTo = None,
    json: options.Json = False,
) -> None:
    """Train the scorer that judges votes, from right and wrong texts."""
    chosen = training_options.scorer(
        recipe=recipe,
        base=base,
        input=text,
        objective=objective,
        tune=tune,
        layers=layers,
        freeze_embeddings=freeze_embeddings,
        balance=balance,
        calibrate=calibrate,
        promote=promote,
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        optimizer=optimizer,
        held_out=held_out,
        seed=seed,
        report_to=report_to,
    )
    from producers import console
    from producers.enqueue import train

    found = _sources(data, source, test, weight)
    if chosen.recipe == "reference" and (unlike := training_options.unlike_recipe(chosen)):
        console.note(f"not the reference's own: {'; '.join(unlike)}")
    _tell(train.scorer(chosen, found, run), json)


@app.command("lora")
def lora(  # noqa: PLR0913  as above
    *,
    data: training_options.Files = None,
    source: training_options.Runs = None,
    run: options.NewRun = None,
    base: training_options.LoraBase = None,
    rank: training_options.Rank = None,
    alpha: training_options.Alpha = None,
    dropout: training_options.Dropout = None,
    targets: training_options.Targets = None,
    neighbours: training_options.Neighbours = None,
    per_question: training_options.PerQuestion = None,
    epochs: training_options.LoraEpochs = None,
    max_steps: training_options.LoraMaxSteps = None,
    learning_rate: training_options.LoraLearningRate = None,
    batch_size: training_options.LoraBatchSize = None,
    accumulation: training_options.Accumulation = None,
    max_length: training_options.LoraMaxLength = None,
    optimizer: training_options.LoraOptimizer = None,
    held_out: training_options.LoraHeldOut = None,
    seed: training_options.LoraSeed = None,
    report_to: training_options.ReportTo = None,
    json: options.Json = False,
) -> None:
    """Fine-tune the generator by a LoRA adapter, on right texts as it is asked for them."""
    chosen = training_options.lora(
        base=base,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=targets,
        neighbours=neighbours,
        per_question=per_question,
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        optimizer=optimizer,
        held_out=held_out,
        seed=seed,
        report_to=report_to,
    )
    from producers.enqueue import train

    _tell(train.lora(chosen, _sources(data, source, None, None), run), json)


def _sources(
    data: list[str] | None, source: list[str] | None, test: list[str] | None, weight: list[str] | None
) -> "list[Source]":
    if not data and not source:
        raise typer.BadParameter("name data to train on", param_hint="--data or --from")
    from producers.enqueue import train

    return train.sources([Path(file) for file in data or []], source or [], test or [], weight or [])


def _tell(done: "Enqueued", json: bool) -> None:
    from producers.reports import render

    if json:
        return render.as_json(done)
    before = "continued" if done.continued else "enqueued"
    learns = f"{render.count(done.questions, 'question')} with {done.right} right and "
    learns += render.count(done.wrong, "wrong text")
    tries = f", {done.tested} more to try it on" if done.tested else ""
    return render.text(f"run {done.run} {before}: {learns}{tries}, {render.count(done.sent, 'message')} sent")
