"""Sampling progress that workers report every few seconds: votes and tokens so far.

    record("host:812:9f", [Sampled("round1", votes=61, tokens=7310, votes_in_play=61, ...)])

It serves progress displays only: no answer depends on it, and a row may be seconds old.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from shared.ledger import engine, schema

FRESH = 15.0  # seconds after which a worker's report no longer counts as current
columns = schema.worker_progress.c


@dataclass(frozen=True)
class Sampled:
    """What one worker has sampled for one run since it started, and what it has in play now.

    ``votes_in_play`` are finished votes of questions that are not settled yet. Of the votes under way,
    ``votes_not_begun`` have no token yet, since their prompts are being read; the others have
    ``tokens_under_way``.
    """

    run: str
    votes: int
    tokens: int
    votes_in_play: int
    votes_under_way: int
    votes_not_begun: int
    tokens_under_way: int
    tokens_per_second: float


def record(worker: str, progress: Sequence[Sampled]) -> None:
    """Record a worker's progress in place of its previous report."""
    with engine.writing() as connection:
        now = engine.now(connection)
        runs = [sampled.run for sampled in progress]
        connection.execute(
            schema.worker_progress.delete().where(columns.worker == worker, columns.run.in_(runs))
        )
        connection.execute(
            schema.worker_progress.insert(),
            [{"worker": worker, "recorded_at": now, **asdict(sampled)} for sampled in progress],
        )


def of_run(connection: sa.Connection, run: str) -> Sampled | None:
    """Sum up what all workers have sampled for a run; ``None`` where none has reported.

    Only reports of the last `FRESH` seconds count as in play.
    """
    if not sa.inspect(connection).has_table(schema.worker_progress.name):
        # An older ledger that is opened read-only has no such table.
        return None
    fresh = columns.recorded_at > engine.now(connection) - FRESH
    query = sa.select(
        sa.func.sum(columns.votes),
        sa.func.sum(columns.tokens),
        *(
            sa.func.sum(column).filter(fresh)
            for column in (
                columns.votes_in_play,
                columns.votes_under_way,
                columns.votes_not_begun,
                columns.tokens_under_way,
                columns.tokens_per_second,
            )
        ),
    ).where(columns.run == run)
    votes, tokens, *now = connection.execute(query).one()
    return None if votes is None else Sampled(run, votes, tokens, *(value or 0 for value in now))
