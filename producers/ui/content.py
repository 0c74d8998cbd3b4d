"""What the live pages show, read from the ledger and the broker.

overview()       ->  {"runs": [...], "workers": [...], "queues": [...], "limits": {...}, ...}
of_run("round1") ->  {"progress": RunProgress(run="round1", ...), "line": "12/25 settled", ...}
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from producers import run_progress, watch
from producers.reports import api_usage, render
from shared import providers, service_pauses, settings
from shared.errors import ServiceUnreachable
from shared.ledger import calls, leases, models, outbox, runs
from shared.ledger import progress as ledger_progress
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, State
from shared.model_store import KINDS

SHOWN = 200  # runs, and dead items of a run
RunStates = list[tuple[Run, dict[str, int]]]


def overview() -> dict[str, Any]:
    """Give what the overview shows, newest runs first."""
    run_states = ledger_progress.overview()[::-1]
    open_runs = [(run, states) for run, states in run_states if any(states[state] for state in OPEN)]
    services = sorted({service for run, _ in open_runs for service in run.services})
    return {
        "runs": [
            (run, states, sum(states.values()) - sum(states[state] for state in OPEN), render.control(run))
            for run, states in run_states[:SHOWN]
        ],
        "older": len(run_states[SHOWN:]),
        "spending": calls.every_spending(),
        "currency": settings.load().currency,
        "dead": sum(states[State.DEAD] for _, states in run_states),
        "workers": leases.living(),
        "queues": _queues(open_runs),
        "broker_away": run_progress.waiting("infer") is None,
        "limits": _limits(services),
        "slowdowns": _slowdowns(services),
        "pauses": calls.pauses(),
        "models": {kind: models.in_use(kind) for kind in KINDS},
        "notice": models.switched_off(),
        "problems": run_progress.describe_unserved(open_runs),
    }


def _queues(open_runs: RunStates) -> list[dict[str, Any]]:
    """Count messages, open items and workers by queue."""
    served = leases.count_consumers()
    waiting: Counter[str] = Counter()
    for run, states in open_runs:
        waiting[run.queue] += states[State.PENDING]
    names = sorted({*served, *waiting, *outbox.open_queues()})
    return [
        {
            "name": name,
            "messages": run_progress.waiting(name),
            "pending": waiting[name],
            "workers": served[name],
        }
        for name in names
    ]


def _limits(services: Iterable[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Give the limits of services by name; providers that only other machines know are left out."""
    chosen = settings.load().limits
    return {
        f"{provider}/{model}": providers.limits(provider, model, chosen).model_dump(exclude_none=True)
        for provider, model in services
        if provider in providers.PROVIDERS
    }


def _slowdowns(services: Iterable[tuple[str, str]]) -> list[service_pauses.Slowdown]:
    """List the pauses that workers wait for."""
    try:
        names = sorted({provider for provider, _ in services})
        return [slowdown for name in names for slowdown in service_pauses.of(name)]
    except ServiceUnreachable:
        return []


def of_run(name: str) -> dict[str, Any]:
    """Give what the page of a run shows.

    Raises:
        UserError: there is no such run.
    """
    run, progress = runs.get_run(name), run_progress.progress_of(name)
    share, line = watch.progress_line(progress)
    dead = ledger_progress.dead(name) if progress.states[State.DEAD] else []
    return {
        "progress": progress,
        "attempts": sorted({attempt for counts in progress.rounds.values() for attempt in counts}),
        "share": share,
        "line": line,
        "problems": watch.problems(progress),
        "dead": dead[:SHOWN],
        "more_dead": len(dead[SHOWN:]),
        "usage": api_usage.of_run(run) if run.calls_services else None,
        "has_page": run.kind == "infer",
    }
