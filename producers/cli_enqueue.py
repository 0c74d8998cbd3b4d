"""The `enqueue` commands: parse, call, print.

    votequeue enqueue train scorer --data train.jsonl --epochs 1

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from producers import options

app = typer.Typer(help="Put work into a queue.", no_args_is_help=True)
train_app = typer.Typer(help="Train a model through the train queue.", no_args_is_help=True)
app.add_typer(train_app, name="train")


@app.command("infer")
def infer(  # noqa: PLR0913  Typer reads the options from the signature
    data: Annotated[Path, typer.Argument(metavar="DATA", help="data set, JSON Lines in the recipe's format")],
    *,
    run: options.NewRun = None,
    examples: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|RUN", help="solved questions to show in prompts: a data set, or a run's own"
        ),
    ] = None,
    votes: options.Votes = None,
    max_attempts: options.MaxAttempts = None,
    batch: options.Batch = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    neighbours: options.Neighbours = None,
    fallback: options.FallbackWord = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave bad lines out, and list them")] = False,
    json: options.Json = False,
) -> None:
    """Answer every question of a data set; the same command again continues it."""
    sampling = options.sampling(
        votes=votes,
        max_attempts=max_attempts,
        batch=batch,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        neighbours=neighbours,
        fallback=fallback,
    )
    from producers import enqueue, progress, show

    done = enqueue.infer(data, sampling, run, examples, skip_bad)
    if examples is None:
        progress.note("no --examples: the prompts carry no solved questions")
    if json:
        return show.as_json(done)
    shown = f", with {show.count(done.examples, 'solved question')} to show" if examples else ""
    before = "continued" if done.continued else "enqueued"
    counts = f"{show.count(done.items, 'question')}, {show.count(done.sent, 'message')} sent"
    return show.text(f"run {done.run} {before}: {counts}{shown}")


@train_app.command("scorer")
def scorer(  # noqa: PLR0913  as above
    *,
    data: Annotated[
        list[Path] | None, typer.Option("--data", metavar="FILE", help="data set with reasonings; repeatable")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="RUN", help="a labelled run, for its votes; repeatable"),
    ] = None,
    run: options.NewRun = None,
    base: options.Base = None,
    text: options.InputWord = None,
    layers: options.Layers = None,
    freeze_embeddings: options.FreezeEmbeddings = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    optimizer: options.Optimizer = None,
    held_out: options.HeldOut = None,
    seed: options.ScorerSeed = None,
    json: options.Json = False,
) -> None:
    """Train the scorer that judges votes, from sound and unsound reasonings."""
    if not data and not source:
        raise typer.BadParameter("name data to train on", param_hint="--data or --from")
    chosen = options.scorer_training(
        base=base,
        input=text,
        layers=layers,
        freeze_embeddings=freeze_embeddings,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        optimizer=optimizer,
        held_out=held_out,
        seed=seed,
    )
    from producers import show, training

    done = training.scorer(chosen, data or [], source or [], run)
    if json:
        return show.as_json(done)
    before = "continued" if done.continued else "enqueued"
    learns = f"{done.sound} sound and {show.count(done.unsound, 'unsound reasoning')}"
    return show.text(f"run {done.run} {before}: {learns}, {show.count(done.sent, 'message')} sent")
