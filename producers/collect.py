"""Write a run's results to a file: the answered data set, or the generated entries.

    collect("round1", Path("answers.jsonl"))  ->  Collected(questions=1328, answered=1327, dead=[...], open=0)
    collect("correct", Path("train.parquet"))  ->  Exported(unit="question", items=1328, done=1290, ...)

An answered data set keeps its entries, order, ids and fields. `trace` shows how an answer was reached. The
file is written atomically.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers import (
    answered_rows,
    console,
    formats,
    generated_entries,
    merged_answers,
    output_files,
    run_progress,
    vote_rows,
    watch,
)
from producers.layouts import catalog
from shared.errors import InvalidOption, UserError
from shared.jobs import DATA_QUEUES
from shared.ledger import deadlines, progress, runs
from shared.ledger.runs import Run
from shared.ledger.schema import State


@dataclass(frozen=True)
class Contents:
    """What is written of an infer run: its answers, with ``fields`` beside them, or its ``votes``.

    ``format`` is the layout: ``votequeue`` for entries, or ``None`` for rows in the layout of the input.
    """

    fields: tuple[str, ...] = ()
    votes: bool = False
    format: str | None = None


ANSWERS = Contents()


@dataclass(frozen=True)
class Collected:
    """Counts of a written data set: questions answered, abstained, dead, cancelled and open, skipped rows.

    ``votes`` counts the votes, if those were written. A question that was asked again and has no new answer
    (yet) is not answered, but keeps its former answer.
    """

    run: str
    path: Path
    questions: int
    answered: int
    dead: list[progress.Dead]
    left_out: list[str] = field(default_factory=list)
    skipped: int = 0
    votes: int | None = None
    abstained: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        """Count the questions that are still open."""
        return self.questions - self.answered - self.abstained - len(self.dead) - self.cancelled

    @property
    def summary(self) -> str:
        """Summarize the contents of the file."""
        votes = "" if self.votes is None else f"{console.count(self.votes, 'vote')}, "
        abstained = f", {self.abstained} abstained" if self.abstained else ""
        skipped = f"; {console.count(self.skipped, 'skipped row')} unchanged" if self.skipped else ""
        return f"{votes}{self.answered} of {self.questions} questions answered{abstained}{skipped}"

    @property
    def missing(self) -> str:
        """Summarize what the file lacks."""
        return f"{self.open + len(self.dead) + self.cancelled} of {self.questions} questions have no answer"


@dataclass(frozen=True)
class Exported:
    """Counts of written generated entries: items done and dead, and dropped parts.

    An item is an entry or a question (``unit``). ``dropped`` counts the questions of done entries, or the
    letters of done questions, that have no text. ``entries`` counts the entries in the file.
    """

    run: str
    path: Path
    kind: str
    unit: str
    items: int
    done: int
    dropped: int
    entries: int
    dead: list[progress.Dead]
    left_out: list[str]
    cancelled: int = 0

    @property
    def open(self) -> int:
        """Count the items that are still open."""
        return self.items - self.done - len(self.dead) - self.cancelled

    @property
    def _product(self) -> str:
        return "text" if self.kind == "reason" else "new version"

    @property
    def summary(self) -> str:
        """Summarize the contents of the file."""
        plural = console.plural(self.unit)
        parts = "letters" if self.kind == "reason" else "questions"
        dropped = f"; {self.dropped} of their {parts} dropped, see the report" if self.dropped else ""
        return f"{self.done} of {self.items} {plural} with a {self._product}{dropped}"

    @property
    def missing(self) -> str:
        """Summarize what the file lacks."""
        return f"{self.items - self.done} of {self.items} {console.plural(self.unit)} have no {self._product}"


def collect(
    name: str,
    path: Path,
    wait: bool = False,
    force: bool = False,
    contents: Contents = ANSWERS,
    counts: answered_rows.Counts | None = None,
) -> Collected | Exported:
    """Write a run's results so far, or all of them with ``wait``.

    ``force`` allows overwriting a file that a run reads. ``counts`` receives the numbers of written answers.

    Raises:
        InvalidOption: the contents are contradictory, or name an unknown field.
        UserError: there is no such run, it has nothing to collect, or the file cannot be written.
    """
    run = runs.get_run(name)
    _check(contents)
    if run.kind not in DATA_QUEUES or contents.fields or contents.votes:
        run_progress.require_questions(name)
    # Fail before a long wait rather than after it.
    _require_place(path, force)
    if contents.fields and _gives_rows(run, path, contents):
        next(answered_rows.rows(run, contents.fields, answered_rows.Counts()), None)
    if wait:
        watch.follow(name)
        _require_place(path, force)
    answer_overdue(run)
    if answers := deadlines.count_answers(name):
        console.note(run_progress.describe_deadline(answers))
    # Read first: an item that dies between the two reads is then missing here, not counted twice.
    if run.kind in DATA_QUEUES:
        return _export(run, path, progress.dead(name))
    if contents.votes:
        return _votes(run, path, progress.dead(name))
    return _answers(run, path, merged_answers.dead(run), contents, counts or answered_rows.Counts())


def answer_overdue(run: Run) -> None:
    """Answer what is open after a run's deadline, if no worker has done it."""
    overdue = run.deadline is not None and run.deadline <= runs.ledger_time()
    if overdue and (ends := deadlines.answer_due(run=run.name)):
        console.note(f"{console.count(len(ends), 'question')} answered now, since the deadline is over")


def _answers(
    run: Run,
    path: Path,
    given_up: list[progress.Dead],
    contents: Contents,
    counts: answered_rows.Counts,
) -> Collected:
    fields = contents.fields
    if _gives_rows(run, path, contents):
        source = Path(merged_answers.origin(run).source)
        written = formats.write_rows(
            lambda: answered_rows.rows(run, fields, counts), path, run.name, source, fields
        )
    else:
        written = formats.write(answered_rows.entries(run, fields, counts), path, run.name, fields)
    numbers = counts.questions, counts.answered, given_up, written.left_out, counts.skipped
    cancelled = merged_answers.count_cancelled(run)
    return Collected(run.name, path, *numbers, abstained=counts.abstained, cancelled=cancelled)


def _gives_rows(run: Run, path: Path, contents: Contents) -> bool:
    return contents.format is None and answered_rows.has_rows(run, formats.is_table(path))


def _votes(run: Run, path: Path, given_up: list[progress.Dead]) -> Collected:
    states = runs.count_states(run.name)
    if run.texts_dropped_at is not None:
        console.note("texts of votes were dropped by `votequeue retention`: their rows have none")
    written = formats.write_table(vote_rows.of_run(run.name), vote_rows.COLUMNS, path, run.name)
    return Collected(
        run.name,
        path,
        sum(states.values()),
        states[State.DONE],
        given_up,
        votes=written.entries,
        cancelled=states[State.CANCELLED],
    )


def _export(run: Run, path: Path, given_up: list[progress.Dead]) -> Exported:
    counts = [0, 0]
    written = formats.write(_generated(run, counts), path, run.name)
    return Exported(
        run=run.name,
        path=path,
        kind=run.kind,
        unit=run_progress.unit(run),
        items=run_progress.count_items(run.name),
        done=counts[0],
        dropped=counts[1],
        entries=written.entries,
        dead=given_up,
        left_out=written.left_out,
        cancelled=runs.count_states(run.name)[State.CANCELLED],
    )


def _generated(run: Run, counts: list[int]) -> Iterator[dict[str, Any]]:
    for export in generated_entries.exports(run):
        counts[0] += export.items
        counts[1] += export.dropped
        if export.entry is not None:
            yield export.entry


def describe_missing(results: Collected | Exported) -> str:
    """Describe how many items have no result, and how to proceed."""
    parts = [f"{results.open} still open: use `--wait`"] if results.open else []
    parts += [f"{len(results.dead)} given up: see `votequeue failed {results.run}`"] if results.dead else []
    parts += [f"{results.cancelled} cancelled"] if results.cancelled else []
    return f"{results.missing} ({'; '.join(parts)})"


def _check(contents: Contents) -> None:
    for name in contents.fields:
        if name not in formats.ADDED:
            raise InvalidOption("--fields", f"no {name!r} here; choose from: {', '.join(formats.ADDED)}")
    for option, value in (("--fields", contents.fields), ("--format", contents.format)):
        if contents.votes and value:
            raise InvalidOption(option, "does not apply to --votes")
    if contents.format not in (None, catalog.OWN.name):
        raise UserError(
            f"--format {contents.format}: it can be votequeue; the default is the layout of the input"
        )


def _require_place(path: Path, force: bool) -> None:
    formats.require(path)
    output_files.require_free(path, force)
