"""A client of the ledger that freezes in the middle of a transaction: `python -m tests.chaos.frozen sweep`.

It uses the product's own connection, so that whatever the product sets against such clients holds for it.
"""

import os
import signal
import sys

import sqlalchemy as sa

from shared.ledger import engine

LOCKS = {
    "sweep": "UPDATE locks SET until = until WHERE name = 'reconcile'",
    "items": "UPDATE items SET sent_at = sent_at WHERE number < 200",
}


def main(what: str) -> None:
    """Take row locks and stop; once woken, try to commit."""
    with engine.writing() as connection:
        connection.execute(sa.text(LOCKS[what]))
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    main(sys.argv[1])
