"""The `enqueue` commands: parse, call, print.

    votequeue enqueue infer test.jsonl --examples solved.jsonl

As in `cli`, each command imports its dependencies when it runs.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands import options, service_options, train_commands
from producers.enqueue import option_checks
from shared.options import Augmentation, Reading, Reasoning, Sampling

if TYPE_CHECKING:
    from producers.enqueue.dry_run import Forecast
    from producers.enqueue.plan import Plan

app = typer.Typer(help="Enqueue a run.", no_args_is_help=True)
app.add_typer(train_commands.app, name="train")
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="estimate the tokens and what would be refused; enqueue nothing")
]


@app.command("infer")
@options.flags_of(Sampling)
@options.flags_of(Reading, into="reading")
def infer(  # noqa: PLR0913  Typer reads options from the signature
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA|RUN...",
            help="data set (a file, - or hf://NAME), or a run whose votes are scored again (with --only: "
            "whose questions are asked again); with --combine: several runs",
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
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="answer all questions by then, from the votes so far: 4h, or ISO"),
    ] = None,
    dry_run: DryRun = False,
    reading: dict[str, Any],
    skip_bad: options.SkipBad = False,
    json: options.Json = False,
) -> None:
    """Answer every question of a data set; repeat the command to continue the run."""
    from producers import Client, console
    from producers.reports import render

    asked = {"run": run, "examples": examples, "append_to": append_to, "budget": budget, **given, **reading}
    asked["deadline"] = deadline
    if len(sources) > 1 or "combine" in given:
        return _combine(sources, asked | ({"dry_run": True} if dry_run else {}), json)
    (data,) = sources
    if dry_run:
        return _print_forecast(Client().forecast(data, skip_bad=skip_bad, **asked), json)
    enqueued = Client().enqueue_infer(data, skip_bad=skip_bad, **asked)
    if json:
        return render.as_json(enqueued)
    sent = console.count(enqueued.sent, "message")
    items = console.count(enqueued.items, "question")
    if append_to is not None:
        return render.text(f"run {append_to}: {items} added, {sent} sent")
    examples_note = f", with {console.count(enqueued.examples, 'few-shot example')}" if examples else ""
    before = "continued" if enqueued.continued else "enqueued"
    return render.text(f"run {enqueued.run} {before}: {items}, {sent} sent{examples_note}")


def _combine(runs: list[str], asked: dict[str, Any], json: bool) -> None:
    from producers import Client, console
    from producers.reports import render, render_comparison

    enqueued, compared = Client().combine(runs, **asked)
    if json:
        return render.as_json({**render.plain(enqueued), "combination": render.plain(compared)})
    before = "continued" if enqueued.continued else "enqueued"
    counts = f"{console.count(enqueued.items, 'question')}, {console.count(enqueued.sent, 'message')} sent"
    render.text(f"run {enqueued.run} {before}: {counts}")
    if compared is None:
        return render.text(f"its accuracy: `votequeue report {enqueued.run}`")
    return render.table(render_comparison.combination_rows(compared), [f"run {enqueued.run}", ""])


def _print_forecast(forecast: "Forecast", json: bool) -> None:
    from producers.enqueue import dry_run
    from producers.reports import render

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
    """Generate a reasoning or program for every labelled question; repeat the command to continue the run."""
    chosen = service_options.reasoning(label, letters, provider, model, given)
    read = option_checks.filled(Reading, {}, reading)
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
    read = option_checks.filled(Reading, {}, reading)
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
