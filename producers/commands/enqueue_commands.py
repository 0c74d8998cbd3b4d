"""The `enqueue` commands: parse, call, print.

    votequeue enqueue infer test.jsonl --examples solved.jsonl

As in `cli`, each command imports its dependencies when it runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands import generator_options, options, service_options, train_commands
from shared.options import Augmentation, Reading, Reasoning, Sampling

if TYPE_CHECKING:
    from producers.enqueue.plan import Plan
    from producers.enqueue.publish import Prepared

app = typer.Typer(help="Enqueue a run.", no_args_is_help=True)
app.add_typer(train_commands.app, name="train")
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="estimate the tokens and what would be refused; enqueue nothing")
]
# The options that apply to scoring rather than sampling.
RESCORING = ("reader", "scorer", "use", "threshold", "fallback", "batch")


@app.command("infer")
@options.flags_of(Sampling)
@options.flags_of(Reading, into="reading")
def infer(  # noqa: PLR0913  Typer reads options from the signature
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RUN",
            help="data set (a file, - or hf://NAME), or a run whose votes are scored again (with --only: "
            "whose questions are asked again)",
        ),
    ],
    *,
    run: options.NewRun = None,
    examples: Annotated[
        str | None,
        typer.Option(metavar="FILE|RUN", help="solved questions for few-shot prompts: a data set, or a run"),
    ] = None,
    given: dict[str, Any],
    append_to: Annotated[
        str | None,
        typer.Option("--append-to", metavar="RUN", help="add DATA's questions to this run, with its options"),
    ] = None,
    budget: service_options.Budget = None,
    dry_run: DryRun = False,
    reading: dict[str, Any],
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Answer every question of a data set; repeat the command to continue the run."""
    chosen, read = options.sampling(given), options.filled(Reading, {}, reading)
    from producers import console
    from producers.enqueue import append, inputs, publish, redo, rescore
    from producers.reports import render

    source = inputs.find_source(data)
    if append_to is not None:
        asked = {"run": run, "examples": examples, "budget": budget, "dry_run": dry_run or None, **given}
        options.refuse_others(asked, (), f"the options of {append_to} are used", Sampling)
        if not isinstance(source, Path):
            raise typer.BadParameter("--append-to takes a data set, not a run", param_hint="DATA")
        added = append.append(source, append_to, skip_bad, read)
        counts = (
            f"{console.count(added.items, 'question')} added, {console.count(added.sent, 'message')} sent"
        )
        return render.as_json(added) if json else render.text(f"run {append_to}: {counts}")
    if isinstance(source, Path) or chosen.only:
        if isinstance(source, Path):
            options.refuse_others({"only": chosen.only}, (), "it needs a run, not a data set", Sampling)
            fitted = generator_options.fitted(chosen, given)
            prepared = publish.prepare(source, fitted, run, examples, skip_bad, read)
        else:
            asked = {"examples": examples, **reading}
            options.refuse_others(asked, (), f"those of {data} are used", Sampling)
            prepared = redo.prepare(source, generator_options.changes(source.options, chosen, given), run)
        generator_options.check_budget(prepared.run, budget)
        if dry_run:
            return _forecast(prepared, budget, json)
        enqueued = publish.place(prepared, budget)
    else:
        reason = f"the recorded votes of {data} are reused"
        asked = {"examples": examples, "budget": budget, "dry_run": dry_run or None, **given, **reading}
        options.refuse_others(asked, RESCORING, reason, Sampling)
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


def _forecast(prepared: "Prepared", budget: float | None, json: bool) -> None:
    from producers.enqueue import dry_run
    from producers.reports import render

    forecast = dry_run.forecast(prepared, budget)
    if json:
        return render.as_json(forecast)
    render.text(dry_run.summary(forecast))
    render.table(dry_run.rows(forecast), ["one round", "of a question", "of all"])
    for remark in dry_run.remarks(forecast):
        render.text(remark)
    return None


@app.command("reason")
@options.flags_of(Reasoning)
@options.flags_of(Reading, into="reading")
def reason(  # noqa: PLR0913  as above
    data: Annotated[str, typer.Argument(metavar="DATA", help="data set with answers")],
    *,
    label: service_options.Label,
    provider: service_options.Chatting,
    model: service_options.Models = None,
    run: options.NewRun = None,
    letters: service_options.Letters = None,
    given: dict[str, Any],
    budget: service_options.Budget = None,
    dry_run: service_options.DryRun = False,
    reading: dict[str, Any],
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Generate a reasoning for every labelled question; repeat the command to continue the run."""
    chosen = service_options.reasoning(label, letters, provider, model, given)
    read = options.filled(Reading, {}, reading)
    from producers.enqueue import generate, inputs

    return _order(generate.order(inputs.find_file(data), chosen, run, skip_bad, read), budget, dry_run, json)


@app.command("translate")
@options.flags_of(Augmentation)
@options.flags_of(Reading, into="reading")
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
    reading: dict[str, Any],
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Generate new entries from old ones; repeat the command to continue the run."""
    chosen = service_options.augmentation(strategy, provider, model, given)
    if chosen.provider is None and budget is not None:
        raise typer.BadParameter(f"the strategy {strategy} costs nothing", param_hint="--budget")
    read = options.filled(Reading, {}, reading)
    from producers.enqueue import augment

    return _order(augment.order(data, chosen, run, skip_bad, read), budget, dry_run, json)


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
