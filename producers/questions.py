"""Read questions with their votes and answers from the ledger: one in detail, or all of a run in order.

    history("round1", "p1#2")  ->  History(state="done", claims=[...], votes=[...], ...)

Nothing is written here and nothing printed. A run's rows are read a few at a time, however many there are.
"""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from producers import run_progress
from shared import dataset, prompts
from shared.dataset import Entry
from shared.errors import UserError
from shared.ledger import claims, engine, runs, schema
from shared.ledger.models import GeneratorIdentity
from shared.ledger.runs import Run
from shared.prompts import PromptQuestion

_KEYS_COMPARED = 20_000

items, answers, attempts, votes = schema.items.c, schema.answers.c, schema.attempts.c, schema.votes.c


@dataclass(frozen=True)
class Round:
    """What a round's votes were sampled from.

    ``examples`` are the positions of the solved questions shown, among those of the run. ``prompt`` is the
    exact prompt; None where this version of votequeue would build another one.
    """

    attempt: int
    generator: GeneratorIdentity | None
    adapter: str | None
    sampling: dict[str, Any]
    seed: int | None
    sampled_at: float
    seconds: float | None
    prompt_tokens: int | None
    examples: Sequence[int]
    prompt: str | None


@dataclass(frozen=True)
class History:
    """Everything that happened to one question; rows as the ledger has them."""

    run: str
    key: str
    number: int
    state: str
    reason: str | None
    problem: str
    question: str
    options: list[str]
    gold: str | None
    claims: list[dict[str, Any]]
    rounds: list[Round]
    votes: list[dict[str, Any]]
    answer: dict[str, Any] | None


def history(run: str, question: str) -> History:
    """Tell everything that happened to a question, named by its key (``p1#2``) or its item number.

    Raises:
        UserError: there is no such run or question; the message names those with a name like it.
    """
    known = run_progress.require_questions(run)
    with engine.reading() as connection:
        item = find_item(connection, run, question)
        attempts_made = rows_of(connection, schema.attempts, item, "fence")
        ballots = rows_of(connection, schema.votes, item, "attempt", "place")
        answer = rows_of(connection, schema.answers, item)
    entry = runs.load_entry(run, item.entry)
    asked = entry.questions[item.question]
    return History(
        run=run,
        key=item.key,
        number=item.number,
        state=item.state,
        reason=item.reason,
        problem=entry.problem,
        question=asked.question,
        options=asked.options,
        gold=asked.answer,
        claims=attempts_made,
        rounds=_rounds(known, item.number, runs.asked(entry, item.question)),
        votes=ballots,
        answer=answer[0] if answer else None,
    )


def _rounds(run: Run, number: int, asked: PromptQuestion) -> list[Round]:
    solved = {example.position: example for example in runs.load_examples(run.examples or "")}
    sampling = {name: run.options.get(name) for name in ("votes", "temperature", "top_p", "max_tokens")}
    rounds = []
    for attempt, record, generator in claims.sampled_rounds(run.name, number):
        # A run over another one's votes has its examples too.
        examples = [solved[position] for position in record.examples if position in solved]
        prompt = prompts.answering(asked, examples)
        rounds.append(
            Round(
                attempt=attempt,
                generator=generator,
                adapter=record.adapter,
                sampling=sampling,
                seed=record.seed,
                sampled_at=record.sampled_at,
                seconds=record.seconds,
                prompt_tokens=record.prompt_tokens,
                examples=record.examples,
                prompt=prompt if prompts.digest(prompt) == record.prompt else None,
            )
        )
    return rounds


def find_item(connection: sa.Connection, run: str, question: str, word: str = "question") -> sa.Row[Any]:
    """Find an item by its key, else by its number; ``word`` names it where there is none.

    Raises:
        UserError: there is none.
    """
    by_key = sa.select(schema.items).where(items.run == run, items.key == question)
    found = connection.execute(by_key).first()
    if found is None and question.isascii() and question.isdigit() and len(question) < 10:
        by_number = sa.select(schema.items).where(items.run == run, items.number == int(question))
        found = connection.execute(by_number).first()
    if found is None:
        close = _close_keys(connection, run, question)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UserError(f"run {run!r} has no {word} {question!r}{hint}")
    return found


def _close_keys(connection: sa.Connection, run: str, question: str) -> list[str]:
    of_run = sa.select(items.key).where(items.run == run).order_by(items.number)
    of_entry = of_run.where(items.key.startswith(f"{question}#", autoescape=True)).limit(3)
    if found := list(connection.scalars(of_entry)):
        return found
    return difflib.get_close_matches(question, connection.scalars(of_run.limit(_KEYS_COMPARED)).all(), n=3)


def rows_of(
    connection: sa.Connection, table: sa.Table, item: sa.Row[Any], *order: str
) -> list[dict[str, Any]]:
    """Read an item's rows of a table, in the order of some columns."""
    query = (
        sa.select(*(column for column in table.c if column.name not in ("run", "number")))
        .where(table.c.run == item.run, table.c.number == item.number)
        .order_by(*(table.c[name] for name in order))
    )
    return [dict(row._mapping) for row in connection.execute(query)]


# All questions, in their order


@dataclass(frozen=True)
class QuestionResult:
    """One question with its votes (rows of the ledger, without or with their texts) and its answer."""

    number: int
    entry: Entry
    question: int
    state: str
    attempt: int
    votes: list[sa.Row[Any]]
    letter: str | None
    how: str | None
    answered_at: float | None

    @property
    def gold(self) -> str | None:
        """Give the right letter, where the data set knew it."""
        return self.entry.questions[self.question].answer


def tell(run: str, texts: bool = False) -> Iterator[QuestionResult]:
    """Read all questions of a run in order, a few at a time; with ``texts``, the votes' texts too."""
    columns = [column for column in schema.votes.c if texts or column.name != "text"]
    ballots_query = (
        sa.select(*columns).where(votes.run == run).order_by(votes.number, votes.attempt, votes.place)
    )
    with engine.streaming() as connection:
        ballots = _Groups(iter(connection.execute(ballots_query)))
        for text, rows in _by_entry(connection, run):
            entry = dataset.entry_of(text)
            for row in rows:
                yield QuestionResult(
                    number=row.number,
                    entry=entry,
                    question=row.question,
                    state=row.state,
                    attempt=row.attempt,
                    votes=ballots.take(row.number),
                    letter=row.letter,
                    how=row.how,
                    answered_at=row.answered_at,
                )


def answered(run: str) -> Iterator[tuple[str, list[str | None]]]:
    """Read a run's entries in order, each with its questions' letters; ``None``: no answer (yet)."""
    with engine.streaming() as connection:
        for text, rows in _by_entry(connection, run):
            yield text, [row.letter for row in rows]


def _by_entry(connection: sa.Connection, run: str) -> Iterator[tuple[str, list[sa.Row[Any]]]]:
    answer_of = sa.and_(answers.run == items.run, answers.number == items.number)
    columns = items.number, items.entry, items.question, items.state, items.attempt
    questions = (
        sa.select(*columns, answers.letter, answers.how, answers.answered_at)
        .select_from(schema.items.outerjoin(schema.answers, answer_of))
        .where(items.run == run)
        .order_by(items.number)
    )
    columns_of_entry = schema.entries.c
    texts = (
        sa.select(columns_of_entry.text)
        .where(columns_of_entry.run == run)
        .order_by(columns_of_entry.position)
    )
    groups = itertools.groupby(connection.execute(questions), key=attrgetter("entry"))
    for text, (_entry, rows) in zip(connection.scalars(texts), groups, strict=True):
        yield text, list(rows)


class _Groups:
    """Rows in the order of their number, handed out a number at a time."""

    def __init__(self, rows: Iterator[sa.Row[Any]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, number: int) -> list[sa.Row[Any]]:
        taken = []
        while self._next is not None and self._next.number == number:
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken


def claims_of(run: str) -> Iterator[sa.Row[Any]]:
    """Read all claims of a run, item by item and in the order they were made."""
    columns = attempts.number, attempts.worker, attempts.claimed_at, attempts.ended_at, attempts.outcome
    query = sa.select(*columns).where(attempts.run == run).order_by(attempts.number, attempts.fence)
    with engine.streaming() as connection:
        yield from connection.execute(query)
