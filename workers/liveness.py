"""Detect dead workers within seconds, by their processes and their PostgreSQL sessions.

    Liveness(None).look()  ->  ["host:812:9f"]   every second

A process of this machine is looked up directly. A process of another machine or container holds a lock of its
PostgreSQL session, which is released when the connection closes, as it does when a process is killed. Leases
cover the other cases, such as a machine that lost its power.
"""

import time

from shared.ledger import leases

MISSING = 1.5  # seconds without its lock after which a worker is dead; a living worker takes it again sooner
STEADY = 5.0  # minimum age of our own session in seconds, since a restarted server has closed all sessions


class Liveness:
    """Detects dead workers; ``session`` is this worker's own, ``None`` on SQLite."""

    def __init__(self, session: leases.Session | None) -> None:
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
