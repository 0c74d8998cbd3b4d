"""A run's answers into a file: the data set as it came, with the answers filled in.

    collect("round1", Path("answers.jsonl"))  ->  Collected(questions=1328, answered=1327, dead=[...], open=0)

Same entries, order, ids and fields; all of the file or none of it. How answers came about is not told here.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers import questions, runs, watch
from shared import dataset
from shared.errors import UserError


@dataclass(frozen=True)
class Collected:
    """What was written: questions with an answer, those given up, those still being worked on."""

    run: str
    path: Path
    questions: int
    answered: int
    dead: list[runs.Dead]

    @property
    def open(self) -> int:
        """Count the questions that may still get an answer."""
        return self.questions - self.answered - len(self.dead)


def collect(run: str, path: Path, wait: bool = False) -> Collected:
    """Write a run's data set with the answers there are; ``wait`` until no more can come.

    Raises:
        UserError: there is no such run, it answers no questions, or the file cannot be written.
    """
    source = runs.require_questions(run).source
    _require_place(path, source)
    if wait:
        watch.follow(run)
    counts = [0, 0]
    # Whatever ends between reading the two is then missing from the dead, not counted twice.
    given_up = runs.dead(run)
    dataset.write(_filled(run, counts), path)
    return Collected(run, path, questions=counts[0], answered=counts[1], dead=given_up)


def _filled(run: str, counts: list[int]) -> Iterator[dict[str, Any]]:
    for text, letters in questions.answered(run):
        counts[0] += len(letters)
        counts[1] += sum(letter is not None for letter in letters)
        yield dataset.with_answers(text, letters)


def lacking(done: Collected) -> str:
    """Say how many questions have no answer, and what to do about it."""
    parts = [f"{done.open} still open: `--wait` waits for them"] if done.open else []
    parts += [f"{len(done.dead)} given up: see `votequeue failed {done.run}`"] if done.dead else []
    return (
        f"{done.questions - done.answered} of {done.questions} questions have no answer ({'; '.join(parts)})"
    )


def _require_place(path: Path, source: str) -> None:
    # Said before a long wait rather than after it.
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent}: make it first")
    if path.exists() and path.resolve() == Path(source).resolve():
        raise UserError(
            f"{path} is the data set itself, and its right answers would be lost: name another file"
        )


if __name__ == "__main__":
    from producers.cli import main

    sys.exit(main(["collect", *sys.argv[1:]]))
