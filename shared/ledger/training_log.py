"""Per-step training metrics, written under the training's claim.

    tell(claim, 120, 300, {"loss": 0.61, "learning_rate": 8e-05})  ->  True

A training that goes on from a checkpoint takes back what was told of later steps.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.ledger import claims, engine, schema
from shared.ledger.claims import Claim

columns = schema.steps.c


@dataclass(frozen=True)
class LoggedStep:
    """The figures of one step of ``of``, and when they were told."""

    step: int
    of: int
    told_at: float
    told: dict[str, Any]


def tell(claim: Claim, step: int, of: int, told: dict[str, float], saved: bool = False) -> bool:
    """Write down a step's figures, beside others of the same step; tell whether the claim still holds.

    With ``saved``, there is a checkpoint too: work that was lost before it counts no longer.
    """
    where = columns.run == claim.job.run
    figures = {**told, "saved": 1.0} if saved else told
    with engine.writing() as connection:
        if not claims.still_holds(connection, claim):
            return False
        before = connection.scalar(sa.select(columns.told).where(where, columns.step == step))
        connection.execute(schema.steps.delete().where(where, columns.step >= step))
        row = {"run": claim.job.run, "step": step, "of": of, "told": {**(before or {}), **figures}}
        connection.execute(schema.steps.insert().values(**row, told_at=engine.now(connection)))
        if saved:
            claims.forgive(connection, claim)
        return True


def curve(run: str) -> list[LoggedStep]:
    """Read all that a training has told, in the order of its steps."""
    query = (
        sa.select(columns.step, columns.of, columns.told_at, columns.told)
        .where(columns.run == run)
        .order_by(columns.step)
    )
    with engine.reading() as connection:
        return [LoggedStep(*row) for row in connection.execute(query)]
