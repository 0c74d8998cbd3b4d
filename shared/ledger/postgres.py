"""PostgreSQL connections whose waits time out, also those for a server that never answers.

    PatientConnection.connect("host=db.lan")  ->  a connection whose every wait ends after 25 seconds

A server's own limits end what takes too long while the server works, and the kernel's end a connection
whose packets are lost. Neither ends a wait for a server, or for a proxy in front of it, that takes packets
and never answers.
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
        """Wait for an answer; raises OperationalError where none comes."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except errors._WaitTimeout:
            # An answer that still comes would be taken for that of the next question.
            self.pgconn.finish()
            raise errors.OperationalError(f"no answer within {self.patience:.0f} s") from None
