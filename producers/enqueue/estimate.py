"""Estimate the cost and duration of a run before anything is sent.

    of(workload)  ->  Estimate(calls=Between(1475, 3984), cost=Between(3.2, 9.8), seconds=Between(720, 2400),
                               currency="CNY", services=[Forecast("chat", "deepseek-chat", ...)], ...)

Prices and limits come from the settings and the services' documentation; the amounts come from `workload`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from producers import console
from producers.enqueue.workload import Amount, Load, Workload
from shared import providers, settings
from shared.errors import UserError
from shared.ledger.runs import Run
from shared.providers import Limits, Price, Usage

USED = 0.95  # share of a rate limit that the limiter uses
LATENCY = 1.0  # seconds to first token
SPEED = 40.0  # tokens per second of one reply
LOCAL_SPEED = 5.0  # the same for our own weights on a laptop CPU with concurrent requests
DAY = 86_400.0  # seconds
MUCH = 1.5  # ratio to the expected cost above which a remark is printed
WORKER = "the calls in flight of one worker"


@dataclass(frozen=True)
class Between:
    """An expected and a maximum amount."""

    expected: float
    most: float


@dataclass(frozen=True)
class Forecast:
    """The estimate for one model; ``bound_by`` names the limit that determines the duration.

    A budget reserves ``call_cost`` for one call until its reply reports the usage. Without a price,
    ``call_cost`` and ``cost`` are ``None``.
    """

    provider: str
    model: str
    calls: Between
    input_tokens: Between
    output_tokens: Between
    characters: Between
    cost: Between | None
    call_cost: float | None
    seconds: Between
    bound_by: str
    limits: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the model's name as in the settings: ``provider/model``."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True)
class Estimate:
    """The estimate for a run; ``on_record`` counts the recorded texts, which cost nothing."""

    calls: Between
    input_tokens: Between
    output_tokens: Between
    characters: Between
    cost: Between | None
    currency: str
    seconds: Between
    bound_by: str
    on_record: int
    services: list[Forecast]
    assumptions: list[str]


def of(work: Workload) -> Estimate:
    """Estimate what a workload costs and how long it takes."""
    services = [_forecast(load) for load in work.loads]
    slowest = max(services, key=lambda service: service.seconds.expected, default=None)
    assumptions = [
        *work.assumptions,
        "one worker is there, " + "; ".join(sorted({_pace(load.provider) for load in work.loads})),
        "retries of failed calls are not included",
    ]
    return Estimate(
        calls=_sum(service.calls for service in services),
        input_tokens=_sum(service.input_tokens for service in services),
        output_tokens=_sum(service.output_tokens for service in services),
        characters=_sum(service.characters for service in services),
        cost=_sum(service.cost for service in services),
        currency=settings.load().currency,
        # Models are called concurrently.
        seconds=Between(
            max((service.seconds.expected for service in services), default=0.0),
            max((service.seconds.most for service in services), default=0.0),
        ),
        bound_by=slowest.bound_by if slowest else "nothing",
        on_record=work.on_record,
        services=services,
        assumptions=assumptions if services else work.assumptions,
    )


def _pace(provider: str) -> str:
    where = " on a laptop" if provider == "local" else ""
    return f"a reply starts after {LATENCY:g} s and streams {_speed(provider):g} tokens/s{where}"


def _speed(provider: str) -> float:
    return LOCAL_SPEED if provider == "local" else SPEED


def _sum(amounts: Iterable[Between | None]) -> Any:
    # One unknown price makes the total unknown.
    listed = list(amounts)
    known = [amount for amount in listed if amount is not None]
    if len(known) < len(listed):
        return None
    return Between(sum(one.expected for one in known), sum(one.most for one in known))


def _forecast(load: Load) -> Forecast:
    loaded = settings.load()
    limits = providers.limits(load.provider, load.model, loaded.limits)
    speed = _speed(load.provider)
    seconds = _times(load.expected, limits, speed)
    bound_by = max(seconds, key=seconds.__getitem__)

    def between(measure: Callable[[Amount], float]) -> Between:
        return Between(measure(load.expected), measure(load.most))

    price = providers.price(load.provider, load.model, loaded.prices)
    priced = has_price(load.provider, load.model)
    return Forecast(
        provider=load.provider,
        model=load.model,
        calls=between(lambda amount: math.ceil(amount.calls)),
        input_tokens=between(lambda amount: math.ceil(amount.input_tokens)),
        output_tokens=between(lambda amount: math.ceil(amount.output_tokens)),
        characters=between(lambda amount: math.ceil(amount.characters)),
        cost=between(lambda amount: _cost(price, amount)) if priced else None,
        call_cost=providers.cost(price, load.call) if priced else None,
        seconds=between(lambda amount: max(_times(amount, limits, speed).values())),
        bound_by=bound_by if seconds[bound_by] else "nothing",
        limits=limits.model_dump(exclude_none=True),
    )


def has_price(provider: str, model: str) -> bool:
    """Return whether a model has a price; provider local needs none."""
    return providers.is_priced(provider, model, settings.load().prices)


def _cost(price: Price, amount: Amount) -> float:
    sizes = amount.input_tokens, amount.output_tokens, amount.characters
    return providers.cost(price, Usage(*map(math.ceil, sizes)))


def _times(amount: Amount, limits: Limits, speed: float) -> dict[str, float]:
    """Return the duration in seconds under each limit; ``speed``: tokens per second of one reply."""
    if not amount.calls:
        return {"nothing": 0.0}
    call_seconds = LATENCY + amount.output_tokens / amount.calls / speed
    tokens = amount.input_tokens + amount.output_tokens
    times = {
        "the length of a call": call_seconds,
        "per_second": amount.calls / ((limits.per_second or math.inf) * USED),
        "per_minute": 60 * amount.calls / ((limits.per_minute or math.inf) * USED),
        "tokens_per_minute": 60 * tokens / ((limits.tokens_per_minute or math.inf) * USED),
        "max_concurrency": call_seconds * amount.calls / (limits.max_concurrency or math.inf),
        WORKER: call_seconds * amount.calls / settings.load().calls_in_flight,
    }
    if limits.per_day:
        times["per_day"] = DAY * (math.ceil(amount.calls / limits.per_day) - 1)
    return times


# Budgets


def require_price(run: Run, budget: float | None) -> None:
    """Refuse a budget if a price is missing.

    Raises:
        UserError: a model has no price.
    """
    unknown = unpriced(run.services)
    if budget is not None and unknown:
        raise UserError(
            f"--budget {budget:g} needs a price for {', '.join(unknown)}; "
            "set it in VOTEQUEUE_PRICES ({} if free)"
        )


def too_small(estimate: Estimate, left: float) -> str | None:
    """Describe a remaining budget that may not cover one call; ``None`` if it does."""
    for service in estimate.services:
        if service.call_cost and left < service.call_cost:
            return (
                f"the remaining budget {left:g} may not cover a call to {service.name}: it counts as up to "
                f"{money(service.call_cost, estimate)} until its reply reports its usage"
            )
    return None


def unpriced(services: Iterable[tuple[str, str]]) -> list[str]:
    """List the models without a price, given providers and models."""
    return ["/".join(service) for service in services if not has_price(*service)]


# Rendering


def summary(estimate: Estimate) -> str:
    """Summarize an estimate in one line."""
    calls = f"{estimate.calls.expected:,.0f} calls (at most {estimate.calls.most:,.0f})"
    cost = "no price is set"
    if estimate.cost:
        expected, most = (money(amount, estimate) for amount in (estimate.cost.expected, estimate.cost.most))
        cost = f"{expected} (at most {most})"
    length = f"about {console.span(estimate.seconds.expected)} (bound by {estimate.bound_by})"
    return f"estimate: {calls}, {cost}, {length}"


def money(amount: float, estimate: Estimate) -> str:
    """Format an amount of money."""
    return f"{digits(amount)} {estimate.currency}"


def digits(amount: float) -> str:
    """Format an amount of money without its currency."""
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}"


def rows(estimate: Estimate) -> list[tuple[str, str, str]]:
    """Return an estimate as table rows: quantity, expected, at most."""
    services, cost = estimate.services, estimate.cost
    sizes = [
        ("calls", estimate.calls),
        *((f"calls to {one.name}", one.calls) for one in services if len(services) > 1),
        ("input tokens", estimate.input_tokens),
        ("output tokens", estimate.output_tokens),
        ("characters", estimate.characters),
    ]
    table = [
        (word, f"{size.expected:,.0f}", f"{size.most:,.0f}")
        for word, size in sizes
        if size.most or word == "calls"
    ]
    if cost is not None:
        table.append((f"cost ({estimate.currency})", digits(cost.expected), digits(cost.most)))
    return [*table, ("time", console.span(estimate.seconds.expected), console.span(estimate.seconds.most))]


def remarks(estimate: Estimate) -> list[str]:
    """List the basis of an estimate: limits, prices, recorded texts and assumptions."""
    missing = [service.name for service in estimate.services if service.cost is None]
    notes = [f"no price is set for {name}: VOTEQUEUE_PRICES" for name in missing]
    notes += [f"already on record, at no cost: {estimate.on_record}"] if estimate.on_record else []
    for service in estimate.services:
        limits = ", ".join(f"{name} {value:g}" for name, value in service.limits.items()) or "none known"
        cost, calls = service.cost, service.calls.expected
        if service.call_cost and cost and service.call_cost > MUCH * cost.expected / calls:
            notes.append(
                f"a budget counts a call to {service.name} as up to {money(service.call_cost, estimate)}, "
                "one token per byte of its prompt, until its reply reports its usage"
            )
        notes.append(f"limits of {service.name}: {limits}; the time is bound by {service.bound_by}")
    return notes + [f"assumed: {assumption}" for assumption in estimate.assumptions]
