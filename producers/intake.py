"""A data set before anything is done with it: every line looked at, every bad one named.

    data.jsonl line 3, questions[0].answer: answer 'F' is not one of the 4 options (A-D)

Files are read again and again rather than held: 100,000 questions need no more memory than a few. What the
lines are for is not known here.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from producers import progress
from shared import dataset, ledger
from shared.dataset import BadLine, Entry, Line
from shared.errors import UserError
from shared.ledger import Run
from shared.prompts import Solved

SHOWN_BAD_LINES = 50
_T = TypeVar("_T")


@dataclass(frozen=True)
class Checked:
    """What a data set holds, once every line of it was looked at."""

    path: Path
    digest: str
    entries: int
    questions: int
    solved: int
    bad: int
    shown: Sequence[BadLine]


@dataclass(frozen=True)
class Examples:
    """Solved questions to show in prompts: whose they are, how many, and how to read them."""

    digest: str | None
    count: int
    read: Callable[[], Iterable[Solved]]


NO_EXAMPLES = Examples(None, 0, tuple)


def check(paths: Sequence[Path], skip_bad: bool = False) -> list[Checked]:
    """Look at every line of some data sets, listing the bad ones on stderr.

    Raises:
        UserError: there are bad lines and they are not to be skipped, or no good one is left.
    """
    all_checked = [_check_one(path) for path in paths]
    bad = sum(checked.bad for checked in all_checked)
    for checked in all_checked:
        _list_bad_lines(checked)
    if bad and not skip_bad:
        lines = "1 bad line" if bad == 1 else f"{bad} bad lines"
        raise UserError(f"{lines}, nothing was enqueued: mend them, or leave them out with --skip-bad")
    for checked in all_checked:
        if not checked.entries:
            raise UserError(f"{checked.path} has no good line")
    return all_checked


def _check_one(path: Path) -> Checked:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no regular file: it has to be read more than once")
    digest = dataset.digest(path)
    entries = questions = solved = bad = 0
    shown: list[BadLine] = []
    with progress.bar(f"checking {path.name}", _count_lines(path), "lines") as advance:
        for line in counted(dataset.scan(path), advance):
            if isinstance(line, Line):
                entries += 1
                questions += len(line.entry.questions)
                solved += sum(1 for _ in solved_questions(line.entry))
                continue
            bad += 1
            if bad <= SHOWN_BAD_LINES:
                shown.append(line)
    return Checked(path, digest, entries, questions, solved, bad, shown)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _list_bad_lines(checked: Checked) -> None:
    for line in checked.shown:
        progress.note(str(line))
    if checked.bad > len(checked.shown):
        progress.note(f"{checked.path}: and {checked.bad - len(checked.shown)} more bad lines")


def counted(values: Iterable[_T], advance: progress.Advance) -> Iterator[_T]:
    """Pass values through, telling a bar every few hundred."""
    source = iter(values)
    while chunk := list(itertools.islice(source, 200)):
        yield from chunk
        advance(len(chunk))


def good_lines(checked: Checked) -> Iterator[Line]:
    """Read a checked data set's good lines again.

    Raises:
        UserError: the file is no longer what was checked.
    """
    yield from (line for line in dataset.scan(checked.path) if isinstance(line, Line))
    if dataset.digest(checked.path) != checked.digest:
        raise UserError(f"{checked.path} changed while it was being read: nothing was enqueued, try again")


# Examples


def find_source(argument: str) -> Path | Run:
    """Tell whether examples were asked for from a file or from a run.

    Raises:
        UserError: from neither, or it could be either.
    """
    path, run = Path(argument), ledger.find_run(argument)
    if path.exists() and run is not None:
        raise UserError(f"--examples {argument}: a file and a run are called so; ./{argument} is the file")
    if not path.exists() and run is None:
        raise UserError(f"--examples {argument}: there is no such file and no such run")
    return run or path


def examples_of(source: Checked | Run) -> Examples:
    """Find the solved questions of a data set, or of the data that a run was made from.

    Raises:
        UserError: it has none.
    """
    name = source.name if isinstance(source, Run) else source.path

    def read() -> Iterator[Solved]:
        for entry in _entries_of(source):
            yield from solved_questions(entry)

    count = sum(1 for _ in read()) if isinstance(source, Run) else source.solved
    if not count:
        raise UserError(f"--examples {name}: no question in it has both an answer and a reasoning")
    return Examples(source.digest, count, read)


def _entries_of(source: Checked | Run) -> Iterator[Entry]:
    if isinstance(source, Run):
        return (Entry.model_validate_json(text) for text in ledger.load_entries(source.name))
    return (line.entry for line in good_lines(source))


def solved_questions(entry: Entry) -> Iterator[Solved]:
    """Give an entry's questions that have an answer and a reasoning; none if it was made from another."""
    if entry.augmented:
        return
    for index, question in enumerate(entry.questions):
        if question.answer is not None and question.reasoning and question.reasoning.strip():
            yield Solved(ledger.asked(entry, index), question.reasoning, question.answer)
