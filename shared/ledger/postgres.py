"""PostgreSQL connections whose waits time out, even if the server never answers.

    PatientConnection.connect("host=db.lan")  ->  a connection whose every wait ends after 25 seconds

The server's own limits end long statements, and the kernel's limits end a connection whose packets are lost.
Neither ends the wait for a server, or a proxy in front of it, that accepts packets and never answers.
"""

from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen

SECONDS = 25.0  # longer than the server's own limit of a statement (see `engine`)


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer within ``patience`` seconds."""

    patience: float | None = SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer; raises OperationalError if none arrives."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except errors._WaitTimeout:
            # A late answer would be taken for the answer to the next query.
            self.pgconn.finish()
            raise errors.OperationalError(f"no answer within {self.patience:.0f} s") from None
