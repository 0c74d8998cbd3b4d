"""Per-step training metrics, written under the training's claim.

    record(claim, 120, 300, {"loss": 0.61, "learning_rate": 8e-05})  ->  True

A training that resumes from a checkpoint replaces the metrics of later steps.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.ledger import claims, engine, schema
from shared.ledger.claims import Claim

columns = schema.training_log.c


@dataclass(frozen=True)
class LoggedStep:
    """The metrics of one step, and when they were recorded."""

    step: int
    total_steps: int
    recorded_at: float
    metrics: dict[str, Any]


def record(claim: Claim, step: int, total_steps: int, metrics: dict[str, float], saved: bool = False) -> bool:
    """Record a step's metrics, merged with others of the same step; tell whether the claim still holds.

    ``saved``: there is a checkpoint of the step, and the item's count of deaths is reset.
    """
    where = columns.run == claim.job.run
    recorded = {**metrics, "saved": 1.0} if saved else metrics
    with engine.writing() as connection:
        if not claims.still_holds(connection, claim):
            return False
        before = connection.scalar(sa.select(columns.metrics).where(where, columns.step == step))
        connection.execute(schema.training_log.delete().where(where, columns.step >= step))
        row = {"run": claim.job.run, "step": step, "total_steps": total_steps}
        row |= {"metrics": {**(before or {}), **recorded}, "recorded_at": engine.now(connection)}
        connection.execute(schema.training_log.insert().values(row))
        if saved:
            claims.reset_losses(connection, claim)
        return True


def curve(run: str) -> list[LoggedStep]:
    """Read all metrics of a training, in the order of its steps."""
    query = (
        sa.select(columns.step, columns.total_steps, columns.recorded_at, columns.metrics)
        .where(columns.run == run)
        .order_by(columns.step)
    )
    with engine.reading() as connection:
        return [LoggedStep(*row) for row in connection.execute(query)]
