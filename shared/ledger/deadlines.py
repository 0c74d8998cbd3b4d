"""Deadlines of runs: votes that are recorded as they come, and the answers that they give at the deadline.

    answer_due()  ->  [Settled(...), ...]    questions of runs near their deadline that have an answer now

Workers record each finished vote of a run with a deadline (`keep`); when the question is settled, its round
replaces them. From `schema.SAMPLING_ENDS` seconds before the deadline on, by the ledger's clock, no question
is claimed, and questions that nobody holds are answered here, by a worker or by a command; half of that time
before it, all others too. What a worker writes later is refused, as after a lost claim.
"""

import itertools
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from shared import voting
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, models, outbox, runs, schema
from shared.ledger.claims import Claim, RoundRecord, Settled, VoteRecord
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, Control, State
from shared.options import Sampling
from shared.voting import Answer, Outcome, Vote

items, attempts, early, votes = schema.items.c, schema.attempts.c, schema.early_votes.c, schema.votes.c
OUTCOME = "answered at the deadline"
PER_SECOND = 2000  # at least so many questions are answered


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
    """Record finished votes of open questions that nobody has claimed since."""
    ordered = sorted(finished, key=lambda each: (each.claim.job.run, each.claim.job.item, each.place))
    with engine.writing() as connection:
        for run, of_run in itertools.groupby(ordered, key=lambda each: each.claim.job.run):
            members = list(of_run)
            jobs = [each.claim.job for each in members]
            fences = {row.number: row.fence for row in _locked(connection, jobs, OPEN)}
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


def answer_due(seconds: float = 3600.0, run: str | None = None) -> list[Settled]:
    """Answer open questions of runs near their deadline, or of one run; return their answers.

    It takes about ``seconds`` at most; a repeated call continues.
    """
    columns, over, ends = schema.runs.c, time.monotonic() + seconds, list[Settled]()
    open_items = sa.exists().where(items.run == columns.name, items.state.in_(OPEN))
    last = sa.select(sa.func.max(items.number)).where(items.run == columns.name).scalar_subquery()
    with engine.reading() as connection:
        near = columns.deadline - schema.SAMPLING_ENDS - last / PER_SECOND <= engine.now(connection)
        controlled = columns.control.in_((Control.ACTIVE, Control.PAUSED))
        query = sa.select(columns.name).where(near, controlled, open_items)
        names = connection.scalars(query if run is None else query.where(columns.name == run)).all()
    for due in map(runs.get_run, names):
        left, numbers = _due(due)
        for some in engine.chunks(numbers):
            if time.monotonic() >= over:
                return ends
            ends += _answer_some(due, some)
        if numbers and left <= 0:
            outbox.rearrange(due.queue)  # without their messages
    return ends


def count_answers(run: str) -> dict[str, int]:
    """Count a run's answers at the deadline, by how they were determined."""
    given, late = schema.answers.c, (Outcome.DEADLINE, Outcome.DEADLINE_DEFAULT)
    query = sa.select(given.how, sa.func.count()).where(given.run == run, given.how.in_(late))
    with engine.reading() as connection:
        return dict(connection.execute(query.group_by(given.how)).tuples().all())


def _due(run: Run) -> tuple[float, list[int]]:
    """Give the seconds until sampling ends, and the numbers of the questions that must be answered now.

    Until then, as many questions wait as can be answered later: the first ones, which workers take first.
    """
    with engine.reading() as connection:
        left, states = _due_states(connection, run)
        which = items.run == run.name, (items.state + "").in_(states)
        waiting = max(0, int(left * PER_SECOND))
        numbers = connection.scalars(
            sa.select(items.number).where(*which).order_by(items.number).offset(waiting)
        )
        return left, list(numbers)


def _due_states(connection: sa.Connection, run: Run) -> tuple[float, Collection[State]]:
    """Give the seconds until a run's sampling ends, and the states of the items that may be answered."""
    left = (run.deadline or 0.0) - schema.SAMPLING_ENDS - engine.now(connection)
    return left, OPEN if left <= -schema.SAMPLING_ENDS / 2 else (State.PENDING,)


def _locked(
    connection: sa.Connection, jobs: Iterable[Job], states: Collection[State]
) -> Sequence[sa.Row[Any]]:
    """Lock and read those of some items of a run that have some states."""
    which = engine.among(connection.dialect.name), (items.state + "").in_(states)
    query = sa.select(schema.items).where(*which).order_by(items.number).with_for_update()
    return connection.execute(query, engine.keys(jobs)).all()


@engine.retried
def _answer_some(run: Run, numbers: Sequence[int]) -> list[Settled]:
    with engine.writing() as connection:
        _, states = _due_states(connection, run)
        rows = _locked(connection, (Infer(run=run.name, item=number) for number in numbers), states)
        return _answer(connection, run, rows) if rows else []


def _answer(connection: sa.Connection, run: Run, rows: Sequence[sa.Row[Any]]) -> list[Settled]:
    now = engine.now(connection)
    sampling, numbers = Sampling.of_record(run.options), [row.number for row in rows]
    rule = models.rule_of(sampling, models.chosen("scorer", sampling.scorer))
    cast, before = _early(connection, run.name, numbers), _before(connection, run.name, numbers)
    ends = []
    changes: dict[int, list[Job]] = {}
    for row in rows:
        kept = cast.get(row.number, [])
        mine = [Vote(each.vote["letter"], each.vote["score"], each.vote["weight"]) for each in kept]
        # A claim has raised the attempt, which counts the rounds with votes.
        change = bool(kept) - (row.state == State.LEASED)
        job = Infer(run=run.name, item=row.number)
        changes.setdefault(change, []).append(job)
        claim = Claim(job, row.key, row.entry, row.question, row.attempt + change, row.fence, row.losses)
        records = [VoteRecord(**_without_weight(each.vote)) for each in kept]
        answer = voting.decide(mine, rule) or voting.fall_back(
            [*before.get(row.number, []), *mine], sampling.fallback
        )
        scorer, places = kept[-1].scorer if kept else None, [each.place for each in kept]
        sampled = _rounds(kept, sampling)
        ends.append(Settled(claim, records, _at_deadline(answer), OUTCOME, scorer, sampled, places))
    claims.insert_records(connection, ends, now)
    _end(connection, changes, now)
    held = [row.number for row in rows if row.state == State.LEASED]
    claimed = attempts.run == run.name, attempts.number.in_(held), attempts.ended_at.is_(None)
    connection.execute(schema.attempts.update().where(*claimed).values(ended_at=now, outcome=OUTCOME))
    claims.forget_early_votes(connection, run.name, numbers)
    return ends


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
    # Without statistics, PostgreSQL would read all votes of the run.
    near = votes.number.between(numbers[0], numbers[-1])
    query = sa.select(votes.number, votes.letter, votes.score).where(
        votes.run == run, near, votes.number.in_(numbers)
    )
    before: dict[int, list[Vote]] = {}
    for number, letter, score in connection.execute(query.order_by(votes.number, votes.attempt, votes.place)):
        before.setdefault(number, []).append(Vote(letter, score))
    return before


def _without_weight(vote: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in vote.items() if name != "weight"}


def _rounds(kept: Sequence[sa.Row[Any]], sampling: Sampling) -> list[RoundRecord]:
    """Give the record of each voice; the first one counts the votes of the round that are missing."""
    by_voice: dict[str, dict[str, Any]] = {}
    for each in kept:
        by_voice.setdefault(each.sampled["voice"], each.sampled)
    missing = max(0, sampling.votes - len(kept))
    return [
        RoundRecord(**{**record, "unfinished": 0 if at else missing, "aborted_tokens": 0})
        for at, record in enumerate(by_voice.values())
    ]


def _at_deadline(answer: Answer) -> Answer:
    default = answer.how == Outcome.DEFAULT
    return Answer(answer.letter, Outcome.DEADLINE_DEFAULT if default else Outcome.DEADLINE, answer.support)


def _end(connection: sa.Connection, changes: dict[int, list[Job]], now: float) -> None:
    """End items that are locked, by the changes of their attempts."""
    done = {"state": State.DONE, "holder": None, "lease_until": None, "sent_at": None, "settled_at": now}
    for change, jobs in changes.items():
        update = schema.items.update().where(engine.among(connection.dialect.name)).values(losses=0, **done)
        connection.execute(update.values(attempt=items.attempt + change), engine.keys(jobs))
