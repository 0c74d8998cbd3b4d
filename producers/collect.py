"""Write a run's results to a file: the data set with its answers, or the entries that a run has made.

    collect("round1", Path("answers.jsonl"))  ->  Collected(questions=1328, answered=1327, dead=[...], open=0)
    collect("correct", Path("train.parquet"))  ->  Exported(unit="question", items=1328, done=1290, ...)

An answered data set keeps its entries, order, ids and fields. All of the file or none of it. How answers and
texts came about is not told here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers import console, formats, generated_entries, output_files, run_progress, watch
from shared import dataset
from shared.jobs import DATA_QUEUES
from shared.ledger import progress, runs, votes
from shared.ledger.runs import Run


@dataclass(frozen=True)
class Collected:
    """What was written: questions with an answer, those given up, those still being worked on."""

    run: str
    path: Path
    questions: int
    answered: int
    dead: list[progress.Dead]
    left_out: list[str] = field(default_factory=list)

    @property
    def open(self) -> int:
        """Count the questions that may still get an answer."""
        return self.questions - self.answered - len(self.dead)

    @property
    def summary(self) -> str:
        """Say what is in the file."""
        return f"{self.path}: {self.answered} of {self.questions} questions answered"

    @property
    def missing(self) -> str:
        """Say what is not."""
        return f"{self.questions - self.answered} of {self.questions} questions have no answer"


@dataclass(frozen=True)
class Exported:
    """What was written of a run that makes texts: items that came to one, parts of these that did not.

    An item is an entry or a question (``unit``); ``dropped`` counts the questions of done entries, or the
    letters of done questions, that there is nothing for; ``entries`` is how many the file has.
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

    @property
    def open(self) -> int:
        """Count the items that may still come to something."""
        return self.items - self.done - len(self.dead)

    @property
    def _product(self) -> str:
        return "text" if self.kind == "reason" else "new version"

    @property
    def summary(self) -> str:
        """Say what is in the file."""
        plural = console.plural(self.unit)
        parts = "letters" if self.kind == "reason" else "questions"
        dropped = f"; {self.dropped} of their {parts} dropped, see the report" if self.dropped else ""
        return f"{self.path}: {self.done} of {self.items} {plural} with a {self._product}{dropped}"

    @property
    def missing(self) -> str:
        """Say what is not."""
        return f"{self.items - self.done} of {self.items} {console.plural(self.unit)} have no {self._product}"


def collect(name: str, path: Path, wait: bool = False, force: bool = False) -> Collected | Exported:
    """Write what there is of a run's results; ``wait`` until no more can come.

    ``force`` allows to write over a file that a run reads.

    Raises:
        UserError: there is no such run, it has nothing to collect, or the file cannot be written.
    """
    run = runs.get_run(name)
    if run.kind not in DATA_QUEUES:
        run_progress.require_questions(name)
    # Said before a long wait rather than after it.
    _require_place(path, force)
    if wait:
        watch.follow(name)
        _require_place(path, force)
    # Whatever ends between reading the two is then missing from the dead, not counted twice.
    given_up = progress.dead(name)
    return (_export if run.kind in DATA_QUEUES else _answers)(run, path, given_up)


def _answers(run: Run, path: Path, given_up: list[progress.Dead]) -> Collected:
    counts = [0, 0]
    written = formats.write(_answered(run.name, counts), path, run.name)
    return Collected(run.name, path, counts[0], counts[1], given_up, written.left_out)


def _answered(run: str, counts: list[int]) -> Iterator[dict[str, Any]]:
    for text, letters in votes.letters_of(run):
        counts[0] += len(letters)
        counts[1] += sum(letter is not None for letter in letters)
        yield dataset.with_answers(text, letters)


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
    )


def _generated(run: Run, counts: list[int]) -> Iterator[dict[str, Any]]:
    for export in generated_entries.exports(run):
        counts[0] += export.items
        counts[1] += export.dropped
        if export.entry is not None:
            yield export.entry


def describe_missing(results: Collected | Exported) -> str:
    """Say how many questions (or entries) there is nothing for, and what to do about it."""
    parts = [f"{results.open} still open: `--wait` waits for them"] if results.open else []
    parts += [f"{len(results.dead)} given up: see `votequeue failed {results.run}`"] if results.dead else []
    return f"{results.missing} ({'; '.join(parts)})"


def _require_place(path: Path, force: bool) -> None:
    formats.require(path)
    output_files.require_free(path, force)
