"""Detect dead workers within seconds, by their processes and their PostgreSQL sessions.

    Liveness(None).look()  ->  ["host:812:9f"]   every second

A process of this machine is seen to be gone. One of another machine, or of another container, is known by a
lock that PostgreSQL keeps for its session and frees when the connection closes, as it does when a process is
killed. What neither tells (a machine that lost its power) is left to the leases.
"""

import contextlib
import logging
import secrets
import time

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from shared.ledger import engine, leases

log = logging.getLogger(__name__)
MISSING = 1.5  # seconds without its lock, in which a living worker takes it again
STEADY = 5.0  # seconds for which our own session has lasted: a server that was restarted has closed all


class Session:
    """A PostgreSQL session that holds one lock for as long as this process lives."""

    def __init__(self) -> None:
        self._key = secrets.randbelow(1 << 31)
        self._connection: sa.Connection | None = None
        self._since = 0.0

    def keep(self) -> int | None:
        """Make sure that the lock is held; give its key, or ``None`` where it cannot be held."""
        try:
            if self._connection is None:
                connection = engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(sa.select(sa.func.pg_advisory_lock(leases.SESSION_LOCKS, self._key)))
                self._connection, self._since = connection, time.monotonic()
            # A pooler may have given us another server's session since.
            held = leases.locked_sessions().where(sa.text("pid = pg_backend_pid()"))
            if self._key in set(self._connection.scalars(held)):
                return self._key
        except SQLAlchemyError as error:
            log.warning("the session that shows that this worker lives is lost: %s", type(error).__name__)
        self.close()
        return None

    @property
    def age(self) -> float:
        """Give for how many seconds the lock has been held without a break."""
        return time.monotonic() - self._since if self._connection is not None else 0.0

    def close(self) -> None:
        """Let go of the lock."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
        self._connection = None


class Liveness:
    """Looks for dead workers; ``session`` is this worker's own, ``None`` on SQLite."""

    def __init__(self, session: Session | None) -> None:
        self._session = session
        self._missing: dict[str, float] = {}

    def look(self) -> list[str]:
        """Name the workers that have died."""
        dead = leases.dead_here()
        if self._session is None or self._session.age < STEADY:
            self._missing.clear()
            return dead
        now = time.monotonic()
        self._missing = {name: self._missing.get(name, now) for name in leases.without_session()}
        return dead + [name for name, since in self._missing.items() if now - since >= MISSING]
