"""What each reader makes of the votes that labelled runs have on record.

    python -m tests.bench.readers RUN...

prints, for each reader, the votes with a letter, the right ones among them, and what the majority of each
question's first round answers right; then every vote on which the readers differ (`--differences`).
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from producers import run_progress
from producers.reports import render
from shared import answers, dataset
from shared.ledger import votes


@dataclass(frozen=True)
class Case:
    """A labelled question's votes: how many options it has, the right letter, and the texts."""

    key: str
    options: int
    gold: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What one reader makes of all votes."""

    reader: str
    votes: int
    letters: int
    right: int
    majority_right: int
    questions: int


def cases(runs: Sequence[str]) -> Iterator[Case]:
    """Give the labelled questions of runs with the votes of their first rounds."""
    for run in runs:
        run_progress.require_own_order(run, "this bench")
        for told in votes.of_run(run, texts=True):
            texts = tuple(vote.text for vote in told.votes if vote.attempt == 1)
            if told.gold is not None and texts:
                options = len(told.entry.questions[told.question].options)
                yield Case(dataset.key(told.entry.id, told.question), options, told.gold, texts)


def read(found: Sequence[Case], reader: str) -> Row:
    """Read all votes with one reader."""
    letters = right = majority_right = 0
    for case in found:
        said = [answers.extract(text, case.options, reader) for text in case.texts]
        counts = Counter(letter for letter in said if letter)
        letters += counts.total()
        right += counts[case.gold]
        # A tie goes to the letter seen first, as in `voting`.
        majority_right += bool(counts) and counts.most_common(1)[0][0] == case.gold
    votes = sum(len(case.texts) for case in found)
    return Row(reader, votes, letters, right, majority_right, len(found))


def differences(found: Sequence[Case]) -> Iterator[str]:
    """Show each vote on which the readers differ, by its end."""
    for case in found:
        for text in case.texts:
            letters = {name: answers.extract(text, case.options, name) for name in answers.READERS}
            if len(set(letters.values())) > 1:
                yield f"{case.key} (right: {case.gold}) {letters}\n{text[-300:]}\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--differences", action="store_true")
    told = parser.parse_args()
    found = list(cases(told.runs))
    rows = [read(found, reader) for reader in answers.READERS]
    table = [
        [
            row.reader,
            *map(str, (row.votes, row.letters, row.right)),
            f"{row.majority_right} of {row.questions}",
        ]
        for row in rows
    ]
    render.table(table, ["reader", "votes", "with a letter", "right", "majority right"])
    if told.differences:
        render.text("\n".join(differences(found)))


if __name__ == "__main__":
    main()
