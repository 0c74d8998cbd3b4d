"""Runs, their entries and items, and their solved examples.

get_run("round1")  ->  Run(name="round1", kind="infer", ...)
"""

import difflib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from shared import dataset, generators, providers
from shared.dataset import Entry, Line, Question, key
from shared.errors import UserError
from shared.jobs import DATA_QUEUES, Infer
from shared.ledger import engine, migrations, schema
from shared.ledger.schema import Control, State
from shared.prompts import FewShotExample, PromptQuestion


@dataclass(frozen=True)
class Run:
    """One data set processed by one queue; ``deadline`` is by the ledger's clock."""

    name: str
    kind: str
    source: str
    digest: str
    examples: str | None
    options: dict[str, Any]
    created_at: float = 0.0
    control: str = Control.ACTIVE
    priority: int = 0
    deadline: float | None = None
    texts_dropped_at: float | None = None

    @property
    def cancelled(self) -> bool:
        """Tell whether it takes no more work."""
        return self.control in (Control.CANCELLED, Control.DELETING)

    def takes_work(self, now: float) -> bool:
        """Tell whether workers may take its items, as `schema.is_active`."""
        near = self.deadline is not None and self.deadline - schema.SAMPLING_ENDS <= now
        return self.control == Control.ACTIVE and not near

    @property
    def queue(self) -> str:
        """Name the queue of its messages."""
        return generators.queue_of(self.kind, self.options)

    @property
    def calls_services(self) -> bool:
        """Tell whether its items call outside services."""
        return self.kind in DATA_QUEUES or bool(self.services)

    @property
    def services(self) -> list[tuple[str, str]]:
        """Give provider and model of each outside service that its items call."""
        provider, embedding = self.options.get("provider"), self.options.get("retriever")
        models = self.options.get("models") or [self.options.get("model")]
        services = [(provider, str(model)) for model in models] if provider else []
        if self.examples and (service := providers.embedding_service(embedding)):
            services.append(service)
        return [] if self.options.get("votes_of") else services

    @property
    def providers(self) -> list[str]:
        """Give the providers of these services."""
        return list(dict.fromkeys(provider for provider, _ in self.services))


def find_run(name: str) -> Run | None:
    """Look up a run by name."""
    with engine.reading() as connection:
        row = connection.execute(_runs().where(schema.runs.c.name == name)).one_or_none()
    return Run(**row._mapping) if row else None


def _runs() -> sa.Select[Any]:
    """Select runs; an older ledger that is only read lacks some columns."""
    old = engine.engine().get_execution_options()["revision"] != migrations.HEAD
    return sa.select(*(each for each in schema.runs.c if not (old and each.name in schema.SINCE_10)))


def get_run(name: str) -> Run:
    """Look up a run by name.

    Raises:
        UserError: it does not exist; the message names similar runs, or else the newest ones. Or it is being
            deleted.
    """
    run = find_run(name)
    if run is None:
        names = [run.name for run in list_runs()]
        shown = difflib.get_close_matches(name, names, n=3) or names[-3:]
        listed = f"{', '.join(shown)}, … (`votequeue status`)" if len(names) > 3 else ", ".join(names)
        raise UserError(f"no run is called {name!r}; there are: {listed or 'none yet'}")
    if run.control == Control.DELETING:
        raise UserError(f"run {name!r} is being deleted: `votequeue delete {name}` completes it")
    return run


def require_open(name: str, otherwise: str = "enqueue its questions in another run") -> Run:
    """Look up a run that takes work.

    Raises:
        UserError: as `get_run`, or it is cancelled.
    """
    if (run := get_run(name)).cancelled:
        raise UserError(f"run {name!r} is cancelled: {otherwise}")
    return run


def ledger_time() -> float:
    """Give the time by the ledger's clock, in seconds since the epoch."""
    with engine.reading() as connection:
        return engine.now(connection)


def list_runs() -> list[Run]:
    """List all runs, oldest first."""
    with engine.reading() as connection:
        rows = connection.execute(_runs().order_by(schema.runs.c.created_at, schema.runs.c.name))
        return [Run(**row._mapping) for row in rows]


@engine.retried
def set_option(name: str, option: str, value: object) -> None:
    """Record an option of a run anew."""
    this = schema.runs.c.name == name
    with engine.writing() as connection:
        options = connection.scalars(sa.select(schema.runs.c.options).where(this)).one()
        update = schema.runs.update().where(this)
        connection.execute(update.values(options={**options, option: value}))


def _every(_question: Question) -> bool:
    return True


def open_run(
    run: Run,
    lines: Iterable[Line],
    *,
    per_entry: bool = False,
    wants: Callable[[Question], bool] = _every,
    keys: Container[str] | None = None,
    files: Iterable[Path] = (),
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> int:
    """Record a run with one item per entry, or per question that it wants; return the number of items.

    ``keys`` limits the items to those with these keys; each entry must have one. ``files`` are its input
    files. ``also`` writes in the same transaction.

    Raises:
        UserError: a run of this name has been created concurrently.
    """
    with engine.writing() as connection:
        _add_run(connection, run)
        number = 0
        for chunk in engine.chunks(enumerate(lines)):
            places = [
                place
                for at, line in chunk
                for place in _places(at, line.entry, per_entry, wants)
                if keys is None or place["key"] in keys
            ]
            number = _add_items(connection, run.name, chunk, places, number)
            if run.kind == Infer.queue:
                # Other runs make new entries instead of answering those of their input.
                _add_sources(connection, run.name, chunk)
        _add_files(connection, run.name, files)
        if run.options.get("vote_budget") and not run.options.get("votes_of"):
            spending = {"run": run.name, "questions": number, "begun": 0, "reserved": 0}
            connection.execute(schema.vote_spending.insert().values(spending))
        also(connection)
        return number


def append(run: str, lines: Iterable[Line], files: Iterable[Path] = ()) -> int:
    """Add entries to a run, with an item per question; return the number of items.

    Entries that the run has already are skipped.

    Raises:
        UserError: the run has another entry with the same id, or is cancelled.
    """
    with engine.writing() as connection:
        # The lock keeps two of these from using the same numbers.
        control = sa.select(schema.runs.c.control).where(schema.runs.c.name == run).with_for_update()
        if connection.scalar(control) not in (Control.ACTIVE, Control.PAUSED):
            raise UserError(f"run {run!r} is cancelled: enqueue the questions in another run")
        position, first = (
            connection.scalar(sa.select(sa.func.max(column) + 1).where(table.c.run == run)) or 0
            for table, column in (
                (schema.entries, schema.entries.c.position),
                (schema.items, schema.items.c.number),
            )
        )
        number = first
        for chunk in engine.chunks(lines):
            new = list(enumerate(_missing(connection, run, chunk), position))
            position += len(new)
            if new:
                places = [place for at, line in new for place in _places(at, line.entry, False, _every)]
                number = _add_items(connection, run, new, places, number)
                _add_sources(connection, run, new)
        _add_files(connection, run, files)
        spending = schema.vote_spending
        larger = {"questions": spending.c.questions + number - first}
        connection.execute(spending.update().where(spending.c.run == run).values(larger))
        return number - first


def _missing(connection: sa.Connection, run: str, lines: Sequence[Line]) -> list[Line]:
    items, entries = schema.items.c, schema.entries.c
    same = sa.and_(entries.run == items.run, entries.position == items.entry)
    query = sa.select(items.key, entries.text).join_from(schema.items, schema.entries, same)
    keys = {key(line.entry.id, 0): line for line in lines}
    rows = connection.execute(query.where(items.run == run, items.key.in_(keys))).all()
    for row in rows:
        line = keys.pop(row.key)
        if row.text != line.text:
            raise UserError(
                f"line {line.number}: run {run!r} has another entry with the id {line.entry.id!r}: "
                "nothing was added, change the id"
            )
    return list(keys.values())


def _add_items(
    connection: sa.Connection,
    run: str,
    lines: Sequence[tuple[int, Line]],
    places: Iterable[dict[str, Any]],
    number: int,
) -> int:
    """Add entries at their positions, and items from a number on; return the next number."""
    _add_entries(connection, run, ((at, line.text) for at, line in lines))
    rows = [{"run": run, "number": at, **place} for at, place in enumerate(places, number)]
    if rows:
        connection.execute(schema.items.insert(), rows)
    return number + len(rows)


def open_single(run: Run, label: str, texts: Iterable[str] = (), files: Iterable[Path] = ()) -> None:
    """Record a run of one item that is not a question, such as a training, with its entries.

    ``files`` are its input files.

    Raises:
        UserError: a run of this name has been created concurrently.
    """
    with engine.writing() as connection:
        _add_run(connection, run)
        for chunk in engine.chunks(enumerate(texts)):
            _add_entries(connection, run.name, chunk)
        connection.execute(
            schema.items.insert().values(run=run.name, number=0, key=label, entry=0, question=0)
        )
        _add_files(connection, run.name, files)


def deleted(run: str) -> str:
    """Name the fact that a run of a name was deleted."""
    return f"deleted run {run}"


def _add_run(connection: sa.Connection, run: Run) -> None:
    facts = schema.facts.c
    if connection.scalar(sa.select(facts.value).where(facts.name == deleted(run.name))):
        # Workers remember the options of runs, by name.
        raise UserError(f"a run {run.name!r} was deleted: choose another name with --run")
    values = {**run.__dict__, "created_at": engine.now(connection)}
    try:
        connection.execute(schema.runs.insert().values(**values))
    except IntegrityError:
        raise UserError(f"a run {run.name!r} has just been created by another command: try again") from None


def _add_entries(connection: sa.Connection, run: str, texts: Iterable[tuple[int, str]]) -> None:
    rows = [{"run": run, "position": at, "text": text} for at, text in texts]
    connection.execute(schema.entries.insert(), rows)


def _add_sources(connection: sa.Connection, run: str, lines: Iterable[tuple[int, Line]]) -> None:
    rows = [
        {"run": run, "position": at, "text": line.source.text}
        for at, line in lines
        if line.source is not None
    ]
    if rows:
        connection.execute(schema.source_rows.insert(), rows)


def _add_files(connection: sa.Connection, run: str, files: Iterable[Path]) -> None:
    paths = {engine.storable(str(path.absolute())) for path in files}
    if paths:
        rows: list[dict[str, object]] = [{"run": run, "path": path} for path in sorted(paths)]
        engine.insert_missing(connection, schema.inputs, rows)


def input_files() -> dict[str, list[Path]]:
    """Give the absolute paths of each run's recorded input files."""
    files: dict[str, list[Path]] = {}
    with engine.reading() as connection:
        # A read-only ledger of an older version lacks this table.
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
    """Count a run's items by state, including states without items."""
    column = schema.items.c.state
    query = sa.select(column, sa.func.count()).where(schema.items.c.run == run).group_by(column)
    with engine.reading() as connection:
        counts = {State(state): count for state, count in connection.execute(query)}
    return {state: counts.get(state, 0) for state in State}


def keys_of(run: str, state: State | None = None) -> set[str]:
    """Give the keys of a run's items, or of those in a state."""
    columns = schema.items.c
    which = columns.run == run, sa.true() if state is None else columns.state == state
    with engine.streaming() as connection:
        return set(connection.scalars(sa.select(columns.key).where(*which)))


def load_entries(run: str) -> Iterator[str]:
    """Read a run's entries as in the file, in file order."""
    columns = schema.entries.c
    query = sa.select(columns.text).where(columns.run == run).order_by(columns.position)
    with engine.streaming() as connection:
        for row in connection.execute(query):
            yield row.text


def load_sources(run: str) -> Iterator[tuple[str, str | None]]:
    """Read a run's entries, each with the text of its `SourceRows`, if it has any."""
    entries, sources = schema.entries.c, schema.source_rows.c
    behind = sa.and_(sources.run == entries.run, sources.position == entries.position)
    with engine.streaming() as connection:
        # A read-only ledger of an older version lacks this table.
        present = sa.inspect(connection).has_table(schema.source_rows.name)
        query = sa.select(entries.text, sources.text if present else sa.null())
        if present:
            query = query.select_from(schema.entries.outerjoin(schema.source_rows, behind))
        query = query.where(entries.run == run).order_by(entries.position)
        # A caller may stop early.
        with closing(connection.execute(query)) as rows:
            for row in rows:
                yield row[0], row[1]


def has_sources(run: str) -> bool:
    """Tell whether any of a run's entries has rows of another layout, or skipped ones, behind it."""
    with engine.reading() as connection:
        if not sa.inspect(connection).has_table(schema.source_rows.name):
            return False
        query = sa.select(sa.literal(1)).where(schema.source_rows.c.run == run).limit(1)
        return connection.scalar(query) is not None


def load_entry(run: str, position: int) -> Entry:
    """Read one entry by its position in the data set."""
    columns = schema.entries.c
    query = sa.select(columns.text).where(columns.run == run, columns.position == position)
    with engine.reading() as connection:
        return dataset.entry_of(connection.execute(query).scalar_one())


def load_entries_at(run: str, positions: Iterable[int]) -> dict[int, Entry]:
    """Read entries by their positions in the data set."""
    columns = schema.entries.c
    query = sa.select(columns.position, columns.text).where(
        columns.run == run, columns.position.in_(set(positions))
    )
    with engine.reading() as connection:
        texts = {row.position: row.text for row in connection.execute(query)}
    return {position: dataset.entry_of(text) for position, text in texts.items()}


def load_asked(run: str, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], PromptQuestion]:
    """Read questions by their places in the data set: (position of the entry, index of the question)."""
    wanted = set(places)
    entries = load_entries_at(run, (position for position, _ in wanted))
    return {place: asked(entries[place[0]], place[1]) for place in wanted}


def asked(entry: Entry, index: int) -> PromptQuestion:
    """Give a question as prompts show it, without its answer."""
    question = entry.questions[index]
    return PromptQuestion(entry.problem, question.question, tuple(question.options))


def add_examples(digest: str, solved: Iterable[FewShotExample]) -> int:
    """Store a data set's solved questions under its digest, once; return their number."""
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
    """Read the solved questions stored under a digest, in file order."""
    columns = schema.examples.c
    query = sa.select(schema.examples).where(columns.digest == digest).order_by(columns.position)
    with engine.reading() as connection:
        return [
            FewShotExample(
                PromptQuestion(row.problem, row.question, tuple(row.options)),
                row.reasoning,
                row.answer,
                row.position,
                row.program,
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
        "program": solved.program,
    }
