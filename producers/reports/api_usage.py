"""Usage of external services by a run: calls by outcome, tokens, cost, pauses.

    of_run(run)  ->  ApiUsage(budget=20.0, spent=3.21, tallies=[Tally("chat", "deepseek", "ok", 790, ...)],
                              halts=[Halt("qianfan", "qianfan@1f0c22aa", "no credit is left", ...)], ...)

Money is in the settings' currency.
"""

import zoneinfo
from collections import Counter
from dataclasses import dataclass

from producers.reports import render
from shared import providers, service_pauses, settings
from shared.errors import ServiceUnreachable
from shared.ledger import calls, token_charges
from shared.ledger.calls import Spending, Tally
from shared.ledger.runs import Run
from shared.service_pauses import Slowdown


@dataclass(frozen=True)
class Halt:
    """A paused service of a run; ``until_at`` is ``None`` if it waits for `votequeue resume`."""

    provider: str
    service: str
    reason: str
    since_at: float
    until_at: float | None


@dataclass(frozen=True)
class ApiUsage:
    """A run's usage of external services; ``stopped`` counts the items that the budget stopped.

    ``slowdowns`` are short pauses that workers wait for. ``passed`` maps each service that exceeded the token
    limit of its calls to the largest ratio of used to allowed tokens.
    """

    currency: str
    budget: float | None
    spent: float
    stopped: int
    tallies: list[Tally]
    halts: list[Halt]
    slowdowns: list[Slowdown]
    passed: dict[str, float]

    @property
    def calls(self) -> int:
        """Count the calls that were made."""
        return sum(tally.calls for tally in self.tallies if tally.outcome != calls.NOT_MADE)

    @property
    def outcomes(self) -> Counter[str]:
        """Count the calls by outcome."""
        counts: Counter[str] = Counter()
        for tally in self.tallies:
            counts[tally.outcome] += tally.calls
        return counts


def of_run(run: Run) -> ApiUsage:
    """Return a run's usage of external services so far."""
    money = calls.every_spending().get(run.name, Spending(None, 0.0))
    tallies, stopped = calls.tally(run.name)
    return ApiUsage(
        currency=settings.load().currency,
        budget=money.budget,
        spent=money.spent,
        stopped=stopped,
        tallies=tallies,
        halts=halts(run),
        slowdowns=_slowdowns(run),
        passed=_passed(run),
    )


# Pauses


def halts(run: Run) -> list[Halt]:
    """List the paused services of a run."""
    return [
        Halt(provider, pause.service, pause.reason, pause.since, pause.until)
        for provider in run.providers
        for pause in calls.pauses(provider)
        if _is_of(pause.service, run)
    ]


def _slowdowns(run: Run) -> list[Slowdown]:
    try:
        slowdowns = [slowdown for provider in run.providers for slowdown in service_pauses.of(provider)]
    except ServiceUnreachable:
        return []
    return [slowdown for slowdown in slowdowns if _is_of(slowdown.service, run)]


def _passed(run: Run) -> dict[str, float]:
    passed = [token_charges.passed(provider).items() for provider in run.providers]
    return {service: ratio for ratios in passed for service, ratio in ratios if _is_of(service, run)}


def _is_of(service: str, run: Run) -> bool:
    models = [f"{provider}/{model}" for provider, model in run.services]
    return service.rpartition("@")[0] in [*run.providers, *models]


def describe_halts(run: Run) -> list[str]:
    """Describe each paused service of a run: why, until when, and what to do."""
    return [describe_halt(halt, run.name) for halt in halts(run)]


def describe_halt(halt: Halt, run: str) -> str:
    """Describe a paused service: why, until when, and what to do."""
    if halt.until_at is None:
        return (
            f"provider {halt.provider} is stopped: {halt.reason.rstrip('.')}; "
            f"fix it, then run `votequeue resume {run}`"
        )
    return f"provider {halt.provider} pauses until {_at(halt)}: {halt.reason}"


def _at(halt: Halt) -> str:
    # A daily quota resets at midnight in the provider's time zone.
    name = providers.PROVIDERS[halt.provider].timezone if halt.provider in providers.PROVIDERS else "UTC"
    try:
        zone: zoneinfo.ZoneInfo | None = zoneinfo.ZoneInfo(name)
    except zoneinfo.ZoneInfoNotFoundError:
        zone, name = None, "local time"
    # Round to the nearest minute.
    moment = render.moment((halt.until_at or 0.0) + 30).astimezone(zone)
    return f"{moment:%Y-%m-%d %H:%M} ({name})"
