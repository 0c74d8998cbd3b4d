"""The `enqueue` commands: parse, call, print.

    votequeue enqueue infer test.jsonl --examples solved.jsonl

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producers.commands import options, service_options, train_commands

if TYPE_CHECKING:
    from producers.enqueue.plan import Order

app = typer.Typer(help="Put work into a queue.", no_args_is_help=True)
app.add_typer(train_commands.app, name="train")


@app.command("infer")
def infer(  # noqa: PLR0913  Typer reads the options from the signature
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RUN",
            help="data set, JSON Lines in the recipe's format; or a run, whose votes are judged again",
        ),
    ],
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
    siblings: options.Siblings = None,
    reader: options.ReaderName = None,
    scorer: options.Scorer = None,
    lora: options.Lora = None,
    use: options.UseWord = None,
    threshold: options.Threshold = None,
    fallback: options.FallbackWord = None,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Answer every question of a data set; the same command again continues it."""
    judging = {
        "reader": reader,
        "scorer": scorer,
        "use": use,
        "threshold": threshold,
        "fallback": fallback,
        "batch": batch,
    }
    sampling = {
        "votes": votes,
        "max_attempts": max_attempts,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "neighbours": neighbours,
        "siblings": siblings,
        "lora": lora,
    }
    chosen = options.sampling(**judging, **sampling)
    from producers import console
    from producers.enqueue import inputs, publish
    from producers.enqueue import rescore as again
    from producers.reports import render

    source = inputs.find_source(data)
    if isinstance(source, Path):
        again.require_models(chosen)
        done = publish.infer(source, chosen, run, examples, skip_bad)
    else:
        options.refuse(f"the votes of {data} are judged as they are", examples=examples, **sampling)
        changes = {name: getattr(chosen, name) for name, value in judging.items() if value is not None}
        # Which scorer judges is what this is for: the one in use now, unless another is named.
        done = again.again(data, {"scorer": chosen.scorer, **changes}, run)
    if examples is None and isinstance(source, Path):
        console.note("no --examples: the prompts carry no solved questions")
    if json:
        return render.as_json(done)
    shown = f", with {render.count(done.examples, 'solved question')} to show" if examples else ""
    before = "continued" if done.continued else "enqueued"
    counts = f"{render.count(done.items, 'question')}, {render.count(done.sent, 'message')} sent"
    return render.text(f"run {done.run} {before}: {counts}{shown}")


@app.command("reason")
def reason(  # noqa: PLR0913  as above
    data: Annotated[Path, typer.Argument(metavar="DATA", help="data set with answers, JSON Lines")],
    *,
    label: service_options.Label,
    provider: service_options.Chatting,
    model: service_options.Models = None,
    run: options.NewRun = None,
    letters: service_options.Letters = None,
    asks: service_options.Asks = None,
    max_tokens: service_options.ReasonMaxTokens = None,
    temperature: service_options.ReasonTemperature = None,
    reader: service_options.Reader = None,
    budget: service_options.Budget = None,
    dry_run: service_options.DryRun = False,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Get a reasoning for every labelled question; the same command again continues, or with more money."""
    chosen = service_options.reasoning(
        label,
        letters,
        provider,
        model,
        asks=asks,
        max_tokens=max_tokens,
        temperature=temperature,
        reader=reader,
    )
    from producers.enqueue import generate

    return _order(generate.order(data, chosen, run, skip_bad), budget, dry_run, json)


@app.command("translate")
def translate(  # noqa: PLR0913  as above
    data: Annotated[str, typer.Argument(metavar="DATA|RUN", help="data set, or a run for what it has made")],
    *,
    strategy: service_options.Strategy,
    provider: service_options.Provider = None,
    model: service_options.Model = None,
    run: options.NewRun = None,
    language: service_options.Language = None,
    pivot: service_options.Pivot = None,
    skip_pattern: service_options.SkipPattern = None,
    share: service_options.SynonymShare = None,
    seed: service_options.SynonymSeed = None,
    samples: service_options.Samples = None,
    agree: service_options.Agree = None,
    near_copy: service_options.NearCopy = None,
    reader: service_options.VariantReader = None,
    max_tokens: service_options.VariantMaxTokens = None,
    temperature: service_options.VariantTemperature = None,
    budget: service_options.Budget = None,
    dry_run: service_options.DryRun = False,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Make new entries from old ones; the same command again continues, or with more money."""
    if strategy == "synonym" and budget is not None:
        raise typer.BadParameter("the strategy synonym costs nothing", param_hint="--budget")
    chosen = service_options.augmentation(
        strategy,
        provider,
        model,
        language=language,
        pivot=pivot,
        skip=skip_pattern,
        share=share,
        seed=seed,
        samples=samples,
        agree=agree,
        near_copy=near_copy,
        reader=reader,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    from producers.enqueue import augment

    return _order(augment.order(data, chosen, run, skip_bad), budget, dry_run, json)


def _order(order: "Order", budget: float | None, dry_run: bool, json: bool) -> None:
    from producers import console
    from producers.enqueue import estimate, plan
    from producers.reports import render

    known = plan.check(order, budget)
    if dry_run:
        if json:
            return render.as_json({**render.plain(order), "run": order.run.name, "continued": known})
        would = "would be continued" if known else "would be enqueued"
        items = plan.told(order.items, order.unit)
        render.text(f"run {order.run.name} {would}: {items}; nothing was written or sent")
        render.table(estimate.rows(order.estimate), ["estimate", "expected", "at most"])
        for remark in estimate.remarks(order.estimate):
            render.text(remark)
        return None
    if order.estimate.services:
        console.note(estimate.line(order.estimate))
    done = plan.place(order, budget)
    return render.as_json(done) if json else render.text(done.line)
