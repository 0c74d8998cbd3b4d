"""Usage of outside services by a run: calls by outcome, tokens, cost, pauses.

    of_run(run)  ->  ApiUsage(budget=20.0, spent=3.21, tallies=[Tally("chat", "deepseek", "ok", 790, ...)],
                              halts=[Halt("qianfan", "qianfan@1f0c22aa", "no credit is left", ...)], ...)

Money is in the settings' currency.
"""

import zoneinfo
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from producers.reports import render
from shared import providers, service_pauses, settings
from shared.errors import ServiceUnreachable
from shared.jobs import DATA_QUEUES
from shared.ledger import calls, engine, schema, token_charges
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.service_pauses import Slowdown

UNDER_WAY, NOT_MADE = "under way", "not made"

items, made = schema.items.c, schema.calls.c


@dataclass(frozen=True)
class Tally:
    """Calls of one model that ended in one way, and what they used."""

    provider: str
    model: str
    outcome: str
    calls: int
    input_tokens: int
    output_tokens: int
    characters: int
    cost: float


@dataclass(frozen=True)
class Halt:
    """A service of a run that is not called, until a time or (``None``) until a person has mended it."""

    provider: str
    service: str
    reason: str
    since_at: float
    until_at: float | None


@dataclass(frozen=True)
class ApiUsage:
    """What a run has had of outside services; ``stopped``: items given up since the budget is spent.

    ``slowdowns`` are pauses that workers wait for; ``passed`` has the services whose calls used more tokens
    than they allowed, and how many times as many.
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
        """Count the calls that went out."""
        return sum(tally.calls for tally in self.tallies if tally.outcome != NOT_MADE)

    @property
    def outcomes(self) -> Counter[str]:
        """Count the calls by how they ended."""
        found: Counter[str] = Counter()
        for tally in self.tallies:
            found[tally.outcome] += tally.calls
        return found


def of_run(run: Run) -> ApiUsage:
    """Tell what a run has had of outside services so far."""
    money = calls.spent(run.name)
    with engine.reading() as connection:
        stopped = connection.scalar(_stopped_query(run.name)) or 0
        tallies = _tallies(connection, run.name)
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


def _tallies(connection: sa.Connection, run: str) -> list[Tally]:
    used = made.input_tokens, made.output_tokens, made.characters, made.cost
    query = (
        sa.select(
            made.provider,
            made.model,
            made.outcome,
            sa.func.count(),
            *(sa.func.sum(column) for column in used),
        )
        .where(made.run == run)
        .group_by(made.provider, made.model, made.outcome)
    )
    found = [_tally(*row) for row in connection.execute(query)]
    return sorted(
        found, key=lambda tally: (tally.provider, tally.model, tally.outcome != calls.OK, -tally.calls)
    )


def _tally(provider: str, model: str, outcome: str | None, *used: Any) -> Tally:
    return Tally(provider, model, outcome or UNDER_WAY, *used)


def _stopped_query(run: str) -> sa.Select[tuple[int]]:
    over = items.reason.startswith(calls.OVER_BUDGET, autoescape=True)
    return sa.select(sa.func.count()).where(items.run == run, items.state == State.DEAD, over)


# Pauses


def halts(run: Run) -> list[Halt]:
    """List the services of a run that are not called now."""
    provider = _provider(run)
    if provider is None:
        return []
    return [
        Halt(provider, pause.service, pause.reason, pause.since, pause.until)
        for pause in calls.pauses(provider)
        if _is_of(pause.service, run)
    ]


def _slowdowns(run: Run) -> list[Slowdown]:
    provider = _provider(run)
    try:
        found = service_pauses.of(provider) if provider else []
    except ServiceUnreachable:
        return []
    return [slowdown for slowdown in found if _is_of(slowdown.service, run)]


def _passed(run: Run) -> dict[str, float]:
    provider = _provider(run)
    found = token_charges.passed(provider) if provider else {}
    return {service: times for service, times in found.items() if _is_of(service, run)}


def _provider(run: Run) -> str | None:
    return run.options.get("provider") if run.kind in DATA_QUEUES else None


def _is_of(service: str, run: Run) -> bool:
    provider = _provider(run)
    models = run.options.get("models") or [run.options.get("model")]
    return service.rpartition("@")[0] in [provider, *(f"{provider}/{model}" for model in models)]


def halts_in_words(run: Run) -> list[str]:
    """Say which services of a run are not called, why, until when, and what to do."""
    return [in_words(halt, run.name) for halt in halts(run)]


def in_words(halt: Halt, run: str) -> str:
    """Say why a service is not called, until when, and what to do."""
    if halt.until_at is None:
        return (
            f"provider {halt.provider} is stopped: {halt.reason.rstrip('.')}; "
            f"mend it, then `votequeue resume {run}`"
        )
    return f"provider {halt.provider} pauses until {_at(halt)}: {halt.reason}"


def _at(halt: Halt) -> str:
    # A day's quota comes back at midnight there, which is what the provider's documents speak of.
    name = providers.PROVIDERS[halt.provider].timezone if halt.provider in providers.PROVIDERS else "UTC"
    try:
        zone: zoneinfo.ZoneInfo | None = zoneinfo.ZoneInfo(name)
    except zoneinfo.ZoneInfoNotFoundError:
        zone, name = None, "local time"
    # To the nearest minute, since midnight may be half a second past or before.
    moment = render.moment((halt.until_at or 0.0) + 30).astimezone(zone)
    return f"{moment:%Y-%m-%d %H:%M} ({name})"
