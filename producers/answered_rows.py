"""Give a run's rows back in their own layout, with the answers filled in.

    {"passage": null, "question": "谁高？", "options": ["(A)甲", "(B)乙"], "label": "B", "answer": null}

Rows that were skipped as bad keep their place and are unchanged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from producers.layouts import catalog
from shared import dataset, source_rows
from shared.ledger import runs, votes


@dataclass
class Counts:
    """Numbers of questions, of their answers, and of skipped rows."""

    questions: int = 0
    answered: int = 0
    skipped: int = 0

    def add(self, letters: list[str | None]) -> None:
        """Count the questions of an entry."""
        self.questions += len(letters)
        self.answered += sum(letter is not None for letter in letters)


def entries(run: str, counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield a run's entries in votequeue's own layout; skipped rows are left out."""
    for text, letters in votes.letters_of(run):
        counts.add(letters)
        yield dataset.with_answers(text, letters)


def has_rows(run: str, table: bool) -> bool:
    """Tell whether a run's rows are other than its entries; a ``table`` cannot hold skipped lines of ours."""
    if not runs.has_sources(run):
        return False
    sources = (source_rows.parse(source) for _, source in runs.load_sources(run) if source)
    return not table or any(source.layout is not None for source in sources)


def rows(run: str, counts: Counts) -> Iterator[Any]:
    """Yield a run's rows in their own layout and order."""
    counts.questions = counts.answered = counts.skipped = 0
    sources = runs.load_sources(run)
    for (text, letters), (_, source) in zip(votes.letters_of(run), sources, strict=True):
        counts.add(letters)
        if source is None:
            yield dataset.with_answers(text, letters)
        else:
            yield from _filled(source_rows.parse(source), text, letters, counts)


def _filled(
    source: source_rows.ParsedRows, text: str, letters: list[str | None], counts: Counts
) -> Iterator[Any]:
    layout, rest = catalog.of_record(source.layout), iter(letters)
    for row, skipped in source.rows:
        counts.skipped += skipped
        if skipped:
            yield row
        elif row is None:
            yield dataset.with_answers(text, letters)
        else:
            yield layout.fill(row, rest)
