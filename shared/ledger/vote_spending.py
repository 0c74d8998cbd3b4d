"""The votes that a run with a vote budget may sample: reserved for a claim before they are sampled.

    reserve(claim, 1, budget=3.5, first=2)  ->  1    the vote may be sampled
    balance("round1", budget=3.5)           ->  Balance(left=4347, questions=1328, begun=96, ...)

Votes that are reserved for a worker that dies stay reserved.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from shared.ledger import claims, engine, schema
from shared.ledger.claims import Claim
from shared.ledger.schema import State

spending, attempts, items = schema.vote_spending.c, schema.attempts.c, schema.items.c


@dataclass(frozen=True)
class Balance:
    """Votes that are ``left`` and ``reserved``; questions of the run, ``begun`` ones, and those in play."""

    budget: float
    left: int
    reserved: int
    questions: int
    begun: int
    in_play: int
    in_play_reserved: int

    @property
    def per_question(self) -> float:
        """Give the mean votes for questions that have not begun or are in play, with those they have."""
        return (self.left + self.in_play_reserved) / max(1, self.questions - self.begun + self.in_play)


def balance(run: str, budget: float) -> Balance | None:
    """Read what is left; ``budget`` is the mean per question. ``None``: the run has no vote budget."""
    same = sa.and_(attempts.run == items.run, attempts.number == items.number, attempts.fence == items.fence)
    in_play = (
        sa.select(sa.func.count(attempts.reserved), sa.func.coalesce(sa.func.sum(attempts.reserved), 0))
        .join_from(schema.items, schema.attempts, same)
        .where(items.run == run, items.state == State.LEASED)
    )
    query = sa.select(spending.reserved, spending.questions, spending.begun).where(spending.run == run)
    with engine.reading() as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        left = int(budget * row.questions + 1e-6) - row.reserved  # the product may be rounded
        return Balance(budget, left, *row, *connection.execute(in_play).one())


@engine.retried
def reserve(held: Claim, most: int, budget: float, first: int) -> int:
    """Reserve up to ``most`` votes for a claim; give their number, 0 if none are left or the claim is lost.

    Further votes leave the ``first`` votes of every question that has not begun. First votes leave one for
    each of them: after losses, fewer votes are better than none.
    """
    by_claim = sa.select(attempts.fence, attempts.reserved).where(*_same(held)[:2])
    with engine.writing() as connection:
        if not claims.still_holds(connection, held):
            return 0
        known = connection.execute(by_claim.where(attempts.reserved.is_not(None))).all()
        reserved = {row.fence: row.reserved for row in known}
        begins, kept = int(not reserved), first if held.fence in reserved else 1
        held_back = kept * (spending.questions - spending.begun - begins)
        for votes in range(most, 0, -1):
            # In one statement, so that no two workers reserve the same votes.
            within = spending.reserved + votes + held_back <= budget * spending.questions + 1e-6
            taken = schema.vote_spending.update().where(spending.run == held.job.run, within)
            more = {"reserved": spending.reserved + votes, "begun": spending.begun + begins}
            if connection.execute(taken.values(more)).rowcount:
                now = reserved.get(held.fence, 0) + votes
                connection.execute(schema.attempts.update().where(*_same(held)).values(reserved=now))
                return votes
        return 0


@engine.retried
def give_back(held: Claim) -> None:
    """Cancel what is reserved for a claim."""
    with engine.writing() as connection:
        votes = connection.scalar(sa.select(attempts.reserved).where(*_same(held))) or 0
        connection.execute(schema.attempts.update().where(*_same(held)).values(reserved=0))
        less = {"reserved": spending.reserved - votes}
        connection.execute(schema.vote_spending.update().where(spending.run == held.job.run).values(less))


def _same(held: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return attempts.run == held.job.run, attempts.number == held.job.item, attempts.fence == held.fence
