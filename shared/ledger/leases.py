"""Leases of worker processes: which workers are alive, and which have died.

    workers: ("host:812:9f", lease_until 1795340412.5, "6f1c…:4026531836", 812, 118829)

There is one row per worker, however many claims it has: a heartbeat writes one row, and a dead worker's
claims are found together. On PostgreSQL, a worker also holds a lock as long as its session lasts.
"""

import contextlib
import functools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from shared import processes
from shared.ledger import engine, schema

log = logging.getLogger(__name__)
LONGEST = 600.0  # seconds: no lease lasts longer; one that seems to shows that the clock was set back
SESSION_LOCKS = 7015  # class of the advisory locks that workers' sessions hold
workers = schema.workers.c


@dataclass(frozen=True)
class Process:
    """A process of one kernel and pid namespace; ``started`` is its start in clock ticks since the boot.

    The start time distinguishes it from a later process with the same pid; it never jumps, unlike wall time.
    """

    place: str
    pid: int
    started: int


@functools.cache
def own_process() -> Process | None:
    """Describe this process; ``None`` where the system does not provide it."""
    place, started = _place(), processes.start(os.getpid())
    return None if place is None or started is None else Process(place, os.getpid(), started)


def _place() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def extend(connection: sa.Connection, worker: str, lease: float, **signs: object) -> float:
    """Extend a worker's lease to ``lease`` seconds from now; give the ledger's time.

    ``signs`` are the columns that show whether it is alive.
    """
    now = engine.now(connection)
    engine.put(connection, schema.workers, {"name": worker}, {"lease_until": now + lease, **signs})
    return now


@engine.retried
def heartbeat(
    worker: str,
    lease: float,
    process: Process | None = None,
    session: int | None = None,
    queues: Collection[str] | None = None,
) -> float:
    """Extend a worker's lease, which all of its claims share; give the ledger's time.

    ``process`` and ``session`` (the key of its session's lock) are signs of life beside the lease. ``queues``
    are those that it consumes.
    """
    signs = asdict(process) if process else {"place": None, "pid": None, "started": None}
    with engine.writing() as connection:
        served = sa.null() if queues is None else sorted(queues)
        return extend(connection, worker, lease, **signs, session=session, queues=served)


def served_queues() -> set[str] | None:
    """Name the queues that live workers consume; ``None``: one of them, of an older version, does not say."""
    with engine.reading() as connection:
        inspector = sa.inspect(connection)
        known = inspector.has_table(schema.workers.name) and inspector.get_columns(schema.workers.name)
        if workers.queues.name not in {column["name"] for column in known or ()}:
            return None  # an older ledger that is opened read-only
        alive = workers.lease_until > engine.now(connection)
        consumed = list(connection.scalars(sa.select(workers.queues).where(alive)))
    return None if None in consumed else {queue for queues in consumed for queue in queues}


@dataclass(frozen=True)
class LivingWorker:
    """A worker and the number of items that it holds; ``queues`` is ``None`` in an older version."""

    name: str
    queues: list[str] | None
    held: int


def living() -> list[LivingWorker]:
    """List the live workers by name."""
    held = (
        sa.select(sa.func.count())
        .where(schema.items.c.state == schema.State.LEASED, schema.items.c.holder == workers.name)
        .scalar_subquery()
    )
    with engine.reading() as connection:
        alive = workers.lease_until > engine.now(connection)
        query = sa.select(workers.name, workers.queues, held).where(alive).order_by(workers.name)
        return [LivingWorker(*row) for row in connection.execute(query)]


def count_consumers() -> Counter[str]:
    """Count the live workers that consume each queue."""
    with engine.reading() as connection:
        alive = workers.lease_until > engine.now(connection), workers.queues.is_not(None)
        consumed = connection.scalars(sa.select(workers.queues).where(*alive))
        return Counter(queue for queues in consumed for queue in queues)


@engine.retried
def retire(worker: str) -> None:
    """Delete a worker that has released all its claims."""
    with engine.writing() as connection:
        connection.execute(schema.workers.delete().where(workers.name == worker))


def dead_here() -> list[str]:
    """Name the workers that ran on this machine and whose processes are gone."""
    own = own_process()
    if own is None:
        return []
    with engine.reading() as connection:
        rows = connection.execute(sa.select(schema.workers).where(workers.place == own.place)).all()
    return [row.name for row in rows if processes.start(row.pid) != row.started]


def _locked_sessions() -> sa.Select[tuple[int]]:
    """Select the keys of the locks that workers' PostgreSQL sessions hold."""
    key = sa.literal_column("CAST(objid AS bigint)", sa.BigInteger)
    of_ours = f"locktype = 'advisory' AND granted AND classid = {SESSION_LOCKS}"
    return sa.select(key).select_from(sa.text("pg_locks")).where(sa.text(of_ours))


def without_session() -> list[str]:
    """Name the workers whose PostgreSQL session no longer holds its lock."""
    with engine.reading() as connection:
        query = sa.select(workers.name).where(
            workers.session.is_not(None), workers.session.not_in(_locked_sessions())
        )
        return list(connection.scalars(query))


class Session:
    """A PostgreSQL session that holds one lock as long as this process lives."""

    def __init__(self) -> None:
        self._key = secrets.randbelow(1 << 31)
        self._connection: sa.Connection | None = None
        self._since = 0.0

    def keep(self) -> int | None:
        """Ensure that the lock is held; give its key, or ``None`` where that fails."""
        try:
            if self._connection is None:
                connection = engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(sa.select(sa.func.pg_advisory_lock(SESSION_LOCKS, self._key)))
                self._connection, self._since = connection, time.monotonic()
            # A connection pooler may have switched to another server session.
            held = _locked_sessions().where(sa.text("pid = pg_backend_pid()"))
            if self._key in set(self._connection.scalars(held)):
                return self._key
        except SQLAlchemyError as error:
            log.warning("lost the session that shows this worker alive: %s", type(error).__name__)
        self.close()
        return None

    @property
    def age(self) -> float:
        """Give the seconds for which the lock has been held without interruption."""
        return time.monotonic() - self._since if self._connection is not None else 0.0

    def close(self) -> None:
        """Release the lock."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
        self._connection = None


def is_worker_here(pid: int) -> bool:
    """Tell whether a process of this machine is a worker of this ledger."""
    own = own_process()
    if own is None:
        return False
    with engine.reading() as connection:
        query = sa.select(workers.started).where(workers.place == own.place, workers.pid == pid)
        return processes.start(pid) in list(connection.scalars(query))


def take_lapsed(connection: sa.Connection, now: float) -> list[str]:
    """Delete the workers whose leases have expired; name them."""
    connection.execute(
        schema.workers.update().where(workers.lease_until > now + LONGEST).values(lease_until=now + LONGEST)
    )
    return _take(connection, workers.lease_until < now)


def take(connection: sa.Connection, names: Collection[str]) -> list[str]:
    """Delete workers that have died; name those that this call deleted."""
    return _take(connection, workers.name.in_(names))


def _take(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[str]:
    # Locked rows are skipped: a live worker's heartbeat, or another worker's clean-up.
    query = sa.select(workers.name).where(which).order_by(workers.name).with_for_update(skip_locked=True)
    names = list(connection.scalars(query))
    if names:
        connection.execute(schema.workers.delete().where(workers.name.in_(names)))
    return names
