"""Named locks that last as long as a lease, and facts about the environment.

    hold("reconcile", "host:812:9f", lease=15)  ->  True

A lock has one holder (a worker or a producer), and is free again when its lease has expired.
"""

from collections.abc import Collection

import sqlalchemy as sa

from shared.ledger import engine, leases, schema

locks, facts = schema.locks.c, schema.facts.c


@engine.retried
def hold(name: str, holder: str, lease: float) -> bool:
    """Take or extend a named lock for ``lease`` seconds; tell whether it is held now."""
    with engine.writing() as connection:
        now = engine.now(connection)
        # No lock lasts so long: the ledger's clock was set back.
        free = sa.or_(locks.holder == holder, locks.until < now, locks.until > now + leases.LONGEST)
        updated = connection.execute(
            schema.locks.update().where(locks.name == name, free).values(holder=holder, until=now + lease)
        ).rowcount
        if updated:
            return True
        # A savepoint: on PostgreSQL a failed insert would abort the whole transaction.
        try:
            with connection.begin_nested():
                connection.execute(schema.locks.insert().values(name=name, holder=holder, until=now + lease))
        except sa.exc.IntegrityError:
            return False
        return True


@engine.retried
def hold_on(name: str, holder: str, lease: float, gap: float) -> float | None:
    """Take or extend a named lock; give the seconds for which it has been held without a gap.

    ``None``: another holder has it. Gaps are longer than ``gap`` seconds: the ledger was unreachable, the
    machine slept, or the ledger's clock was changed.
    """
    since = f"{name} since"
    with engine.writing() as connection:
        now = engine.now(connection)
        query = sa.select(schema.locks).where(locks.name == name)
        row = connection.execute(query.with_for_update()).one_or_none()
        steady = row is not None and -lease - gap <= now - row.until <= gap
        if row is not None and row.holder != holder and steady and row.until >= now:
            return None
        engine.put(connection, schema.locks, {"name": name}, {"holder": holder, "until": now + lease})
        begun = connection.scalar(sa.select(facts.value).where(facts.name == since))
        if not steady or begun is None:
            begun = str(now)
            engine.put(connection, schema.facts, {"name": since}, {"value": begun})
        return now - float(begun)


def free(connection: sa.Connection, holders: Collection[str], now: float) -> None:
    """Release all locks of workers that have died."""
    connection.execute(schema.locks.update().where(locks.holder.in_(holders)).values(until=now))


@engine.retried
def swap_fact(name: str, value: str) -> bool:
    """Record a fact about the environment; tell whether it differs from the one recorded before."""
    with engine.writing() as connection:
        before = connection.scalar(sa.select(facts.value).where(facts.name == name))
        if before is None:
            connection.execute(schema.facts.insert().values(name=name, value=value))
        elif before != value:
            connection.execute(schema.facts.update().where(facts.name == name).values(value=value))
        return before not in (None, value)
