"""Read the votes, answers and claims of questions in chunks, for runs of any size.

of_run("round1")  ->  QuestionResult(number=41, votes=[RecordedVote(41, 1, 0, "B", ...)], ...)
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from shared import voices
from shared.dataset import Entry, EntryText
from shared.jobs import Job
from shared.ledger import engine, schema
from shared.ledger.claims import RoundRecord
from shared.ledger.models import GeneratorIdentity
from shared.voting import Vote

_ON_DEMAND = {
    *("text", "finish_reason", "mean_logprob", "thinking"),
    *("output", "detail", "first_text"),
}
_R = TypeVar("_R", bound=tuple[Any, ...])
items, answers, attempts, votes = schema.items.c, schema.answers.c, schema.attempts.c, schema.votes.c
_LOST = sa.func.coalesce(sa.func.substr(attempts.outcome, 1, 4), "") == "lost"


class RecordedVote(NamedTuple):
    """A vote of a finished round, by item and attempt; see `VoteRecord` for its fields.

    ``score`` is the probability of soundness by ``scorer``. Fields from ``text`` on are read only on demand.
    """

    number: int
    attempt: int
    place: int
    letter: str | None
    score: float | None
    accepted: bool
    tokens: int
    scorer: str | None
    letter_source: str | None = None
    voice: str = "reasoning"
    outcome: str | None = None
    first_outcome: str | None = None
    text: str = ""
    finish_reason: str | None = None
    mean_logprob: float | None = None
    thinking: str | None = None
    output: str | None = None
    detail: str | None = None
    first_text: str | None = None

    @property
    def kind(self) -> str:
        """Name what its weight depends on."""
        return voices.kind(self.voice, self.outcome)


class RoundSource(NamedTuple):
    """Where the votes of a round and voice came from, and how many were not finished; see `RoundRecord`."""

    number: int
    attempt: int
    voice: str
    generator: str | None
    adapter: str | None
    unfinished: int | None
    aborted_tokens: int | None


class QuestionResult(NamedTuple):
    """One question with its votes, in sampling order, and its answer.

    ``rounds`` has the source of each round and voice.
    """

    number: int
    key: str
    text: EntryText
    question: int
    state: str
    attempt: int
    votes: list[RecordedVote]
    letter: str | None
    how: str | None
    answered_at: float | None
    rounds: Sequence[RoundSource] = ()

    @property
    def entry(self) -> Entry:
        """Give its entry."""
        return self.text.entry

    @property
    def unfinished(self) -> int:
        """Count the votes of its rounds that were never finished."""
        return sum(sampled.unfinished or 0 for sampled in self.rounds)

    @property
    def aborted_tokens(self) -> int:
        """Count the tokens of its aborted votes."""
        return sum(sampled.aborted_tokens or 0 for sampled in self.rounds)

    @property
    def votes_by_round(self) -> list[list[RecordedVote]]:
        """Give the votes of each round, in order."""
        return [list(votes) for _, votes in itertools.groupby(self.votes, key=attrgetter("attempt"))]

    @property
    def first_round(self) -> list[RecordedVote]:
        """Give the votes of its first round; they may be those of a later attempt."""
        return [vote for vote in self.votes if vote.attempt == self.votes[0].attempt]

    @property
    def last_round(self) -> list[RecordedVote]:
        """Give the votes of its last round."""
        return [vote for vote in self.votes if vote.attempt == self.votes[-1].attempt]

    @property
    def agreement(self) -> float | None:
        """Give the share of the question's votes that name its answer; ``None`` if there is none.

        Votes of a round that was stopped early are no fair sample: they stopped it since they agree.
        """
        if self.letter is None or not self.votes or self.unfinished:
            return None
        return sum(vote.letter == self.letter for vote in self.votes) / len(self.votes)

    @property
    def problem_identity(self) -> str:
        """Give the identity of its problem; see `dataset.problem_identity`."""
        return self.text.problem_identity(self.question)

    @property
    def gold(self) -> str | None:
        """Give the right letter, if the data set has it."""
        return self.text.answers[self.question]


class RecordedAnswer(NamedTuple):
    """The answer of a question; ``None``: there is none (yet).

    ``outcome`` says how it came about, ``support`` counts the votes behind it, and ``confidence`` is the
    share of all the question's votes that name it; ``None`` if a round was stopped early. ``probability`` is
    that of being right, if the run is calibrated; the letter of a question that abstains is ``None``.
    """

    key: str
    letter: str | None
    outcome: str | None
    support: int | None
    confidence: float | None
    probability: float | None = None


@dataclass(frozen=True)
class ClaimCounts:
    """The claims of one worker: in total, ended, lost; ``begun_at`` is when the first began."""

    worker: str
    claims: int
    ended: int
    lost: int
    begun_at: float


@dataclass(frozen=True)
class RecordedClaim:
    """A claim on an item: its start, its end, and whether it was lost."""

    number: int
    claimed_at: float
    ended_at: float | None
    lost: bool


@dataclass(frozen=True)
class VoteSource:
    """How many votes came from one model; ``None``: there was none, or it is not recorded."""

    model: str | None
    weights: str | None
    engine: str | None
    adapter: str | None
    scorer: str | None
    votes: int


def of_run(run: str, texts: bool = False) -> Iterator[QuestionResult]:
    """Read all questions of a run in order; with ``texts``, the votes' texts too."""
    columns = [schema.rounds.c[name] for name in RoundSource._fields]
    sampled = sa.select(*columns).where(schema.rounds.c.run == run)
    # A caller may stop early.
    with (
        engine.streaming() as connection,
        closing(connection.execute(_votes_where(votes.run == run, whole=texts))) as cast,
        closing(connection.execute(sampled.order_by(*columns[:3]))) as rounds,
    ):
        votes_of, rounds_of = _Groups(RecordedVote, cast), _Groups(RoundSource, rounds)
        for text, rows in _by_entry(connection, run):
            entry = EntryText(text)
            for number, key, _, question, state, attempt, letter, how, _, answered_at in rows:
                recorded = votes_of.take(number), letter, how, answered_at, rounds_of.take(number)
                yield QuestionResult(number, key, entry, question, state, attempt, *recorded)


def answers_of(run: str, confidence: bool = False) -> Iterator[tuple[str, list[RecordedAnswer]]]:
    """Read a run's entries in order, each with its questions' answers; ``confidence`` counts votes for it."""
    cast = sa.select(sa.func.count()).where(votes.run == items.run, votes.number == items.number)
    counts = cast.where(votes.letter == answers.letter), cast
    named = zip(counts, ("agreeing", "cast_votes"), strict=True)
    extra = [_of_rounds("unfinished"), *(count.scalar_subquery().label(name) for count, name in named)]
    with engine.streaming() as connection:
        for text, rows in _by_entry(connection, run, *(extra if confidence else ())):
            yield (
                text,
                [
                    RecordedAnswer(
                        key=row.key,
                        letter=row.letter,
                        outcome=row.how,
                        support=row.support,
                        confidence=_share(row) if confidence else None,
                    )
                    for row in rows
                ],
            )


def _share(row: sa.Row[Any]) -> float | None:
    known = row.letter is not None and row.cast_votes and not row.unfinished
    return row.agreeing / row.cast_votes if known else None


def _of_rounds(name: str) -> sa.ColumnElement[Any]:
    """Sum up a column of the rounds of an item."""
    rounds = schema.rounds.c
    total = sa.func.coalesce(sa.func.sum(rounds[name]), 0)
    query = sa.select(total).where(rounds.run == items.run, rounds.number == items.number)
    return query.scalar_subquery().label(name)


def count_stopped(run: str) -> int:
    """Count the questions of a run with a round that was stopped early."""
    rounds = schema.rounds.c
    query = sa.select(sa.func.count(rounds.number.distinct())).where(rounds.run == run, rounds.unfinished > 0)
    with engine.reading() as connection:
        return connection.scalar(query) or 0


def count_prompt_tokens(run: str) -> int:
    """Count the tokens of a run's prompts, each once for all votes that it was sampled with."""
    rounds = schema.rounds.c
    query = sa.select(sa.func.sum(rounds.prompt_tokens)).where(rounds.run == run)
    with engine.streaming() as connection:
        return connection.scalar(query) or 0


def text_lengths(run: str) -> tuple[Counter[int], Counter[int]]:
    """Count the texts of a run's votes, and its entries, by their number of characters."""
    of_votes, of_entries = Counter[int](), Counter[int]()
    counted = [(of_votes, text) for text in (votes.text, votes.thinking, votes.output, votes.first_text)]
    with engine.streaming() as connection:
        for lengths, text in [*counted, (of_entries, schema.entries.c.text)]:
            length = sa.func.length(text)
            query = sa.select(length, sa.func.count()).where(text.table.c.run == run, length > 0)
            lengths.update(dict(connection.execute(query.group_by(length)).tuples().all()))
    return of_votes, of_entries


def shown_examples(run: str) -> set[int]:
    """Give the positions of the examples that a run's prompts show."""
    rounds = schema.rounds.c
    query = sa.select(rounds.examples).where(rounds.run == run)
    with engine.streaming() as connection:
        return {position for positions in connection.scalars(query) for position in positions}


def count_claims(run: str) -> list[ClaimCounts]:
    """Count the claims of each worker, in the order of its first item."""
    ended, lost = (sa.func.count().filter(how) for how in (attempts.ended_at.is_not(None) & ~_LOST, _LOST))
    counts = sa.func.count(), ended, lost, sa.func.min(attempts.claimed_at)
    query = sa.select(attempts.worker, *counts).where(attempts.run == run).group_by(attempts.worker)
    with engine.streaming() as connection:
        return [ClaimCounts(*row) for row in connection.execute(query.order_by(sa.func.min(attempts.number)))]


def lost_claims_of(run: str) -> Iterator[RecordedClaim]:
    """Read all claims of the items that lost one, by item and in claim order."""
    columns = attempts.number, attempts.claimed_at, attempts.ended_at, _LOST
    lost = sa.select(attempts.number).where(attempts.run == run, _LOST)
    query = sa.select(*columns).where(attempts.run == run, attempts.number.in_(lost))
    with engine.streaming() as connection:
        for row in connection.execute(query.order_by(attempts.number, attempts.fence)):
            yield RecordedClaim(*row)


def main_scorer(run: str) -> str | None:
    """Name the scorer of most of a run's votes; ``None`` if no vote has a score."""
    query = (
        sa.select(votes.scorer)
        .where(votes.run == run, votes.scorer.is_not(None))
        .group_by(votes.scorer)
        .order_by(sa.func.count().desc(), sa.func.min(votes.number))
        .limit(1)
    )
    with engine.streaming() as connection:
        return connection.scalar(query)


def earlier_votes(job: Job) -> list[Vote]:
    """Read all votes of a question's finished rounds, in sampling order."""
    with engine.reading() as connection:
        recorded = connection.execute(_votes_where(votes.run == job.run, votes.number == job.item))
        return [Vote(vote.letter, vote.score) for vote in recorded]


def recorded_rounds(
    run: str, numbers: Sequence[int]
) -> dict[int, list[tuple[list[RecordedVote], list[RoundRecord]]]]:
    """Read the rounds of some of a run's questions: votes and a `RoundRecord` of each voice."""
    columns = schema.rounds.c
    query = sa.select(schema.rounds).where(columns.run == run, columns.number.in_(numbers))
    rounds: dict[int, list[tuple[list[RecordedVote], list[RoundRecord]]]] = {}
    sampled: dict[tuple[int, int], list[RoundRecord]] = {}
    with engine.reading() as connection:
        for row in connection.execute(query):
            sampled.setdefault((row.number, row.attempt), []).append(_round_of(row))
        found = connection.execute(_votes_where(votes.run == run, votes.number.in_(numbers), whole=True))
        recorded = itertools.starmap(RecordedVote, found)
        for place, group in itertools.groupby(recorded, key=attrgetter("number", "attempt")):
            rounds.setdefault(place[0], []).append((list(group), sampled.get(place, [])))
    return rounds


def last_rounds(run: str, keys: Sequence[str]) -> dict[str, list[RecordedVote]]:
    """Read the votes of the last round of some of a run's questions, by key."""
    named = sa.select(items.number, items.key).where(items.run == run, items.key.in_(keys))
    with engine.reading() as connection:
        key_of = {row.number: row.key for row in connection.execute(named)}
    return {key_of[number]: rounds[-1][0] for number, rounds in recorded_rounds(run, list(key_of)).items()}


def sampled_rounds(run: str, number: int) -> list[tuple[int, RoundRecord, GeneratorIdentity | None]]:
    """Read the `RoundRecord` and generator of each round and voice of a question, by attempt."""
    return sampled_rounds_of(run, [number]).get(number, [])


def sampled_rounds_of(
    run: str, numbers: Sequence[int]
) -> dict[int, list[tuple[int, RoundRecord, GeneratorIdentity | None]]]:
    """Read `sampled_rounds` of some of a run's questions."""
    rounds, generators = schema.rounds.c, schema.generators.c
    query = (
        sa.select(schema.rounds, generators.model, generators.weights, generators.engine)
        .outerjoin(schema.generators, generators.name == rounds.generator)
        .where(rounds.run == run, rounds.number.in_(numbers))
        .order_by(rounds.number, rounds.attempt, rounds.voice.desc())
    )
    with engine.reading() as connection:
        found = connection.execute(query).all()
    return {
        number: [
            (
                row.attempt,
                _round_of(row),
                GeneratorIdentity(row.model, row.weights, row.engine) if row.model else None,
            )
            for row in rows
        ]
        for number, rows in itertools.groupby(found, key=attrgetter("number"))
    }


def named_sources(counts: Mapping[tuple[str | None, str | None, str | None], int]) -> list[VoteSource]:
    """Name the sources of votes, most votes first, by the numbers for each generator, adapter and scorer."""
    columns = schema.generators.c
    query = sa.select(columns.name, columns.model, columns.weights, columns.engine)
    with engine.reading() as connection:
        known = {row.name: (row.model, row.weights, row.engine) for row in connection.execute(query)}
    sources = [
        VoteSource(*known.get(generator or "", (None, None, None)), adapter, scorer, count)
        for (generator, adapter, scorer), count in counts.items()
    ]
    return sorted(sources, key=lambda source: -source.votes)


def count_sources(run: str) -> list[VoteSource]:
    """Count a run's votes by model, weights, engine, adapter and scorer, most votes first."""
    votes, rounds, generators = schema.votes.c, schema.rounds.c, schema.generators.c
    of_one_round = (rounds[name] == votes[name] for name in ("run", "number", "attempt", "voice"))
    same = sa.and_(*of_one_round)
    source = generators.model, generators.weights, generators.engine, rounds.adapter, votes.scorer
    query = (
        sa.select(*source, sa.func.count())
        .select_from(schema.votes.outerjoin(schema.rounds, same))
        .outerjoin(schema.generators, generators.name == rounds.generator)
        .where(votes.run == run)
        .group_by(*source)
        .order_by(sa.func.count().desc())
    )
    with engine.streaming() as connection:
        return [VoteSource(*row) for row in connection.execute(query)]


def _round_of(row: sa.Row[Any]) -> RoundRecord:
    return RoundRecord(**{name: getattr(row, name) for name in RoundRecord.__dataclass_fields__})


def _votes_where(*where: sa.ColumnElement[bool], whole: bool = False) -> sa.Select[Any]:
    columns = [votes[name] for name in RecordedVote._fields if whole or name not in _ON_DEMAND]
    return sa.select(*columns).where(*where).order_by(votes.number, votes.attempt, votes.place)


def _by_entry(
    connection: sa.Connection, run: str, *extra: sa.ColumnElement[Any]
) -> Iterator[tuple[str, list[sa.Row[Any]]]]:
    answer_of = sa.and_(answers.run == items.run, answers.number == items.number)
    columns = items.number, items.key, items.entry, items.question, items.state, items.attempt
    questions = (
        sa.select(*columns, answers.letter, answers.how, answers.support, answers.answered_at, *extra)
        .select_from(schema.items.outerjoin(schema.answers, answer_of))
        .where(items.run == run)
        .order_by(items.number)
    )
    entries = schema.entries.c
    texts = sa.select(entries.text).where(entries.run == run).order_by(entries.position)
    # A caller may stop early.
    with closing(connection.execute(questions)) as found, closing(connection.scalars(texts)) as in_order:
        groups = itertools.groupby(_rows(found), key=itemgetter(2))
        for text, (_entry, rows) in zip(in_order, groups, strict=True):
            yield text, list(rows)


def _rows(found: sa.CursorResult[Any]) -> Iterator[sa.Row[Any]]:
    """Read the rows chunk by chunk, which takes less time than one by one."""
    return itertools.chain.from_iterable(found.partitions())


class _Groups(Generic[_R]):
    """Rows in item order, each made from its columns, the first of which is the item; grouped by item."""

    def __init__(self, kind: Callable[..., _R], found: sa.CursorResult[Any]) -> None:
        self._groups = itertools.groupby(itertools.starmap(kind, _rows(found)), key=itemgetter(0))
        self._next = next(self._groups, None)

    def take(self, number: int) -> list[_R]:
        if self._next is None or self._next[0] != number:
            return []
        taken = list(self._next[1])
        self._next = next(self._groups, None)
        return taken
