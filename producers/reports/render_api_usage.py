"""Print runs that call external services.

    spent             3.21 of 20 CNY
    calls             812 (790 ok, 14 throttled, 8 no reply)

Texts of models and services are printed literally, as in `render`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from producers import console
from producers.reports import api_usage, render
from producers.reports.api_usage import ApiUsage
from producers.reports.generation_report import GenerationReport
from producers.reports.render import Rows
from producers.run_progress import RunProgress
from producers.trace import ItemTrace
from shared.ledger import calls
from shared.ledger.calls import Tally

_KINDS_SHOWN = 12  # reasons printed; --json has all of them

# status


def status(progress: RunProgress, usage: ApiUsage) -> None:
    """Print a run's usage of external services and what blocks it."""
    render.text("")
    for name, value in service_rows(usage):
        render.text(f"{name}: {value}")
    for halt in usage.halts:
        render.text(api_usage.describe_halt(halt, progress.run))
    paused = [halt.service for halt in usage.halts]
    for slowdown in usage.slowdowns:
        if slowdown.service not in paused:
            render.text(f"{slowdown.service} pauses for {console.span(slowdown.left)}: {slowdown.message}")
    for service, ratio in usage.passed.items():
        render.text(f"{service} used {ratio:.2g} times the tokens that a call allowed; budgets reserve more")
    if usage.stopped:
        render.text(
            f"stopped by its budget: {console.count(usage.stopped, progress.unit)} given up; "
            "repeat the command with a larger --budget to continue"
        )


def service_rows(usage: ApiUsage) -> Rows:
    """Return cost, calls and usage as rows."""
    budget = f" of {usage.budget:g}" if usage.budget is not None else ""
    ended = ", ".join(f"{count} {outcome}" for outcome, count in usage.outcomes.most_common())
    used = [
        f"{amount:,} {word}"
        for amount, word in [
            (_sum(usage, "input_tokens"), "tokens in"),
            (_sum(usage, "output_tokens"), "tokens out"),
            (_sum(usage, "characters"), "characters"),
        ]
        if amount
    ]
    return [
        ("spent", f"{usage.spent:.4g}{budget} {usage.currency}"),
        ("calls", f"{usage.calls} ({ended})" if ended else "none yet"),
        *([("used", ", ".join(used))] if used else []),
    ]


def _sum(usage: ApiUsage, name: str) -> int:
    return sum(int(getattr(tally, name)) for tally in usage.tallies)


# report


def report(report: GenerationReport) -> None:
    """Print a run's figures: totals, calls by model and outcome, and drops by reason."""
    render.table(rows(report), [f"run {report.run}", ""])
    if report.services.tallies:
        render.text("")
        headings = ["provider", "model", "outcome", "calls", "tokens in", "tokens out", "characters", "cost"]
        render.table(map(_tally_row, report.services.tallies), headings)
    for label, reasons in _drops(report):
        render.text("")
        render.table(_reason_rows(reasons), [label, "why"])


def rows(report: GenerationReport) -> Rows:
    """Return a run's figures as table rows."""
    unit = console.plural(report.unit)
    cancelled = f", {report.cancelled} cancelled" if report.cancelled else ""
    table = [
        (unit, f"{report.items}: {report.done} done, {report.dead} dead, {report.open} open{cancelled}"),
        (f"{unit} with a result, of those that ended", render.percent(report.agreement)),
    ]
    table += (
        _reason_figures(report)
        if report.kind == "reason"
        else [("questions kept", render.percent(report.parts))]
    )
    table += service_rows(report.services)
    if report.calls_a_minute is not None:
        pace = f"{report.calls_a_minute:.1f} on average, {report.busiest_minute} maximum"
        table.append(("calls a minute", pace))
    if report.wall_seconds is not None:
        table.append(("first claim to last result", console.span(report.wall_seconds)))
    return table


def _reason_figures(report: GenerationReport) -> Rows:
    texts = [("texts", str(report.parts.right)), ("of which reused", str(report.reused))]
    if report.parts.of != report.parts.right:
        texts.append(("letters kept, in questions with a result", render.percent(report.parts)))
    asks = [(f"agreed at ask {ask}", str(count)) for ask, count in sorted(report.asks.items())]
    models = [(f"replies kept of {model}", render.percent(share)) for model, share in report.models.items()]
    return texts + asks + models


def _tally_row(tally: Tally) -> list[str]:
    used = tally.calls, tally.input_tokens, tally.output_tokens, tally.characters
    return [tally.provider, tally.model, tally.outcome, *map(str, used), f"{tally.cost:.4g}"]


def _drops(report: GenerationReport) -> Iterable[tuple[str, Counter[str]]]:
    parts = "letters" if report.kind == "reason" else "questions"
    drops = [
        (f"{parts} dropped", report.dropped),
        (f"{console.plural(report.unit)} given up", report.given_up),
    ]
    return [(label, reasons) for label, reasons in drops if reasons]


def _reason_rows(reasons: Counter[str]) -> list[list[str]]:
    shown_rows = [[str(count), reason] for reason, count in reasons.most_common(_KINDS_SHOWN)]
    hidden = len(reasons) - len(shown_rows)
    return shown_rows + ([["", f"and {hidden} more kinds"]] if hidden else [])


def page_rows(report: GenerationReport) -> Rows:
    """Return all figures as rows of one table."""
    calls = [
        (f"{tally.provider}/{tally.model}: {tally.outcome}", f"{tally.calls} calls, {tally.cost:.4g}")
        for tally in report.services.tallies
    ]
    drops = [
        (f"{label}: {reason}", count)
        for label, kinds in _drops(report)
        for count, reason in _reason_rows(kinds)
    ]
    return rows(report) + calls + drops


# trace


def trace(item: ItemTrace) -> None:
    """Print the trace of an item."""
    render.text(f"{item.key} (item {item.number} of run {item.run}): {item.state}")
    render.text(f"\n{item.problem}")
    for question in item.questions:
        render.text(f"\n{question['question']}")
        render.options(question["options"], question["answer"])
    render.claims(item.claims)
    for call in item.calls:
        _call(call)
    if item.kind == "translate" and not item.calls:
        render.text("\nno calls for this item alone: calls are shared, and cached texts need none")
    _end(item)


def _call(call: dict[str, Any]) -> None:
    took = f", {call['ended_at'] - call['begun_at']:.1f} s" if call["ended_at"] else ""
    used = f"{call['input_tokens']} tokens in, {call['output_tokens']} out, cost {call['cost']:.4g}"
    render.text(
        f"\ncall {call['step']} to {call['provider']}/{call['model']}, "
        f"{render.clock(call['begun_at'])}{took}: {call['outcome'] or calls.NOT_ENDED}, {used}"
    )
    for quotation in (call["detail"], call["reply"]):
        if quotation:
            render.quoted(quotation)


def _end(item: ItemTrace) -> None:
    if item.result is None:
        waits = f"; put off until {render.clock(item.not_before_at)}" if item.not_before_at else ""
        return render.text(f"\nno result: {item.reason}" if item.reason else f"\nno result yet{waits}")
    if item.kind == "reason":
        for text in item.result["texts"]:
            _text(text)
    else:
        render.text("\ngenerated entry")
        render.quoted(json.dumps(item.result["entry"], ensure_ascii=False, indent=2))
    return _dropped(item.result.get("dropped", ()))


def _text(text: dict[str, Any]) -> None:
    before = ", reused" if text["reused"] else ""
    maker = f"{text['provider']}/{text['model']}, prompt {text['prompt']}"
    render.text(f"\nreasoning for {text['letter']} by {maker}{before}")
    render.quoted(text["text"])


def _dropped(parts: Sequence[dict[str, Any]]) -> None:
    for part in parts:
        label = f"question {part['question']}" if "question" in part else f"letter {part['letter']}"
        render.text(f"\n{label} dropped: {part['reason']}")
