"""The `enqueue` commands: parse, call, print.

    votequeue enqueue infer test.jsonl --examples solved.jsonl

As in `cli`, each command imports its dependencies when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands import generator_options, options, service_options, train_commands
from shared.options import Augmentation, Reasoning, Sampling

if TYPE_CHECKING:
    from producers.enqueue.plan import Plan

app = typer.Typer(help="Enqueue a run.", no_args_is_help=True)
app.add_typer(train_commands.app, name="train")
# The options that apply to scoring rather than sampling.
RESCORING = ("reader", "scorer", "use", "threshold", "fallback", "batch")


@app.command("infer")
@options.flags_of(Sampling)
def infer(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RUN",
            help="data set (JSON Lines), or a run whose votes are scored again",
        ),
    ],
    *,
    run: options.NewRun = None,
    examples: Annotated[
        str | None,
        typer.Option(metavar="FILE|RUN", help="solved questions for few-shot prompts: a data set, or a run"),
    ] = None,
    given: dict[str, Any],
    budget: service_options.Budget = None,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Answer every question of a data set; repeat the command to continue the run."""
    chosen = options.sampling(given)
    from producers import console
    from producers.enqueue import inputs, publish, rescore
    from producers.reports import render

    source = inputs.find_source(data)
    if isinstance(source, Path):
        chosen = generator_options.fitted(chosen, given)
        if budget is not None and chosen.provider is None:
            raise typer.BadParameter(f"generator {chosen.generator} costs nothing", param_hint="--budget")
        enqueued = publish.infer(source, chosen, run, examples, skip_bad, budget)
    else:
        reason = f"the recorded votes of {data} are reused"
        others = {"examples": examples, "budget": budget, **given}
        options.refuse_others(others, RESCORING, reason, Sampling)
        changes = {name: getattr(chosen, name) for name in given}
        # Use the scorer in use now, unless another is named.
        enqueued = rescore.rescore(data, {"scorer": chosen.scorer, **changes}, run)
    if examples is None and isinstance(source, Path):
        console.note("no --examples: the prompts contain no solved questions")
    if json:
        return render.as_json(enqueued)
    examples_note = f", with {console.count(enqueued.examples, 'few-shot example')}" if examples else ""
    before = "continued" if enqueued.continued else "enqueued"
    counts = f"{console.count(enqueued.items, 'question')}, {console.count(enqueued.sent, 'message')} sent"
    return render.text(f"run {enqueued.run} {before}: {counts}{examples_note}")


@app.command("reason")
@options.flags_of(Reasoning)
def reason(  # noqa: PLR0913  Typer reads options from the signature
    data: Annotated[Path, typer.Argument(metavar="DATA", help="data set with answers, JSON Lines")],
    *,
    label: service_options.Label,
    provider: service_options.Chatting,
    model: service_options.Models = None,
    run: options.NewRun = None,
    letters: service_options.Letters = None,
    given: dict[str, Any],
    budget: service_options.Budget = None,
    dry_run: service_options.DryRun = False,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Generate a reasoning for every labelled question; repeat the command to continue the run."""
    chosen = service_options.reasoning(label, letters, provider, model, given)
    from producers.enqueue import generate

    return _order(generate.order(data, chosen, run, skip_bad), budget, dry_run, json)


@app.command("translate")
@options.flags_of(Augmentation)
def translate(  # noqa: PLR0913  as above
    data: Annotated[
        str, typer.Argument(metavar="DATA|RUN", help="data set, or a run for its generated entries")
    ],
    *,
    strategy: service_options.StrategyName,
    provider: service_options.Provider = None,
    model: service_options.Model = None,
    run: options.NewRun = None,
    given: dict[str, Any],
    budget: service_options.Budget = None,
    dry_run: service_options.DryRun = False,
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Generate new entries from old ones; repeat the command to continue the run."""
    chosen = service_options.augmentation(strategy, provider, model, given)
    if chosen.provider is None and budget is not None:
        raise typer.BadParameter(f"the strategy {strategy} costs nothing", param_hint="--budget")
    from producers.enqueue import augment

    return _order(augment.order(data, chosen, run, skip_bad), budget, dry_run, json)


def _order(order: "Plan", budget: float | None, dry_run: bool, json: bool) -> None:
    from producers import console
    from producers.enqueue import estimate, plan
    from producers.reports import render

    continued = plan.check(order, budget)
    if dry_run:
        if json:
            return render.as_json({**render.plain(order), "run": order.run.name, "continued": continued})
        would = "would be continued" if continued else "would be enqueued"
        items = console.count(order.items, order.unit)
        render.text(f"run {order.run.name} {would}: {items}; nothing was written or sent")
        render.table(estimate.rows(order.estimate), ["estimate", "expected", "at most"])
        for remark in estimate.remarks(order.estimate):
            render.text(remark)
        return None
    if order.estimate.services:
        console.note(estimate.summary(order.estimate))
    placed = plan.place(order, budget)
    return render.as_json(placed) if json else render.text(placed.summary)
