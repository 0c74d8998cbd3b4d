"""Calls to outside services as the record has them: what was asked for, what came back, what it cost.

    begin(Errand("correct", 41, "B:1", "chat", "deepseek-chat"), 0.004)  ->  812
    finish(812, "ok", reply="……答案是：B", usage=Usage(640, 310), cost=0.0031)

A reply is on record before anything is done with it, so that it is never bought again. Budgets are kept here,
and what all workers must know of an account: a day's calls, a pause. How calls are made is not known here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from shared import ledger, schema
from shared.errors import Held, OverBudget, VotequeueError
from shared.providers import Usage

OK = "ok"
UNDER_WAY = 900.0  # seconds after which a call without an end is one whose worker has died
A_CALL = 5.0  # seconds until a call under way may be through
OVER_BUDGET = "the budget of "  # so begins the reason of what a budget has stopped
calls, spending, pauses_of = schema.calls.c, schema.spending.c, schema.pauses.c


@dataclass(frozen=True)
class Errand:
    """What a call is for: a step of one item of a run, or (``number`` None) of several."""

    run: str
    number: int | None
    step: str
    provider: str
    model: str


@dataclass(frozen=True)
class Spending:
    """What a run may spend and has spent, in the settings' currency; ``budget`` None: any amount."""

    budget: float | None
    spent: float


@dataclass(frozen=True)
class Pause:
    """A service that is not called until ``until`` (seconds, UTC), or (``None``) until a person mends it."""

    service: str
    reason: str
    since: float
    until: float | None


def begin(errand: Errand, estimate: float) -> int:
    """Record that a call is made now, its cost by estimate; give its number.

    Raises:
        Held: calls that are under way may leave enough of the run's budget; nothing was recorded.
        OverBudget: the run would have spent more than its budget; nothing was recorded.
    """
    with ledger.writing() as connection:
        within = sa.or_(spending.budget.is_(None), spending.spent + estimate <= spending.budget)
        charged = connection.execute(
            schema.spending.update()
            .where(spending.run == errand.run, within)
            .values(spent=spending.spent + estimate)
        ).rowcount
        if not charged:
            raise _over_budget(connection, errand.run, estimate)
        values = {**errand.__dict__, "begun_at": ledger.now(connection), "cost": estimate}
        made = connection.execute(schema.calls.insert().values(values).returning(calls.id))
        return int(made.scalar_one())


def _over_budget(connection: sa.Connection, run: str, estimate: float) -> VotequeueError:
    row = connection.execute(sa.select(schema.spending).where(spending.run == run)).one()
    recent = calls.begun_at > ledger.now(connection) - UNDER_WAY
    under_way = sa.select(sa.func.coalesce(sa.func.sum(calls.cost), 0.0)).where(
        calls.run == run, calls.ended_at.is_(None), recent
    )
    said = (
        f"{OVER_BUDGET}{row.budget:g} would be passed: {row.spent:.4g} is spent, and the next call may cost "
        f"{estimate:.4g}"
    )
    # Most calls cost less than the most they may: what is under way may still leave enough.
    if row.spent - connection.execute(under_way).scalar_one() + estimate <= row.budget:
        return Held(f"{said}, unless calls under way cost less than they may", A_CALL)
    return OverBudget(said)


def finish(
    call: int,
    outcome: str,
    *,
    detail: str | None = None,
    reply: str | None = None,
    usage: Usage | None = None,
    cost: float = 0.0,
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> None:
    """Record how a call ended and what it came to cost; ``also`` writes in the same transaction."""
    used = usage or Usage()
    with ledger.writing() as connection:
        row = connection.execute(sa.select(calls.run, calls.cost).where(calls.id == call)).one()
        connection.execute(
            schema.calls.update()
            .where(calls.id == call)
            .values(
                ended_at=ledger.now(connection),
                outcome=outcome,
                detail=detail,
                reply=None if reply is None else ledger.storable(reply),
                cost=cost,
                **used.__dict__,
            )
        )
        connection.execute(
            schema.spending.update()
            .where(spending.run == row.run)
            .values(spent=spending.spent + (cost - row.cost))
        )
        also(connection)


def reply(run: str, number: int, step: str) -> str | None:
    """Give the reply that is on record for a step of an item."""
    query = sa.select(calls.reply).where(
        calls.run == run, calls.number == number, calls.step == step, calls.outcome == OK
    )
    with ledger.reading() as connection:
        return connection.scalars(query.limit(1)).first()


# Budgets


def set_budget(run: str, budget: float | None) -> None:
    """Give a run its budget, or another one; what it has spent stays."""
    with ledger.writing() as connection:
        put_budget(connection, run, budget)


def put_budget(connection: sa.Connection, run: str, budget: float | None) -> None:
    """Give a run its budget in a transaction that does more."""
    ledger.insert_missing(connection, schema.spending, [{"run": run, "spent": 0.0}])
    connection.execute(schema.spending.update().where(spending.run == run).values(budget=budget))


def spent(run: str) -> Spending:
    """Tell what a run may spend and has spent."""
    with ledger.reading() as connection:
        row = connection.execute(
            sa.select(spending.budget, spending.spent).where(spending.run == run)
        ).one_or_none()
    return Spending(row.budget, row.spent) if row else Spending(None, 0.0)


# What all workers must know of an account


def use_quota(service: str, day: str, limit: int) -> bool:
    """Count a call against a day's quota; ``False``: the quota is used up, nothing was counted."""
    quotas = schema.quotas.c
    with ledger.writing() as connection:
        ledger.insert_missing(connection, schema.quotas, [{"service": service, "day": day, "used": 0}])
        return bool(
            connection.execute(
                schema.quotas.update()
                .where(quotas.service == service, quotas.day == day, quotas.used < limit)
                .values(used=quotas.used + 1)
            ).rowcount
        )


def pause(service: str, reason: str, until: float | None) -> None:
    """Let no worker call a service, until a time (seconds, UTC) or until it is lifted."""
    with ledger.writing() as connection:
        now = ledger.now(connection)
        ledger.insert_missing(
            connection,
            schema.pauses,
            [{"service": service, "reason": reason, "since": now, "until": until}],
        )
        connection.execute(
            schema.pauses.update()
            .where(pauses_of.service == service)
            .values(reason=reason, since=now, until=until)
        )


def paused(services: Sequence[str]) -> Pause | None:
    """Tell whether one of some services is paused now."""
    return next(iter(_pauses(pauses_of.service.in_(services))), None)


def pauses(provider: str) -> list[Pause]:
    """List the pauses of a provider's services, whatever model and account."""
    return _pauses(_of_provider(provider))


def lift(provider: str) -> int:
    """End the pauses of a provider's services; give how many there were."""
    with ledger.writing() as connection:
        return connection.execute(schema.pauses.delete().where(_of_provider(provider))).rowcount


def _of_provider(provider: str) -> sa.ColumnElement[bool]:
    return sa.or_(*(pauses_of.service.startswith(provider + mark, autoescape=True) for mark in "/@"))


def _pauses(where: sa.ColumnElement[bool]) -> list[Pause]:
    with ledger.reading() as connection:
        now = ledger.now(connection)
        query = sa.select(schema.pauses).where(
            where, sa.or_(pauses_of.until.is_(None), pauses_of.until > now)
        )
        return [Pause(**row._mapping) for row in connection.execute(query.order_by(pauses_of.service))]
