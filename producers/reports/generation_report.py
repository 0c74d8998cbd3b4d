"""Compute the figures of a `reason` or `translate` run: results, and dropped parts with reasons.

    figures("correct")  ->  GenerationReport(items=500, done=471, agreement=Share(471, 500), ...)

An item has several parts: the questions of an entry, or the letters of a question. `api_usage` covers calls
and cost.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from producers import run_progress
from producers.reports import api_usage
from producers.reports.api_usage import ApiUsage
from producers.reports.shares import Share
from shared.errors import UserError
from shared.jobs import DATA_QUEUES
from shared.ledger import calls, progress, results, runs
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, State

# The variable parts of a reason: quoted text, single letters, numbers, and lists of these.
_SHORTENED = (
    (re.compile(r"“[^”]*”|「[^」]*」|'[^']*'|\"[^\"]*\""), "…"),
    (re.compile(r"(?<![\w/.-])[A-Z](?![\w/-])"), "X"),
    (re.compile(r"(?<![\w/.-])\d+(?:\.\d+)?(?![\w/-])"), "N"),
    (re.compile(r"(?<![\w/.-])([XN…])(?:, \1(?![\w/-]))+"), r"\1"),
)


@dataclass
class GenerationReport:
    """All figures of a generating run; times in seconds.

    ``agreement``: the share of finished items with a result, without those stopped by the budget.
    ``asks``: new texts by the number of replies they took; ``reused`` counts the recorded ones.
    ``models``: by model, the share of replies that were kept. ``dropped`` and ``given_up`` count the reasons
    of dropped parts and of dead items.
    """

    run: str
    source: str
    kind: str
    unit: str
    options: dict[str, Any]
    services: ApiUsage
    items: int = 0
    done: int = 0
    dead: int = 0
    open: int = 0
    cancelled: int = 0
    agreement: Share = field(default_factory=Share)
    parts: Share = field(default_factory=Share)
    reused: int = 0
    asks: Counter[int] = field(default_factory=Counter)
    models: dict[str, Share] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)
    wall_seconds: float | None = None
    calls_a_minute: float | None = None
    busiest_minute: int = 0
    call_times: list[float] = field(default_factory=list, repr=False)


def figures(name: str) -> GenerationReport:
    """Compute a run's figures from the ledger.

    Raises:
        UserError: there is no such run, or it is not a generating run.
    """
    run = runs.get_run(name)
    if run.kind not in DATA_QUEUES:
        raise UserError(f"run {name!r} is a {run.kind} run, which generates no texts")
    services = api_usage.of_run(run)
    report = GenerationReport(name, run.source, run.kind, run_progress.unit(run), run.options, services)
    _count_states(report)
    (_count_texts if run.kind == "reason" else _count_entries)(report, run)
    report.given_up = Counter(generalize_reason(dead.reason) for dead in progress.dead(name))
    _count_time(report)
    return report


def generalize_reason(reason: str) -> str:
    """Replace letters, numbers and quoted text in a reason, so that similar reasons are equal."""
    for pattern, mark in _SHORTENED:
        reason = pattern.sub(mark, reason)
    return reason


def _count_states(report: GenerationReport) -> None:
    states = runs.count_states(report.run)
    report.items = sum(states.values())
    report.done, report.dead = states[State.DONE], states[State.DEAD]
    report.cancelled = states[State.CANCELLED]
    report.open = sum(states[state] for state in OPEN)
    report.agreement.add(report.done, report.done + report.dead - report.services.stopped)


def _count_texts(report: GenerationReport, run: Run) -> None:
    # A step starts with the requested letter, as in "B:2:yi-34b".
    asks = Counter((number, step.partition(":")[0]) for number, step in calls.answered_steps(run.name))
    for tally in report.services.tallies:
        if tally.outcome == calls.OK:
            report.models[f"{tally.provider}/{tally.model}"] = Share(0, tally.calls)
    for number, value in results.of_run(run.name):
        _count_dropped(report, value, len(value["texts"]))
        for text in value["texts"]:
            if text["reused"]:
                report.reused += 1
                continue
            report.models.setdefault(f"{text['provider']}/{text['model']}", Share()).right += 1
            report.asks[asks[number, text["letter"]]] += 1


def _count_entries(report: GenerationReport, run: Run) -> None:
    for _, value in results.of_run(run.name):
        _count_dropped(report, value, len(value["entry"]["questions"]))


def _count_dropped(report: GenerationReport, value: dict[str, Any], kept: int) -> None:
    dropped = value.get("dropped", ())
    report.parts.add(kept, kept + len(dropped))
    report.dropped.update(generalize_reason(part["reason"]) for part in dropped)


def _count_time(report: GenerationReport) -> None:
    timing = results.timing(report.run)
    if timing.begun_at is not None and timing.ended_at is not None:
        report.wall_seconds = timing.ended_at - timing.begun_at
    if timing.calls_at:
        report.call_times = [time - timing.calls_at[0] for time in timing.calls_at]
        minutes = max(report.call_times[-1] / 60, 1.0)
        report.calls_a_minute = len(report.call_times) / minutes
        report.busiest_minute = max(by_minute(report).values())


def by_minute(report: GenerationReport) -> Counter[int]:
    """Count a run's calls by the minute since its first one."""
    return Counter(int(time // 60) for time in report.call_times)
