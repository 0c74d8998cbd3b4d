"""The record of calls to outside services: purpose, reply, usage and cost.

    begin(CallPurpose("correct", 41, "B:1", "chat", "deepseek-chat"), 0.004)  ->  812
    finish(812, "ok", reply="……答案是：B", usage=Usage(640, 310), cost=0.0031)

A reply is recorded before it is used, so that it is never paid for twice. Budgets are kept here, as are the
daily quotas and pauses of accounts, which all workers share.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from shared.errors import LONGEST_DAY, Halted, Held, OverBudget, VotequeueError
from shared.ledger import engine, schema
from shared.ledger.schema import State
from shared.providers import Usage

OK, NOT_MADE, NOT_ENDED = "ok", "not made", "under way"
UNKNOWN = ("no reply", "unreadable")  # outcomes of calls that may have used up to their bound
LATEST = 20_000  # latest calls, among which those of the last minutes are searched
UNDER_WAY = 900.0  # seconds after which an unfinished call counts as one of a dead worker
SHOWING = 30.0  # seconds to wait for the first calls to a service, to observe their usage
A_CALL = 5.0  # typical seconds until a call under way has ended
OWN_QUOTA = "per_day is used up: "  # prefix of the reason of a pause for our own limit
OVER_BUDGET = "the budget of "  # prefix of the reason of an item that a budget stopped
calls, items, spending, pauses_of = schema.calls.c, schema.items.c, schema.spending.c, schema.pauses.c


@dataclass(frozen=True)
class CallPurpose:
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
    """A service not to be called until ``until`` (seconds, UTC), or (``None``) until a person lifts it."""

    service: str
    reason: str
    since: float
    until: float | None


@dataclass(frozen=True)
class Tally:
    """Calls of one model with one outcome, and their usage; ``cost`` in the settings' currency."""

    provider: str
    model: str
    outcome: str
    calls: int
    input_tokens: int
    output_tokens: int
    characters: int
    cost: float


@dataclass(frozen=True)
class Recent:
    """The latest calls to a model: those under way, and (``unknown``) those of unknown usage.

    ``used`` has a pair for each other call: seconds since its end, tokens. ``now`` is the ledger's time.
    """

    now: float
    under_way: int
    unknown: int
    used: list[tuple[float, int]]

    def __bool__(self) -> bool:
        return bool(self.unknown or self.used)


def begin(purpose: CallPurpose, most: float, others: int | None = None) -> int:
    """Record that a call begins, with its upper cost bound; give its number.

    A run with a budget begins no call while more than ``others`` to the same model are under way.

    Raises:
        Held: the budget may suffice once calls under way have ended, or the first calls must show their
            cost; nothing was recorded.
        OverBudget: the run would exceed its budget; nothing was recorded.
        Halted: the run is paused, cancelled or near its deadline; nothing was recorded.
    """
    with engine.writing() as connection:
        halted = sa.not_(schema.is_active(engine.now(connection)))
        if connection.scalar(sa.select(schema.runs.c.name).where(schema.runs.c.name == purpose.run, halted)):
            raise Halted(
                f"run {purpose.run} makes no calls now: it is paused, cancelled or near its deadline"
            )
        within = sa.or_(spending.budget.is_(None), spending.spent + most <= spending.budget)
        charged = connection.execute(
            schema.spending.update()
            .where(spending.run == purpose.run, within)
            .values(spent=spending.spent + most)
        ).rowcount
        if not charged:
            raise _over_budget(connection, purpose.run, most)
        if others is not None and most:
            _limit_first_calls(connection, purpose, others)
        values = {**purpose.__dict__, "begun_at": engine.now(connection), "cost": most}
        number = connection.execute(schema.calls.insert().values(values).returning(calls.id))
        return int(number.scalar_one())


def _limit_first_calls(connection: sa.Connection, purpose: CallPurpose, others: int) -> None:
    budget = connection.scalar(sa.select(spending.budget).where(spending.run == purpose.run))
    count = sa.select(sa.func.count()).where(
        calls.run == purpose.run,
        calls.provider == purpose.provider,
        calls.model == purpose.model,
        calls.ended_at.is_(None),
        calls.begun_at > engine.now(connection) - SHOWING,
    )
    if budget is not None and connection.execute(count).scalar_one() > others:
        name = f"{purpose.provider}/{purpose.model}"
        raise Held(f"the first calls to {name} must show what a call costs", A_CALL)


def _over_budget(connection: sa.Connection, run: str, most: float) -> VotequeueError:
    row = connection.execute(sa.select(schema.spending).where(spending.run == run)).one()
    recent = calls.begun_at > engine.now(connection) - UNDER_WAY
    under_way = sa.select(sa.func.coalesce(sa.func.sum(calls.cost), 0.0)).where(
        calls.run == run, calls.ended_at.is_(None), recent
    )
    reason = (
        f"{OVER_BUDGET}{row.budget:g} would be exceeded: {row.spent:.4g} is spent, the next call may cost "
        f"{most:.4g}"
    )
    # Most calls cost less than their bound, so the budget may suffice once those under way have ended.
    if row.spent - connection.execute(under_way).scalar_one() + most <= row.budget:
        return Held(f"{reason}, unless calls under way cost less than their bounds", A_CALL)
    return OverBudget(reason)


def finish(
    call: int,
    outcome: str,
    *,
    detail: str | None = None,
    reply: str | None = None,
    usage: Usage | None = None,
    cost: float | None = 0.0,
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> None:
    """Record the outcome and cost of a call; ``also`` writes in the same transaction.

    ``cost`` None: it is unknown, so the upper bound stands.
    """
    used = usage or Usage()
    with engine.writing() as connection:
        query = sa.select(calls.run, calls.cost).where(calls.id == call)
        row = connection.execute(query.with_for_update()).one()
        final_cost = row.cost if cost is None else cost
        connection.execute(
            schema.calls.update()
            .where(calls.id == call)
            .values(
                ended_at=engine.now(connection),
                outcome=outcome,
                detail=detail,
                reply=None if reply is None else engine.storable(reply),
                cost=final_cost,
                **used.__dict__,
            )
        )
        connection.execute(
            schema.spending.update()
            .where(spending.run == row.run)
            .values(spent=spending.spent + (final_cost - row.cost))
        )
        also(connection)


def raise_under_way(provider: str, model: str, factor: float) -> None:
    """Multiply the cost bounds of a model's calls under way, and what they charge to their runs' budgets.

    For use when a reply has shown that calls may cost more than their bounds.
    """
    with engine.writing() as connection:
        # Skip locked calls: they are being finished now.
        rows = connection.execute(
            sa.select(calls.id, calls.run, calls.cost)
            .where(_of_latest(connection, provider, model), calls.ended_at.is_(None), calls.cost > 0)
            .order_by(calls.id)
            .with_for_update(skip_locked=True)
        ).all()
        more: dict[str, float] = {}
        for row in rows:
            more[row.run] = more.get(row.run, 0.0) + row.cost * (factor - 1)
        ids = [row.id for row in rows]
        connection.execute(schema.calls.update().where(calls.id.in_(ids)).values(cost=calls.cost * factor))
        for run, amount in sorted(more.items()):
            connection.execute(
                schema.spending.update().where(spending.run == run).values(spent=spending.spent + amount)
            )


def recent(provider: str, model: str, seconds: float) -> Recent:
    """Give the calls to a model that may have been made within so many seconds."""
    with engine.reading() as connection:
        now = engine.now(connection)
        total = calls.input_tokens + calls.output_tokens
        tokens = sa.case((sa.and_(calls.outcome.in_(UNKNOWN), total == 0), None), else_=total)
        query = (
            sa.select(calls.ended_at, tokens)
            .where(_of_latest(connection, provider, model), calls.outcome.is_distinct_from(NOT_MADE))
            .where(sa.or_(calls.ended_at.is_(None), calls.ended_at > now - seconds))
        )
        rows = connection.execute(query).all()
    used = [(max(0.0, now - at), tokens) for at, tokens in rows if at is not None and tokens is not None]
    return Recent(now, sum(at is None for at, _ in rows), len(rows) - len(used), used)


def begun_before(provider: str, model: str, moment: float, within: float) -> frozenset[int]:
    """Give the calls to a model under way that began before a moment, and within so many seconds."""
    with engine.reading() as connection:
        query = sa.select(calls.id).where(
            _of_latest(connection, provider, model),
            calls.ended_at.is_(None),
            calls.begun_at.between(engine.now(connection) - within, moment),
        )
        return frozenset(connection.scalars(query))


def _of_latest(connection: sa.Connection, provider: str, model: str) -> sa.ColumnElement[bool]:
    return sa.and_(_latest(connection), calls.provider == provider, calls.model == model)


def _latest(connection: sa.Connection) -> sa.ColumnElement[bool]:
    # Limited by number, which is indexed: a ledger may hold millions of calls.
    last = connection.scalar(sa.select(sa.func.max(calls.id))) or 0
    since = engine.now(connection) - UNDER_WAY
    return sa.and_(calls.id > last - LATEST, calls.begun_at > since)


def reply(run: str, number: int, step: str) -> str | None:
    """Give the recorded reply for a step of an item."""
    query = sa.select(calls.reply).where(
        calls.run == run, calls.number == number, calls.step == step, calls.outcome == OK
    )
    with engine.reading() as connection:
        return connection.scalars(query.limit(1)).first()


def answered_steps(run: str) -> Iterator[tuple[int, str]]:
    """Read the item's number and the step of each call of a run that had a reply."""
    query = sa.select(calls.number, calls.step).where(
        calls.run == run, calls.outcome == OK, calls.number.is_not(None)
    )
    with engine.streaming() as connection:
        yield from connection.execute(query).tuples()


def tally(run: str) -> tuple[list[Tally], int]:
    """Sum up a run's calls by model and outcome; count the items that its budget stopped."""
    used = calls.input_tokens, calls.output_tokens, calls.characters, calls.cost
    outcome = sa.func.coalesce(calls.outcome, NOT_ENDED)
    query = (
        sa.select(
            calls.provider, calls.model, outcome, sa.func.count(), *(sa.func.sum(column) for column in used)
        )
        .where(calls.run == run)
        .group_by(calls.provider, calls.model, calls.outcome)
    )
    over = items.reason.startswith(OVER_BUDGET, autoescape=True)
    stopped = sa.select(sa.func.count()).where(items.run == run, items.state == State.DEAD, over)
    with engine.reading() as connection:
        count = connection.scalar(stopped) or 0
        tallies = [Tally(*row) for row in connection.execute(query)]
    order = sorted(tallies, key=lambda each: (each.provider, each.model, each.outcome != OK, -each.calls))
    return order, count


# Budgets


def set_budget(run: str, budget: float | None) -> None:
    """Set or change a run's budget; its spending stays."""
    with engine.writing() as connection:
        put_budget(connection, run, budget)


def put_budget(connection: sa.Connection, run: str, budget: float | None) -> None:
    """Set a run's budget in the caller's transaction."""
    engine.insert_missing(connection, schema.spending, [{"run": run, "spent": 0.0}])
    connection.execute(schema.spending.update().where(spending.run == run).values(budget=budget))


def spent(run: str) -> Spending:
    """Give a run's budget and spending."""
    with engine.reading() as connection:
        row = connection.execute(
            sa.select(spending.budget, spending.spent).where(spending.run == run)
        ).one_or_none()
    return Spending(row.budget, row.spent) if row else Spending(None, 0.0)


def every_spending() -> dict[str, Spending]:
    """Give budget and spending of each run that has them, without what calls under way have reserved."""
    with engine.reading() as connection:
        under_way = _latest(connection), calls.ended_at.is_(None)
        query = sa.select(calls.run, sa.func.sum(calls.cost)).where(*under_way).group_by(calls.run)
        reserved = dict(connection.execute(query).tuples().all())
        return {
            row.run: Spending(row.budget, max(0.0, row.spent - reserved.get(row.run, 0.0)))
            for row in connection.execute(schema.spending.select())
        }


# Quotas and pauses of accounts, shared by all workers


def use_quota(service: str, day: str, limit: int) -> bool:
    """Count a call against a day's quota; ``False``: the quota is used up, nothing was counted."""
    quotas = schema.quotas.c
    with engine.writing() as connection:
        engine.insert_missing(connection, schema.quotas, [{"service": service, "day": day, "used": 0}])
        return bool(
            connection.execute(
                schema.quotas.update()
                .where(quotas.service == service, quotas.day == day, quotas.used < limit)
                .values(used=quotas.used + 1)
            ).rowcount
        )


def pause(service: str, reason: str, until: float | None) -> None:
    """Pause a service for all workers, until a time (seconds, UTC) or until the pause is lifted."""
    with engine.writing() as connection:
        now = engine.now(connection)
        engine.insert_missing(
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


def pauses(provider: str | None = None) -> list[Pause]:
    """List the pauses of a provider's services, or of all services, whatever model and account."""
    return _pauses(sa.true() if provider is None else _of_provider(provider))


def lift(provider: str) -> int:
    """End the pauses of a provider's services; give how many there were."""
    with engine.writing() as connection:
        return connection.execute(schema.pauses.delete().where(_of_provider(provider))).rowcount


def _of_provider(provider: str) -> sa.ColumnElement[bool]:
    return sa.or_(*(pauses_of.service.startswith(provider + mark, autoescape=True) for mark in "/@"))


def _pauses(where: sa.ColumnElement[bool]) -> list[Pause]:
    with engine.reading() as connection:
        now = engine.now(connection)
        # A pause with an end is bounded, whatever length an older version recorded.
        lasting = sa.and_(pauses_of.until > now, pauses_of.since > now - LONGEST_DAY)
        query = sa.select(schema.pauses).where(where, sa.or_(pauses_of.until.is_(None), lasting))
        rows = connection.execute(query.order_by(pauses_of.service)).all()
    return [_bounded(Pause(**row._mapping)) for row in rows]


def _bounded(pause: Pause) -> Pause:
    if pause.until is None:
        return pause
    return dataclasses.replace(pause, until=min(pause.since + LONGEST_DAY, pause.until))
