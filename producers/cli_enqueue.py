"""The `enqueue` commands: parse, call, print.

    votequeue enqueue infer test.jsonl --examples solved.jsonl

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producers import cli_train, options, service_options

if TYPE_CHECKING:
    from producers.orders import Order

app = typer.Typer(help="Put work into a queue.", no_args_is_help=True)
app.add_typer(cli_train.app, name="train")


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
    from producers import enqueue, intake, progress, show
    from producers import judging as again

    source = intake.find_source(data)
    if isinstance(source, Path):
        again.require_models(chosen)
        done = enqueue.infer(source, chosen, run, examples, skip_bad)
    else:
        options.refuse(f"the votes of {data} are judged as they are", examples=examples, **sampling)
        changes = {name: getattr(chosen, name) for name, value in judging.items() if value is not None}
        # Which scorer judges is what this is for: the one in use now, unless another is named.
        done = again.again(data, {"scorer": chosen.scorer, **changes}, run)
    if examples is None and isinstance(source, Path):
        progress.note("no --examples: the prompts carry no solved questions")
    if json:
        return show.as_json(done)
    shown = f", with {show.count(done.examples, 'solved question')} to show" if examples else ""
    before = "continued" if done.continued else "enqueued"
    counts = f"{show.count(done.items, 'question')}, {show.count(done.sent, 'message')} sent"
    return show.text(f"run {done.run} {before}: {counts}{shown}")


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
    from producers import reasoning

    return _order(reasoning.order(data, chosen, run, skip_bad), budget, dry_run, json)


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
    from producers import augmenting

    return _order(augmenting.order(data, chosen, run, skip_bad), budget, dry_run, json)


def _order(order: "Order", budget: float | None, dry_run: bool, json: bool) -> None:
    from producers import estimate, orders, progress, show

    known = orders.check(order, budget)
    if dry_run:
        if json:
            return show.as_json({**show.plain(order), "run": order.run.name, "continued": known})
        would = "would be continued" if known else "would be enqueued"
        items = orders.told(order.items, order.unit)
        show.text(f"run {order.run.name} {would}: {items}; nothing was written or sent")
        show.table(estimate.rows(order.estimate), ["estimate", "expected", "at most"])
        for remark in estimate.remarks(order.estimate):
            show.text(remark)
        return None
    if order.estimate.services:
        progress.note(estimate.line(order.estimate))
    done = orders.place(order, budget)
    return show.as_json(done) if json else show.text(done.line)
