"""Detect dead workers within seconds, by their processes and their PostgreSQL sessions.

    Liveness(None).look()  ->  ["host:812:9f"]   every second

A process of this machine is seen to be gone. One of another machine, or of another container, is known by a
lock that PostgreSQL keeps for its session and frees when the connection closes, as it does when a process is
killed. What neither tells (a machine that lost its power) is left to the leases.
"""

import time

from shared.ledger import leases

MISSING = 1.5  # seconds without its lock, in which a living worker takes it again
STEADY = 5.0  # seconds for which our own session has lasted: a server that was restarted has closed all


class Liveness:
    """Looks for dead workers; ``session`` is this worker's own, ``None`` on SQLite."""

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
