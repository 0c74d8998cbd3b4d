"""Claims on items: claim, begin, settle, release, expire.

    claim([Infer(run="round1", item=41)], "host:812:9f", lease=15)  ->  [Claim(..., attempt=1, fence=1)]

A claim changes an item from `pending` to `leased` under its lock, and increments attempt and fence. A batch
of items is claimed, and settled, in one transaction with few statements. A claim lasts as long as its
worker's lease. Every later write has the condition `WHERE fence = mine`: of two workers that hold the
same question, only one can write.

Work that has begun on a claim is *in play*. When a worker dies, its death counts only against items in play;
its other items become pending as if never claimed. All writers lock items in the order of their keys, which
prevents deadlocks.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from shared.jobs import KINDS, Job
from shared.ledger import engine, leases, locks, schema
from shared.ledger.schema import Death, State
from shared.voting import Answer

READ, FORCED = "read", "forced"  # how a vote's letter was got
items, begun = schema.items.c, schema.begun_claims.c
PUT_OFF, DEAD = "again: ", "dead: "  # prefixes of outcomes
_T = TypeVar("_T")
_attempts = schema.attempts.c
_ENDED = (
    schema.attempts.update()
    .where(*(_attempts[name] == sa.bindparam(f"of_{name}") for name in ("run", "number", "fence")))
    .values(ended_at=sa.bindparam("now"), outcome=sa.bindparam("as"))
)


@dataclass(frozen=True)
class Claim:
    """The right to work on one item until its worker's lease ends.

    ``losses`` counts consecutive deaths of its work: it reveals a question that kills its worker.
    """

    job: Job
    key: str
    entry: int
    question: int
    attempt: int
    fence: int
    losses: int


@dataclass(frozen=True)
class VoteRecord:
    """One vote as the ledger stores it; ``score`` is the scorer's probability of soundness.

    ``finish_reason`` is the engine's (``stop``, ``length``); ``mean_logprob`` is the mean log-probability of
    the tokens, in nats and at temperature 1. ``thinking`` is not part of the text. ``letter_source`` says how
    the letter was got: `READ` in the text, or `FORCED`, by asking for one.

    ``voice`` names the `shared.voices.Voice`. A program's vote has an ``outcome`` (`shared.result_reader`),
    the ``output``, and the ``detail`` of a failure. If it was asked for again, ``first_text`` is what it was
    before, and ``first_outcome`` how that ended.
    """

    text: str
    letter: str | None
    score: float | None
    accepted: bool
    tokens: int
    finish_reason: str | None = None
    mean_logprob: float | None = None
    thinking: str | None = None
    letter_source: str | None = None
    voice: str = "reasoning"
    outcome: str | None = None
    output: str | None = None
    detail: str | None = None
    first_text: str | None = None
    first_outcome: str | None = None


@dataclass(frozen=True)
class RoundRecord:
    """The sources of a round's votes of one voice.

    ``generator`` is a name in the table of generators; ``prompt`` is the SHA-256 of the first vote's prompt;
    ``examples`` are the positions of the votes' solved examples, in order; ``seconds`` is the sampling's;
    ``style`` is the prompt's (``chat``, ``completion``). Of a round that was stopped early,
    ``unfinished`` counts the votes that were never asked for or aborted; the latter had ``aborted_tokens``.
    """

    generator: str | None
    adapter: str | None
    prompt: str
    prompt_tokens: int | None
    examples: Sequence[int]
    seed: int | None
    sampled_at: float
    seconds: float | None
    style: str | None = None
    voice: str = "reasoning"
    unfinished: int | None = None
    aborted_tokens: int | None = None


@dataclass(frozen=True)
class Settled:
    """The result of a claim's work: votes, and the answer; an item without an answer is retried.

    ``places`` are the votes' in their round, if votes between them were aborted. ``kept_early``: votes were
    recorded before (`deadlines`), and these replace them.
    """

    claim: Claim
    votes: Sequence[VoteRecord]
    answer: Answer | None
    outcome: str
    scorer: str | None = None
    sampled: Sequence[RoundRecord] = ()
    places: Sequence[int] = ()
    kept_early: bool = False


@engine.retried
def claim(jobs: Iterable[Job], worker: str, lease: float) -> list[Claim]:
    """Claim the claimable ``jobs``; skip items that are done, dead, leased or not yet due.

    Items of runs that are paused, cancelled or near their deadline are skipped too.
    """
    by_run = _by_run(sorted(set(jobs), key=_place), lambda job: job)
    with engine.writing() as connection:
        now = leases.extend(connection, worker, lease)
        claimed = [held for of_run in by_run for held in _claim(connection, of_run, worker, now)]
        if claimed:
            rows = [
                {**_key(held), "attempt": held.attempt, "worker": worker, "claimed_at": now}
                for held in claimed
            ]
            engine.insert_whole(connection, schema.attempts, rows)
    return claimed


def _by_run(ordered: Iterable[_T], job: Callable[[_T], Job]) -> list[list[_T]]:
    return [list(of_run) for _, of_run in itertools.groupby(ordered, key=lambda each: job(each).run)]


def _place(job: Job) -> tuple[str, int]:
    return job.run, job.item


def _key(held: Claim) -> dict[str, Any]:
    return {"run": held.job.run, "number": held.job.item, "fence": held.fence}


def _in_order(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: _place(claim.job))


def _claim(connection: sa.Connection, jobs: Sequence[Job], worker: str, now: float) -> list[Claim]:
    """Claim jobs of one run."""
    dialect = connection.dialect.name
    rows = connection.execute(_locking(dialect, State.PENDING), {**engine.keys(jobs), "now": now})
    free = {row.number: row for row in rows}
    claimed = [
        Claim(job, row.key, row.entry, row.question, row.attempt + 1, row.fence + 1, row.losses)
        for job in jobs
        if (row := free.get(job.item)) is not None
    ]
    if claimed:
        taken = engine.keys(held.job for held in claimed)
        connection.execute(_updating(dialect, State.LEASED), {**taken, "by": worker})
    return claimed


# Built once: it takes longer to build a statement than to execute it.


@functools.cache
def _locking(dialect: str, state: State) -> sa.Select[Any]:
    """Lock the items of a state among some of a run; pending ones must be due, and their run active."""
    # Written so that no index serves it: SQLite would use that of all pending items.
    which = sa.and_(engine.among(dialect), items.state + "" == state)
    if state is State.PENDING:
        now, run = sa.bindparam("now", type_=sa.Float), sa.bindparam("of_run", type_=sa.String)
        active = sa.exists().where(schema.runs.c.name == run, schema.is_active(now))
        which = sa.and_(which, items.not_before + 0 <= now, active)
    columns = items.number, items.key, items.entry, items.question, items.attempt, items.fence, items.losses
    return sa.select(*columns).where(which).order_by(items.number).with_for_update()


@functools.cache
def _updating(dialect: str, state: State) -> sa.Update:
    """Change the state of some items of a run that are locked."""
    update = schema.items.update().where(engine.among(dialect)).values(state=state)
    if state is State.LEASED:
        changes = {"attempt": items.attempt + 1, "fence": items.fence + 1}
        return update.values(holder=sa.bindparam("by", type_=sa.String), **changes)
    update = update.values(holder=None, lease_until=None, losses=0, sent_at=None)
    return update.values(settled_at=sa.bindparam("now", type_=sa.Float) if state is State.DONE else None)


@engine.retried
def begin(claims: Iterable[Claim]) -> None:
    """Record that work on some claims begins: they are now in play."""
    with engine.writing() as connection:
        now = engine.now(connection)
        rows: list[dict[str, object]] = [
            {"run": held.job.run, "number": held.job.item, "fence": held.fence, "begun_at": now}
            for held in _in_order(claims)
        ]
        if rows:
            engine.insert_whole(connection, schema.begun_claims, rows, missing=True)


def siblings(job: Job, most: int) -> list[Job]:
    """List an item and the claimable items of its entry, at most ``most``; none if it is not claimable."""
    with engine.reading() as connection:
        now = engine.now(connection)
        place = sa.select(items.entry, items.question).where(items.run == job.run, items.number == job.item)
        own = connection.execute(place).one_or_none()
        if own is None:
            return []
        # The items of an entry have consecutive numbers. The state is compared here: its index would be used,
        # which has all pending items.
        near = items.number.between(job.item - own.question, job.item + most)
        query = sa.select(items.number, items.state, items.not_before).order_by(items.number)
        rows = connection.execute(query.where(items.run == job.run, near, items.entry == own.entry)).all()
    free = [row.number for row in rows if row.state == State.PENDING and row.not_before <= now]
    if job.item not in free:
        return []
    at = free.index(job.item)
    return [type(job)(run=job.run, item=number) for number in (free[at:] + free[:at])[:most]]


def still_holds(connection: sa.Connection, held: Claim) -> bool:
    """Tell, within a transaction, whether a claim is still valid."""
    query = sa.select(items.number).where(*_same(held), items.state == State.LEASED)
    return connection.scalar(query) is not None


def _same(held: Claim, columns: Any = items) -> tuple[sa.ColumnElement[bool], ...]:
    return columns.run == held.job.run, columns.number == held.job.item, columns.fence == held.fence


def holds(held: Claim) -> bool:
    """Tell whether a claim is still valid."""
    with engine.reading() as connection:
        return still_holds(connection, held)


def reset_losses(connection: sa.Connection, held: Claim) -> None:
    """Reset an item's losses, since its work has made progress."""
    connection.execute(schema.items.update().where(*_same(held)).values(losses=0))


@engine.retried
def settle(ends: Iterable[Settled]) -> list[Settled]:
    """Write the results of claims in one transaction; return those whose claims were still valid.

    Nothing is written for an expired claim whose item another worker has taken: neither votes nor an answer.
    """
    ordered = sorted(ends, key=lambda end: _place(end.claim.job))
    with engine.writing() as connection:
        now = engine.now(connection)
        kept = [end for of_run in _by_run(ordered, _job_of) for end in _still_held(connection, of_run)]
        for of_run in _by_run(kept, _job_of):
            _end_claims(connection, of_run, now)
        insert_records(connection, kept, now)
    return kept


def _job_of(end: Settled) -> Job:
    return end.claim.job


def _still_held(connection: sa.Connection, ends: Sequence[Settled]) -> list[Settled]:
    """Lock the items of some claims of one run; give the ends of those that are still valid."""
    keys = engine.keys(map(_job_of, ends))
    rows = connection.execute(_locking(connection.dialect.name, State.LEASED), keys)
    fences = {row.number: row.fence for row in rows}
    return [end for end in ends if fences.get(end.claim.job.item) == end.claim.fence]


def _end_claims(connection: sa.Connection, ends: Sequence[Settled], now: float) -> None:
    """End claims of one run whose items are locked."""
    for state in (State.DONE, State.PENDING):
        jobs = [end.claim.job for end in ends if (end.answer is None) == (state is State.PENDING)]
        if jobs:
            values = {**engine.keys(jobs), "now": now} if state is State.DONE else engine.keys(jobs)
            connection.execute(_updating(connection.dialect.name, state), values)
    if early := [end.claim.job for end in ends if end.kept_early]:
        forget_early_votes(connection, early[0].run, [job.item for job in early])
    connection.execute(
        _ENDED,
        [
            {
                **{f"of_{name}": value for name, value in _key(end.claim).items()},
                "now": now,
                "as": end.outcome,
            }
            for end in ends
        ],
    )


def forget_early_votes(connection: sa.Connection, run: str, numbers: Collection[int]) -> None:
    """Delete the early votes of some items of a run."""
    early = schema.early_votes.c
    connection.execute(schema.early_votes.delete().where(early.run == run, early.number.in_(numbers)))


def insert_records(connection: sa.Connection, ends: Sequence[Settled], now: float) -> None:
    """Insert the votes, rounds and answers of some results."""
    votes: list[dict[str, Any]] = []
    rounds: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for end in ends:
        where = {"run": end.claim.job.run, "number": end.claim.job.item, "attempt": end.claim.attempt}
        places = end.places or itertools.count()
        votes += [
            {**where, "place": place, "scorer": end.scorer, **vote.__dict__}
            for place, vote in zip(places, end.votes, strict=False)
        ]
        rounds += [{**where, **record.__dict__} for record in end.sampled]
        if end.answer is not None:
            answers.append({**where, **end.answer.__dict__, "answered_at": now})
    for table, rows in ((schema.votes, votes), (schema.rounds, rounds), (schema.answers, answers)):
        if rows:
            engine.insert_whole(connection, table, rows)


@engine.retried
def complete(
    claim: Claim,
    value: dict[str, Any],
    outcome: str = "done",
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> bool:
    """Write an item's result, together with ``also``; tell whether the claim was still valid."""
    with engine.writing() as connection:
        now = engine.now(connection)
        if not _let_go(connection, claim, State.DONE, now, outcome, {"settled_at": now, "losses": 0}):
            return False
        row = {"run": claim.job.run, "number": claim.job.item, "value": value}
        connection.execute(schema.results.insert().values(**row))
        also(connection)
        return True


@engine.retried
def bury(claim: Claim, reason: str) -> bool:
    """Settle an item as dead, for a reason that a retry cannot change."""
    with engine.writing() as connection:
        now = engine.now(connection)
        changes = {"reason": reason, "settled_at": now}
        return _let_go(connection, claim, State.DEAD, now, f"{DEAD}{reason}", changes)


@engine.retried
def release(claims: Iterable[Claim], reason: str, delay: float = 0.0) -> list[Job]:
    """Return items untouched, as at a shutdown: neither an attempt nor a loss is counted."""
    released = []
    with engine.writing() as connection:
        now = engine.now(connection)
        for held in _in_order(claims):
            changes = {"attempt": items.attempt - 1, "not_before": now + delay, "sent_at": None}
            if _let_go(connection, held, State.PENDING, now, f"released: {reason}", changes):
                released.append(held.job)
    return released


@engine.retried
def put_off(held: Claim, reason: str, delay: float) -> bool:
    """Return an item after a failed call: due again in ``delay`` seconds, and the attempt is not counted."""
    with engine.writing() as connection:
        now = engine.now(connection)
        waits = {"not_before": now + delay, "sent_at": None, "losses": 0}
        changes: dict[str, Any] = {"attempt": items.attempt - 1, **waits}
        return _let_go(connection, held, State.PENDING, now, f"{PUT_OFF}{reason}", changes)


def failures(held: Claim) -> int:
    """Count the failed calls of an item since its last counted attempt, or since it was dead."""
    earlier = schema.attempts.c
    query = (
        sa.select(earlier.outcome)
        .where(earlier.run == held.job.run, earlier.number == held.job.item)
        .where(earlier.attempt == held.attempt, earlier.fence < held.fence)
        .order_by(earlier.fence.desc())
    )
    with engine.reading() as connection:
        outcomes = [outcome or "" for outcome in connection.scalars(query)]
    alive = itertools.takewhile(lambda outcome: not outcome.startswith(DEAD), outcomes)
    return sum(outcome.startswith(PUT_OFF) for outcome in alive)


def release_all(worker: str, reason: str) -> list[Job]:
    """Return all items of a worker, as `release` does."""
    with engine.reading() as connection:
        rows = connection.execute(_leased().where(items.holder == worker)).all()
    return release([_held(row) for row in rows], reason)


def held_by(worker: str, jobs: Collection[Job]) -> list[Claim]:
    """List a worker's claims on some items."""
    items_of: dict[str, list[int]] = {}
    for job in jobs:
        items_of.setdefault(job.run, []).append(job.item)
    where = sa.or_(*(sa.and_(items.run == run, items.number.in_(of)) for run, of in items_of.items()))
    with engine.reading() as connection:
        return [_held(row) for row in connection.execute(_leased().where(where, items.holder == worker))]


def _leased() -> sa.Select[Any]:
    """Select claimed items with their runs' kinds, and the time when their work began, if it did."""
    same_claim = sa.and_(begun.run == items.run, begun.number == items.number, begun.fence == items.fence)
    return (
        sa.select(schema.items, schema.runs.c.kind, begun.begun_at)
        .join(schema.runs, schema.runs.c.name == items.run)
        .outerjoin(schema.begun_claims, same_claim)
        .where(items.state == State.LEASED)
        .order_by(items.run, items.number)
    )


def _held(row: Any) -> Claim:
    job = KINDS[row.kind](run=row.run, item=row.number)
    return Claim(job, row.key, row.entry, row.question, row.attempt, row.fence, row.losses)


@engine.retried
def lose(claims: Iterable[Claim], reason: str, max_losses: int, *, alone: bool) -> list[Job]:
    """Return items whose work died although their worker lives (an engine's death, a bug).

    No attempt is counted, but the death is; ``alone``: nothing else can have caused it. An item that died
    alone ``max_losses`` times in a row is dead. Return the jobs that are pending again.
    """
    death = Death.ALONE if alone else Death.TOGETHER
    with engine.writing() as connection:
        now = engine.now(connection)
        return [
            held.job
            for held in _in_order(claims)
            if _let_die(connection, held, death, reason, max_losses, now) is State.PENDING
        ]


@engine.retried
def expire(max_losses: int) -> list[Job]:
    """Take back the items of workers whose leases have expired; return the jobs.

    Such workers are dead or have stalled; if one continues, the fence prevents its writes.
    """
    with engine.writing() as connection:
        now = engine.now(connection)
        silent = leases.take_lapsed(connection, now)
        taken = _take_back(connection, items.holder.in_(silent), "went silent", max_losses, now)
        # Items claimed by an older version, with a lease of their own, or left over from a worker that was
        # taken over before: it is unknown what else was in play.
        strays = sa.and_(
            items.holder.not_in(sa.select(schema.workers.c.name)),
            sa.func.coalesce(items.lease_until, 0.0) < now,
        )
        return taken + _take_back(connection, strays, "is gone", max_losses, now, whole=False)


@engine.retried
def take_over(dead: Collection[str], max_losses: int) -> list[Job]:
    """Take back the items of workers that are known to be dead, without waiting for their leases.

    Their named locks are released too.
    """
    with engine.writing() as connection:
        taken = leases.take(connection, dead)
        now = engine.now(connection)
        locks.free(connection, taken, now)
        return _take_back(connection, items.holder.in_(taken), "died", max_losses, now)


def _take_back(
    connection: sa.Connection,
    where: sa.ColumnElement[bool],
    ended: str,
    max_losses: int,
    now: float,
    whole: bool = True,
) -> list[Job]:
    """Take claims back; ``whole``: they are all claims of their workers."""
    query = _leased().where(where)
    held = connection.execute(query).all()
    if not held:
        return []
    in_play = Counter(row.holder for row in held if row.begun_at is not None)
    # A locked row is being settled now.
    rows = connection.execute(query.with_for_update(skip_locked=True, of=schema.items)).all()
    for row in rows:
        reason = f"its worker {row.holder} {ended}"
        if row.begun_at is None:
            changes = {"attempt": items.attempt - 1, "sent_at": None}
            _let_go(connection, _held(row), State.PENDING, now, f"lost: {reason}, before its turn", changes)
        else:
            death = Death.ALONE if whole and in_play[row.holder] == 1 else Death.TOGETHER
            _let_die(connection, _held(row), death, reason, max_losses, now)
    return [_held(row).job for row in rows]


def _let_die(
    connection: sa.Connection, held: Claim, death: Death, reason: str, max_losses: int, now: float
) -> State | None:
    """End a claim whose work died; return the item's new state, or None if another worker has it."""
    # Not the claim's own count: earlier losses may have been reset since.
    before = connection.scalar(sa.select(items.losses).where(*_same(held))) or 0
    losses = before + 1
    alone = _deaths_alone(connection, held.job, before) + (death is Death.ALONE)
    changes: dict[str, Any] = {"losses": losses, "attempt": items.attempt - 1, "sent_at": None}
    state = State.DEAD if death is Death.ALONE and alone >= max_losses else State.PENDING
    if state is State.DEAD:
        changes |= {
            "reason": f"the work on it died {losses} times in a row, {alone} of them with nothing else in "
            f"play; last: {reason}",
            "settled_at": now,
        }
    outcome = f"lost: {reason}, in play {death.value}"
    if not _let_go(connection, held, state, now, outcome, changes):
        return None
    connection.execute(schema.begun_claims.update().where(*_same(held, begun)).values(death=death))
    return state


def _deaths_alone(connection: sa.Connection, job: Job, losses: int) -> int:
    """Count the deaths with nothing else in play among an item's last ``losses`` deaths."""
    last = (
        sa.select(begun.death)
        .where(begun.run == job.run, begun.number == job.item, begun.death.is_not(None))
        .order_by(begun.fence.desc())
        .limit(losses)
    )
    return sum(death == Death.ALONE for death in connection.scalars(last))


def _let_go(
    connection: sa.Connection,
    held: Claim,
    state: State,
    now: float,
    outcome: str,
    changes: dict[str, Any],
) -> bool:
    kept = connection.execute(
        schema.items.update()
        .where(*_same(held), items.state == State.LEASED)
        .values(state=state, holder=None, lease_until=None, **changes)
    ).rowcount
    if kept:
        ended = schema.attempts.update().where(*_same(held, schema.attempts.c))
        connection.execute(ended.values(ended_at=now, outcome=outcome))
    return bool(kept)
