"""Deadlines of runs: votes that are recorded as they come, and the answers that they give at the deadline.

    answer_due()  ->  37    questions of runs near their deadline that have an answer now

Workers record each finished vote of a run with a deadline (`keep`); when the question is settled, its round
replaces them. From `schema.SAMPLING_ENDS` seconds before the deadline on, by the ledger's clock, no question
is claimed, and questions that nobody holds are answered here, by a worker or by a command; half of that time
before it, all others too. What a worker writes later is refused, as after a lost claim.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from shared import voting
from shared.ledger import claims, engine, models, runs, schema
from shared.ledger.claims import Claim, RoundRecord, VoteRecord
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, Control, State
from shared.options import Sampling
from shared.voting import Answer, Outcome, Vote

items, early, votes = schema.items.c, schema.early_votes.c, schema.votes.c
OUTCOME = "answered at the deadline"


@dataclass(frozen=True)
class EarlyVote:
    """A finished vote of an unfinished round, at its place; ``weight`` is what it counts."""

    claim: Claim
    place: int
    vote: VoteRecord
    weight: float
    scorer: str | None
    sampled: RoundRecord


@engine.retried
def keep(finished: Sequence[EarlyVote]) -> None:
    """Record finished votes of claims that are still valid."""
    ordered = sorted(finished, key=lambda each: (each.claim.job.run, each.claim.job.item, each.place))
    with engine.writing() as connection:
        for run, of_run in itertools.groupby(ordered, key=lambda each: each.claim.job.run):
            members = list(of_run)
            fences = claims.lock_held(connection, [each.claim.job for each in members])
            rows: list[dict[str, object]] = [
                {
                    "run": run,
                    "number": each.claim.job.item,
                    "fence": each.claim.fence,
                    "place": each.place,
                    "vote": {**asdict(each.vote), "weight": each.weight},
                    "scorer": each.scorer,
                    "sampled": asdict(each.sampled),
                }
                for each in members
                if fences.get(each.claim.job.item) == each.claim.fence
            ]
            if rows:
                engine.insert_missing(connection, schema.early_votes, rows)


def answer_due(seconds: float = 3600.0, run: str | None = None) -> int:
    """Answer open questions of runs near their deadline, or of one run; return their number.

    It takes about ``seconds`` at most; a repeated call continues.
    """
    columns, over, answered = schema.runs.c, time.monotonic() + seconds, 0
    open_items = sa.exists().where(items.run == columns.name, items.state.in_(OPEN))
    with engine.reading() as connection:
        near = columns.deadline - schema.SAMPLING_ENDS <= engine.now(connection)
        controlled = columns.control.in_((Control.ACTIVE, Control.PAUSED))
        query = sa.select(columns.name).where(near, controlled, open_items)
        names = connection.scalars(query if run is None else query.where(columns.name == run)).all()
    for due in map(runs.get_run, names):
        after: int | None = -1
        while after is not None and time.monotonic() < over:
            after, count = _answer_some(due, after)
            answered += count
    return answered


@engine.retried
def _answer_some(run: Run, after: int) -> tuple[int | None, int]:
    """Answer some questions from a number on; give the last number, or None at the end, and how many."""
    with engine.writing() as connection:
        now = engine.now(connection)
        late = now >= (run.deadline or 0.0) - schema.SAMPLING_ENDS / 2
        states = OPEN if late else (State.PENDING,)
        query = sa.select(items.number, items.attempt, items.state).where(items.run == run.name)
        query = query.where(items.number > after, (items.state + "").in_(states)).order_by(items.number)
        rows = connection.execute(query.limit(engine.CHUNK).with_for_update()).all()
        if not rows:
            return None, 0
        _answer(connection, run, rows, now)
        return rows[-1].number, len(rows)


def _answer(connection: sa.Connection, run: Run, rows: Sequence[sa.Row[Any]], now: float) -> None:
    sampling, numbers = Sampling.of_record(run.options), [row.number for row in rows]
    rule = models.rule_of(sampling, models.chosen("scorer", sampling.scorer))
    cast, before = _early(connection, run.name, numbers), _before(connection, run.name, numbers)
    recorded: dict[sa.Table, list[dict[str, Any]]] = {schema.votes: [], schema.rounds: [], schema.answers: []}
    changes: dict[int, list[int]] = {}
    for row in rows:
        kept = cast.get(row.number, [])
        mine = [Vote(each.vote["letter"], each.vote["score"], each.vote["weight"]) for each in kept]
        # A claim has raised the attempt, which counts the rounds with votes.
        change = bool(kept) - (row.state == State.LEASED)
        where = {"run": run.name, "number": row.number, "attempt": row.attempt + change}
        changes.setdefault(change, []).append(row.number)
        answer = voting.decide(mine, rule) or voting.fall_back(
            [*before.get(row.number, []), *mine], sampling.fallback
        )
        recorded[schema.votes] += [
            {**where, "place": each.place, "scorer": each.scorer, **_without_weight(each.vote)}
            for each in kept
        ]
        recorded[schema.rounds] += [{**where, **record} for record in _rounds(kept, sampling)]
        recorded[schema.answers].append({**where, **asdict(_at_deadline(answer)), "answered_at": now})
    for table, made in recorded.items():
        if made:
            engine.insert_whole(connection, table, made)
    _end(connection, run.name, changes, now)
    claims.forget_early_votes(connection, run.name, numbers)


def _early(connection: sa.Connection, run: str, numbers: Sequence[int]) -> dict[int, list[sa.Row[Any]]]:
    """Read the early votes of some questions by place: the latest claim's, where several had one."""
    query = sa.select(schema.early_votes).where(early.run == run, early.number.in_(numbers))
    newest: dict[tuple[int, int], sa.Row[Any]] = {}
    for row in connection.execute(query.order_by(early.fence)):
        newest[row.number, row.place] = row
    by_number: dict[int, list[sa.Row[Any]]] = {}
    for key in sorted(newest):
        by_number.setdefault(key[0], []).append(newest[key])
    return by_number


def _before(connection: sa.Connection, run: str, numbers: Sequence[int]) -> dict[int, list[Vote]]:
    """Read the votes of the finished rounds of some questions, in sampling order."""
    query = sa.select(votes.number, votes.letter, votes.score).where(
        votes.run == run, votes.number.in_(numbers)
    )
    before: dict[int, list[Vote]] = {}
    for number, letter, score in connection.execute(query.order_by(votes.number, votes.attempt, votes.place)):
        before.setdefault(number, []).append(Vote(letter, score))
    return before


def _without_weight(vote: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in vote.items() if name != "weight"}


def _rounds(kept: Sequence[sa.Row[Any]], sampling: Sampling) -> list[dict[str, Any]]:
    """Give the record of each voice; the first one counts the votes of the round that are missing."""
    by_voice: dict[str, dict[str, Any]] = {}
    for each in kept:
        by_voice.setdefault(each.sampled["voice"], each.sampled)
    missing = max(0, sampling.votes - len(kept))
    return [
        {**record, "unfinished": 0 if at else missing, "aborted_tokens": 0}
        for at, record in enumerate(by_voice.values())
    ]


def _at_deadline(answer: Answer) -> Answer:
    default = answer.how == Outcome.DEFAULT
    return Answer(answer.letter, Outcome.DEADLINE_DEFAULT if default else Outcome.DEADLINE, answer.support)


def _end(connection: sa.Connection, run: str, changes: dict[int, list[int]], now: float) -> None:
    """End items that are locked, by the changes of their attempts, and the claims on them."""
    attempts = schema.attempts.c
    done = {"state": State.DONE, "holder": None, "lease_until": None, "sent_at": None, "settled_at": now}
    for change, numbers in changes.items():
        which = items.run == run, items.number.in_(numbers)
        update = schema.items.update().where(*which)
        connection.execute(update.values(attempt=items.attempt + change, losses=0, **done))
        held = attempts.run == run, attempts.number.in_(numbers), attempts.ended_at.is_(None)
        connection.execute(schema.attempts.update().where(*held).values(ended_at=now, outcome=OUTCOME))
