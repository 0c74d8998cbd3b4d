"""Print runs that call outside services.

    spent             3.21 of 20 CNY
    calls             812 (790 ok, 14 throttled, 8 no reply)

Texts of models and services are shown literally, as in `render`.
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

_KINDS_SHOWN = 12  # reasons of drops; --json has all of them

# status


def status(standing: RunProgress, found: ApiUsage) -> None:
    """Print what a run has had of outside services, and what keeps it from going on."""
    render.text("")
    for name, value in service_rows(found):
        render.text(f"{name}: {value}")
    for halt in found.halts:
        render.text(api_usage.in_words(halt, standing.run))
    paused = [halt.service for halt in found.halts]
    for slowdown in found.slowdowns:
        if slowdown.service not in paused:
            render.text(f"{slowdown.service} pauses for {console.span(slowdown.left)}: {slowdown.message}")
    for service, times in found.passed.items():
        render.text(f"{service} used {times:.2g} times the tokens that a call allowed: budgets allow for it")
    if found.stopped:
        render.text(
            f"stopped by its budget: {console.count(found.stopped, standing.unit)} given up; "
            "the same command with a larger --budget goes on"
        )


def service_rows(found: ApiUsage) -> Rows:
    """Put money, calls and what they used into words."""
    budget = f" of {found.budget:g}" if found.budget is not None else ""
    ended = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.most_common())
    used = [
        f"{amount} {word}"
        for amount, word in [
            (_sum(found, "input_tokens"), "tokens in"),
            (_sum(found, "output_tokens"), "tokens out"),
            (_sum(found, "characters"), "characters"),
        ]
        if amount
    ]
    return [
        ("spent", f"{found.spent:.4g}{budget} {found.currency}"),
        ("calls", f"{found.calls} ({ended})" if ended else "none yet"),
        *([("used", ", ".join(used))] if used else []),
    ]


def _sum(found: ApiUsage, name: str) -> int:
    return sum(int(getattr(tally, name)) for tally in found.tallies)


# report


def report(found: GenerationReport) -> None:
    """Print a run's figures: in all, by model and outcome, and what was dropped for which reason."""
    render.table(rows(found), [f"run {found.run}", ""])
    if found.services.tallies:
        render.text("")
        headings = ["provider", "model", "outcome", "calls", "tokens in", "tokens out", "characters", "cost"]
        render.table(map(_tally_row, found.services.tallies), headings)
    for what, reasons in _drops(found):
        render.text("")
        render.table(_reason_rows(reasons), [what, "why"])


def rows(found: GenerationReport) -> Rows:
    """Put a run's figures into words and numbers."""
    unit = console.plural(found.unit)
    told = [
        (unit, f"{found.items}: {found.done} done, {found.dead} dead, {found.open} open"),
        (f"{unit} with a result, of those that ended", render.percent(found.agreement)),
    ]
    told += (
        _reason_figures(found)
        if found.kind == "reason"
        else [("questions kept", render.percent(found.parts))]
    )
    told += service_rows(found.services)
    if found.calls_a_minute is not None:
        pace = f"{found.calls_a_minute:.1f} on average, {found.busiest_minute} at the most"
        told.append(("calls a minute", pace))
    if found.wall_seconds is not None:
        told.append(("first claim to last result", console.span(found.wall_seconds)))
    return told


def _reason_figures(found: GenerationReport) -> Rows:
    told = [("texts", str(found.parts.right)), ("of them on record before", str(found.reused))]
    if found.parts.of != found.parts.right:
        told.append(("letters kept, in questions with a result", render.percent(found.parts)))
    asks = [(f"agreed at ask {ask}", str(count)) for ask, count in sorted(found.asks.items())]
    models = [(f"replies kept of {model}", render.percent(share)) for model, share in found.models.items()]
    return told + asks + models


def _tally_row(tally: Tally) -> list[str]:
    used = tally.calls, tally.input_tokens, tally.output_tokens, tally.characters
    return [tally.provider, tally.model, tally.outcome, *map(str, used), f"{tally.cost:.4g}"]


def _drops(found: GenerationReport) -> Iterable[tuple[str, Counter[str]]]:
    parts = "letters" if found.kind == "reason" else "questions"
    drops = [
        (f"{parts} dropped", found.dropped),
        (f"{console.plural(found.unit)} given up", found.given_up),
    ]
    return [(what, reasons) for what, reasons in drops if reasons]


def _reason_rows(reasons: Counter[str]) -> list[list[str]]:
    told = [[str(count), reason] for reason, count in reasons.most_common(_KINDS_SHOWN)]
    rest = len(reasons) - len(told)
    return told + ([["", f"and {rest} more kinds"]] if rest else [])


def page_rows(found: GenerationReport) -> Rows:
    """Put all figures into rows of one table, for a page."""
    calls = [
        (f"{tally.provider}/{tally.model}: {tally.outcome}", f"{tally.calls} calls, {tally.cost:.4g}")
        for tally in found.services.tallies
    ]
    drops = [
        (f"{what}: {reason}", count) for what, kinds in _drops(found) for count, reason in _reason_rows(kinds)
    ]
    return rows(found) + calls + drops


# trace


def dossier(found: ItemTrace) -> None:
    """Print everything on record of an item."""
    render.text(f"{found.key} (item {found.number} of run {found.run}): {found.state}")
    render.text(f"\n{found.problem}")
    for question in found.questions:
        render.text(f"\n{question['question']}")
        render.options(question["options"], question["answer"])
    render.claims(found.claims)
    for call in found.calls:
        _call(call)
    if found.kind == "translate" and not found.calls:
        render.text("\nno calls for this item alone: texts of several go in one call, and known ones in none")
    _end(found)


def _call(call: dict[str, Any]) -> None:
    took = f", {call['ended_at'] - call['begun_at']:.1f} s" if call["ended_at"] else ""
    used = f"{call['input_tokens']} tokens in, {call['output_tokens']} out, cost {call['cost']:.4g}"
    render.text(
        f"\ncall {call['step']} to {call['provider']}/{call['model']}, "
        f"{render.clock(call['begun_at'])}{took}: {call['outcome'] or calls.NOT_ENDED}, {used}"
    )
    for words in (call["detail"], call["reply"]):
        if words:
            render.quoted(words)


def _end(found: ItemTrace) -> None:
    if found.result is None:
        waits = f"; put off until {render.clock(found.not_before_at)}" if found.not_before_at else ""
        return render.text(f"\nno result: {found.reason}" if found.reason else f"\nno result yet{waits}")
    if found.kind == "reason":
        for text in found.result["texts"]:
            _text(text)
    else:
        render.text("\nmade of it")
        render.quoted(json.dumps(found.result["entry"], ensure_ascii=False, indent=2))
    return _dropped(found.result.get("dropped", ()))


def _text(text: dict[str, Any]) -> None:
    before = ", on record before" if text["reused"] else ""
    maker = f"{text['provider']}/{text['model']}, prompt {text['prompt']}"
    render.text(f"\nreasoning for {text['letter']} by {maker}{before}")
    render.quoted(text["text"])


def _dropped(parts: Sequence[dict[str, Any]]) -> None:
    for part in parts:
        what = f"question {part['question']}" if "question" in part else f"letter {part['letter']}"
        render.text(f"\n{what} dropped: {part['reason']}")
