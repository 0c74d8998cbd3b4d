"""Claims on items: claim, begin, settle, release, expire.

    claim([Infer(run="round1", item=41)], "host:812:9f", lease=15)  ->  [Claim(..., attempt=1, fence=1)]

A claim is one compare-and-set, `pending -> leased`, that increments attempt and fence. It lasts as long as
its worker's lease. Every later write has the condition `WHERE fence = mine`: of two workers that hold the
same question, only one can write.

Work that has begun on a claim is *in play*. When a worker dies, its death counts only against items in play;
its other items become pending as if never claimed. All writers lock items in the order of their keys, which
prevents deadlocks.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.jobs import KINDS, Job
from shared.ledger import engine, leases, locks, schema
from shared.ledger.schema import Death, State
from shared.voting import Answer

READ, FORCED = "read", "forced"  # how a vote's letter was got
items, begun = schema.items.c, schema.begun_claims.c
PUT_OFF, DEAD = "again: ", "dead: "  # prefixes of outcomes


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

    ``places`` are the votes' in their round, if votes between them were aborted.
    """

    claim: Claim
    votes: Sequence[VoteRecord]
    answer: Answer | None
    outcome: str
    scorer: str | None = None
    sampled: Sequence[RoundRecord] = ()
    places: Sequence[int] = ()


@engine.retried
def claim(jobs: Iterable[Job], worker: str, lease: float) -> list[Claim]:
    """Claim the claimable ``jobs``; skip items that are done, dead, leased or not yet due."""
    claimed = []
    with engine.writing() as connection:
        now = leases.extend(connection, worker, lease)
        for job in sorted(set(jobs), key=_place):
            taken = _claim_one(connection, job, worker, now)
            if taken is not None:
                claimed.append(taken)
    return claimed


def _place(job: Job) -> tuple[str, int]:
    return job.run, job.item


def _in_order(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: _place(claim.job))


def _claim_one(connection: sa.Connection, job: Job, worker: str, now: float) -> Claim | None:
    row = connection.execute(
        schema.items.update()
        .where(items.run == job.run, items.number == job.item)
        .where(items.state == State.PENDING, items.not_before <= now)
        .values(
            state=State.LEASED,
            attempt=items.attempt + 1,
            fence=items.fence + 1,
            holder=worker,
        )
        .returning(items.key, items.entry, items.question, items.attempt, items.fence, items.losses)
    ).one_or_none()
    if row is None:
        return None
    taken = Claim(job, *row)
    connection.execute(
        schema.attempts.insert().values(
            run=job.run,
            number=job.item,
            fence=taken.fence,
            attempt=taken.attempt,
            worker=worker,
            claimed_at=now,
        )
    )
    return taken


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
            engine.insert_missing(connection, schema.begun_claims, rows)


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
    with engine.writing() as connection:
        now = engine.now(connection)
        ordered = sorted(ends, key=lambda end: _place(end.claim.job))
        return [end for end in ordered if _settle_one(connection, end, now)]


def _settle_one(connection: sa.Connection, end: Settled, now: float) -> bool:
    state = State.PENDING if end.answer is None else State.DONE
    changes = {"settled_at": None if end.answer is None else now, "losses": 0, "sent_at": None}
    if not _let_go(connection, end.claim, state, now, end.outcome, changes):
        return False
    where = {"run": end.claim.job.run, "number": end.claim.job.item, "attempt": end.claim.attempt}
    if end.votes:
        rows = [
            {**where, "place": place, "scorer": end.scorer, **vote.__dict__}
            for place, vote in zip(end.places or itertools.count(), end.votes, strict=False)
        ]
        connection.execute(schema.votes.insert(), rows)
    if end.sampled:
        connection.execute(schema.rounds.insert(), [{**where, **record.__dict__} for record in end.sampled])
    if end.answer is not None:
        values = {"letter": end.answer.letter, "how": end.answer.how, "support": end.answer.support}
        connection.execute(schema.answers.insert().values(**where, **values, answered_at=now))
    return True


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
