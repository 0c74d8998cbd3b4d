"""Runs, their entries and items, and the solved examples that they are shown.

get_run("round1")  ->  Run(name="round1", kind="infer", ...)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from shared import dataset
from shared.dataset import Entry, Line, Question, key
from shared.errors import UserError
from shared.ledger import engine, schema
from shared.ledger.schema import State
from shared.prompts import FewShotExample, PromptQuestion


@dataclass(frozen=True)
class Run:
    """One data set's way through one queue."""

    name: str
    kind: str
    source: str
    digest: str
    examples: str | None
    options: dict[str, Any]
    created_at: float = 0.0


def find_run(name: str) -> Run | None:
    """Look a run up by name."""
    with engine.reading() as connection:
        row = connection.execute(sa.select(schema.runs).where(schema.runs.c.name == name)).one_or_none()
    return Run(**row._mapping) if row else None


def get_run(name: str) -> Run:
    """Look a run up by name.

    Raises:
        UserError: there is none; the message names those there are.
    """
    run = find_run(name)
    if run is None:
        known = [run.name for run in list_runs()]
        raise UserError(f"no run is called {name!r}; there are: {', '.join(known) or 'none yet'}")
    return run


def list_runs() -> list[Run]:
    """List all runs, oldest first."""
    with engine.reading() as connection:
        rows = connection.execute(
            sa.select(schema.runs).order_by(schema.runs.c.created_at, schema.runs.c.name)
        )
        return [Run(**row._mapping) for row in rows]


def open_run(
    run: Run,
    lines: Iterable[Line],
    *,
    per_entry: bool = False,
    wants: Callable[[Question], bool] = lambda _: True,
    files: Iterable[Path] = (),
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> int:
    """Record a run with one item an entry, or one a question that it wants; give how many items.

    ``files`` are those that it was made from. ``also`` writes in the same transaction.

    Raises:
        UserError: a run of this name was made in the meantime.
    """
    with engine.writing() as connection:
        _add_run(connection, run)
        number = 0
        for chunk in engine.chunks(enumerate(lines)):
            _add_entries(connection, run.name, ((at, line.text) for at, line in chunk))
            places = [place for at, line in chunk for place in _places(at, line.entry, per_entry, wants)]
            rows = [{"run": run.name, "number": at, **place} for at, place in enumerate(places, number)]
            if rows:
                connection.execute(schema.items.insert(), rows)
            number += len(rows)
        _add_files(connection, run.name, files)
        also(connection)
        return number


def open_single(run: Run, label: str, texts: Iterable[str] = (), files: Iterable[Path] = ()) -> None:
    """Record a run of one item that is no question, such as a training, with the entries it works on.

    ``files`` are those that it was made from.

    Raises:
        UserError: a run of this name was made in the meantime.
    """
    with engine.writing() as connection:
        _add_run(connection, run)
        for chunk in engine.chunks(enumerate(texts)):
            _add_entries(connection, run.name, chunk)
        connection.execute(
            schema.items.insert().values(run=run.name, number=0, key=label, entry=0, question=0)
        )
        _add_files(connection, run.name, files)


def _add_run(connection: sa.Connection, run: Run) -> None:
    values = {**run.__dict__, "created_at": engine.now(connection)}
    try:
        connection.execute(schema.runs.insert().values(**values))
    except IntegrityError:
        raise UserError(f"somebody else has just made a run {run.name!r}: try this again") from None


def _add_entries(connection: sa.Connection, run: str, texts: Iterable[tuple[int, str]]) -> None:
    rows = [{"run": run, "position": at, "text": text} for at, text in texts]
    connection.execute(schema.entries.insert(), rows)


def _add_files(connection: sa.Connection, run: str, files: Iterable[Path]) -> None:
    paths = {engine.storable(str(path.absolute())) for path in files}
    if paths:
        connection.execute(schema.inputs.insert(), [{"run": run, "path": path} for path in sorted(paths)])


def input_files() -> dict[str, list[Path]]:
    """Give the absolute paths of the files that runs were made from, as far as they are on record."""
    files: dict[str, list[Path]] = {}
    with engine.reading() as connection:
        # A ledger that may only be read has no such table, if an older version made it.
        if sa.inspect(connection).has_table(schema.inputs.name):
            for row in connection.execute(sa.select(schema.inputs)):
                files.setdefault(row.run, []).append(Path(row.path))
    return files


def _places(
    position: int, entry: Entry, per_entry: bool, wants: Callable[[Question], bool]
) -> list[dict[str, Any]]:
    if per_entry:
        return [{"key": str(entry.id), "entry": position, "question": 0}]
    return [
        {"key": key(entry.id, index), "entry": position, "question": index}
        for index, question in enumerate(entry.questions)
        if wants(question)
    ]


def count_states(run: str) -> dict[State, int]:
    """Count a run's items by state; every state has a number."""
    column = schema.items.c.state
    query = sa.select(column, sa.func.count()).where(schema.items.c.run == run).group_by(column)
    with engine.reading() as connection:
        found = {State(state): count for state, count in connection.execute(query)}
    return {state: found.get(state, 0) for state in State}


def load_entries(run: str) -> Iterator[str]:
    """Read a run's entries as they stood in the file, in its order."""
    columns = schema.entries.c
    query = sa.select(columns.text).where(columns.run == run).order_by(columns.position)
    with engine.streaming() as connection:
        for row in connection.execute(query):
            yield row.text


def load_entry(run: str, position: int) -> Entry:
    """Read one entry by its place in the data set."""
    columns = schema.entries.c
    query = sa.select(columns.text).where(columns.run == run, columns.position == position)
    with engine.reading() as connection:
        return dataset.entry_of(connection.execute(query).scalar_one())


def load_asked(run: str, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], PromptQuestion]:
    """Read questions by their places in the data set: (entry's position, question's index)."""
    wanted = set(places)
    columns = schema.entries.c
    query = sa.select(columns.position, columns.text).where(
        columns.run == run, columns.position.in_({position for position, _ in wanted})
    )
    with engine.reading() as connection:
        texts = {row.position: row.text for row in connection.execute(query)}
    parsed = {position: dataset.entry_of(text) for position, text in texts.items()}
    return {place: asked(parsed[place[0]], place[1]) for place in wanted}


def asked(entry: Entry, index: int) -> PromptQuestion:
    """Give a question as prompts show it, without what is known of its answer."""
    question = entry.questions[index]
    return PromptQuestion(entry.problem, question.question, tuple(question.options))


def add_examples(digest: str, solved: Iterable[FewShotExample]) -> int:
    """Keep a data set's solved questions under its digest, once; give how many there are."""
    columns = schema.examples.c
    with engine.writing() as connection:
        count = connection.scalar(sa.select(sa.func.count()).where(columns.digest == digest)) or 0
        if count:
            return count
        for chunk in engine.chunks(enumerate(solved)):
            rows = [{"digest": digest, "position": at, **_example_row(example)} for at, example in chunk]
            connection.execute(schema.examples.insert(), rows)
            count += len(rows)
        return count


def load_examples(digest: str) -> list[FewShotExample]:
    """Read the solved questions kept under a digest, in their file's order."""
    columns = schema.examples.c
    query = sa.select(schema.examples).where(columns.digest == digest).order_by(columns.position)
    with engine.reading() as connection:
        return [
            FewShotExample(
                PromptQuestion(row.problem, row.question, tuple(row.options)),
                row.reasoning,
                row.answer,
                row.position,
            )
            for row in connection.execute(query)
        ]


def _example_row(solved: FewShotExample) -> dict[str, Any]:
    asked = solved.asked
    return {
        "problem": asked.problem,
        "question": asked.question,
        "options": list(asked.options),
        "reasoning": solved.reasoning,
        "answer": solved.answer,
    }
