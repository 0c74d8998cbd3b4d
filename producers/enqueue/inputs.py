"""Read and check data sets before they are enqueued: every bad line is reported.

    data.jsonl line 3, questions[0].answer: answer 'F' is not one of the 4 options (A-D)

Data come from a file or from a run's generated entries. They are streamed on every pass, so memory use does
not depend on their size.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from producers import console, generated_entries, spool
from producers.enqueue import row_reader
from shared import dataset, json_text, source_rows
from shared.dataset import BadLine, Entry, Line
from shared.errors import UserError
from shared.ledger import engine, runs
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN
from shared.options import Reading
from shared.prompts import FewShotExample

REPORTED_BAD_LINES = 50
_T = TypeVar("_T")


@dataclass
class _Tally:
    """Counts from one pass over some data."""

    entries: int = 0
    questions: int = 0
    labelled: int = 0
    solved: int = 0
    augmented: int = 0
    bad: int = 0
    reported: list[BadLine] = field(default_factory=list)

    def add(self, line: Line | BadLine) -> None:
        if isinstance(line, Line):
            self.entries += 1
            self.questions += len(line.entry.questions)
            self.labelled += sum(question.answer is not None for question in line.entry.questions)
            self.solved += sum(1 for _ in solved_questions(line.entry))
            self.augmented += line.entry.augmented
            return
        self.bad += 1
        if self.bad <= REPORTED_BAD_LINES:
            self.reported.append(line)


@dataclass(frozen=True)
class DataSource:
    """Checked data: their counts, and a function that reads their valid lines again.

    ``files`` are the input files; ``stem`` is the prefix of default run names. ``lines`` raises a `UserError`
    at its end if the data have changed since the check.
    """

    name: str
    stem: str
    digest: str
    entries: int
    questions: int
    labelled: int
    solved: int
    bad: int
    lines: Callable[[], Iterator[Line]]
    files: tuple[Path, ...] = ()
    augmented: int = 0

    @property
    def place(self) -> str:
        """Return the location of the data: an absolute path, or a run."""
        return engine.storable(str(self.files[0].absolute())) if self.files else self.name


@dataclass(frozen=True)
class Examples:
    """Solved questions for few-shot prompts: their digest, their number, and a function that reads them."""

    digest: str | None
    count: int
    read: Callable[[], Iterable[FewShotExample]]
    files: tuple[Path, ...] = ()


NO_EXAMPLES = Examples(None, 0, tuple)


def find_file(argument: str) -> Path:
    """Resolve an argument to a file; standard input (``-``) and ``hf://`` are saved to one first."""
    return spool.fetched(argument) or Path(argument)


def find_source(argument: str, prefix: str = "") -> Path | Run:
    """Resolve an argument to a file or a run; ``prefix`` starts the error messages.

    Raises:
        UserError: it is neither, or both.
    """
    if not prefix and (spooled := spool.fetched(argument)):
        return spooled
    path, run = Path(argument), runs.find_run(argument)
    if path.exists() and run is not None:
        raise UserError(
            f"{prefix}{argument}: both a file and a run have this name; use ./{argument} for the file"
        )
    if argument == "-":
        raise UserError(f"{prefix}-: only the data can come from standard input: save it to a file first")
    if not path.exists() and run is None:
        raise UserError(f"{prefix}{argument}: there is no such file and no such run")
    return run or path


# Files

AS_IT_IS = Reading()


def check(paths: Sequence[Path], skip_bad: bool = False, reading: Reading = AS_IT_IS) -> list[DataSource]:
    """Check every row of some data sets and list the bad ones on stderr; ``reading`` applies to the first.

    Raises:
        UserError: there are bad rows and not ``skip_bad``, or no valid one.
    """
    checked = [_check_one(path, AS_IT_IS if at else reading) for at, path in enumerate(paths)]
    bad = sum(source.bad for source in checked)
    if bad and not skip_bad:
        lines = console.count(bad, "bad line")
        raise UserError(f"{lines}, nothing was enqueued: fix them, or skip them with --skip-bad")
    if bad:
        console.note(f"{console.count(bad, 'bad line')} skipped")
    for source in checked:
        if not source.entries:
            raise UserError(f"{source.name} has no valid line")
    return checked


def entries(path: Path, reading: Reading = AS_IT_IS) -> Iterator[Entry]:
    """Read the valid entries of a data set one by one, without a check of the whole; bad lines are skipped.

    Raises:
        UserError: the file cannot be read, or its layout is unknown.
    """
    if reading.sample is None:
        return (line.entry for line in row_reader.scan(path, reading) if isinstance(line, Line))
    (source,) = check([path], skip_bad=True, reading=reading)
    return (line.entry for line in source.lines())


def _check_one(path: Path, reading: Reading) -> DataSource:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(
            f"{path} is not a regular file and cannot be read twice: save its data to a file first"
        )
    digest = row_reader.digest(path)
    tally = _tally(f"checking {path.name}", row_reader.scan(path, reading), _count_lines(path))
    for bad in tally.reported:
        console.note(str(bad))
    if tally.bad > len(tally.reported):
        console.note(f"{path}: and {tally.bad - len(tally.reported)} more bad lines")
    answers = [argument for argument in reading.map if argument.startswith("answer=")]
    if answers and tally.entries and not tally.labelled:
        console.note(f"{path}: no row has an answer in the field of --map {answers[0]}")
    taken, bad_lines = None, tally.bad
    if reading.sample is not None and reading.sample < tally.entries:
        taken = frozenset(random.Random(reading.sample_seed).sample(range(tally.entries), reading.sample))
        tally = _tally("sampling", _good_lines(path, digest, reading, taken))
    # The same file with other entries or another mapping is other data.
    identity = reading.identity
    name = (
        hashlib.sha256(f"{digest} {json_text.dumps(identity)}".encode()).hexdigest() if identity else digest
    )
    source = _source(str(path), path.stem, name, tally, lambda: _good_lines(path, digest, reading, taken))
    return replace(source, files=(path,), bad=bad_lines)


def _tally(what: str, lines: Iterable[Line | BadLine], total: int | None = None) -> _Tally:
    tally = _Tally()
    with console.bar(what, total, "lines") as advance:
        for line in counted(lines, advance):
            tally.add(line)
    return tally


def _source(
    name: str, stem: str, digest: str, tally: _Tally, lines: Callable[[], Iterator[Line]]
) -> DataSource:
    return DataSource(
        augmented=tally.augmented,
        name=name,
        stem=stem,
        digest=digest,
        entries=tally.entries,
        questions=tally.questions,
        labelled=tally.labelled,
        solved=tally.solved,
        bad=tally.bad,
        lines=lines,
    )


def _count_lines(path: Path) -> int | None:
    if path.suffix not in (".jsonl", ".csv", ".tsv"):
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def counted(values: Iterable[_T], advance: console.Advance) -> Iterator[_T]:
    """Pass values through and advance a progress bar in chunks."""
    source = iter(values)
    while chunk := list(itertools.islice(source, 200)):
        yield from chunk
        advance(len(chunk))


def _good_lines(path: Path, digest: str, reading: Reading, taken: frozenset[int] | None) -> Iterator[Line]:
    lines = row_reader.scan(path, reading)
    if taken is None:
        yield from row_reader.recorded(lines)
    else:
        good = (line for line in lines if isinstance(line, Line))
        yield from (line for at, line in enumerate(good) if at in taken)
    if row_reader.digest(path) != digest:
        raise UserError(f"{path} changed while it was being read: nothing was enqueued, try again")


# Runs


def note_open_items(run: str) -> None:
    """Tell the user how many items of a run are open; the caller uses only the results so far."""
    states = runs.count_states(run)
    if waiting := sum(states[state] for state in OPEN):
        items = console.count(waiting, "item")
        console.note(f"run {run}: {items} still open; their results are not included")


def from_run(run: Run) -> DataSource:
    """Check the entries that a run has generated so far; for an infer run, its input data.

    Raises:
        UserError: it has generated nothing yet.
    """
    hasher, tally = hashlib.sha256(), _Tally()
    for line in _lines_of(run):
        hasher.update(line.text.encode() + b"\n")
        tally.add(line)
    if not tally.entries:
        raise UserError(f"run {run.name!r} has no results yet: see `votequeue status {run.name}`")
    content_digest = hasher.hexdigest()
    digest = run.digest if run.kind == "infer" else content_digest
    return _source(f"run {run.name}", run.name, digest, tally, lambda: _same_lines(run, content_digest))


def _same_lines(run: Run, digest: str) -> Iterator[Line]:
    hasher = hashlib.sha256()
    for line in _lines_of(run):
        hasher.update(line.text.encode() + b"\n")
        yield line
    if hasher.hexdigest() != digest:
        raise UserError(f"run {run.name!r} changed while it was being read: nothing was enqueued, try again")


def _lines_of(run: Run) -> Iterator[Line]:
    for number, (text, source) in enumerate(_texts_of(run), start=1):
        rows = None if source is None else source_rows.of_text(source)
        yield Line(number, text, dataset.entry_of(text), rows)


def _texts_of(run: Run) -> Iterator[tuple[str, str | None]]:
    if run.kind == "infer":
        return runs.load_sources(run.name)
    return ((json_text.dumps(entry), None) for entry in generated_entries.entries(run))


# Examples


def examples_of(source: DataSource) -> Examples:
    """Return the solved questions of some data.

    Raises:
        UserError: there are none.
    """
    if not source.solved:
        name = source.name.removeprefix("run ")
        others = f"; {source.augmented} of its entries are generated" if source.augmented else ""
        raise UserError(
            f"--examples {name}: no question in it has both an answer and a reasoning or program{others}"
        )

    def read() -> Iterator[FewShotExample]:
        for line in source.lines():
            yield from solved_questions(line.entry)

    return Examples(source.digest, source.solved, read, source.files)


def solved_questions(entry: Entry) -> Iterator[FewShotExample]:
    """Yield an entry's questions with answer and reasoning or program; none if the entry is generated."""
    if entry.augmented:
        return
    for index, question in enumerate(entry.questions):
        reasoning, program = question.reasoning or "", question.program or ""
        if question.answer is not None and (reasoning.strip() or program.strip()):
            yield FewShotExample(runs.asked(entry, index), reasoning, question.answer, program=program)
