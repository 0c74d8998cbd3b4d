"""Give a run's rows back in their own layout, with the answers filled in.

    {"passage": null, "question": "谁高？", "options": ["(A)甲", "(B)乙"], "label": "B", "answer": null}

A run that asks questions again gives back the rows of its origin, with the merged answers. Rows that were
skipped as bad keep their place and are unchanged.
"""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from producers import merged_answers
from producers.layouts import catalog
from producers.merged_answers import MergedAnswer
from shared import dataset, source_rows
from shared.errors import UserError
from shared.ledger import runs
from shared.ledger.runs import Run
from shared.voting import Outcome


@dataclass
class Counts:
    """Numbers of questions, of their (new) answers, of questions that abstain, and of skipped rows.

    With ``golds``, also of questions with a right letter, and of right answers to them.
    """

    golds: bool = False
    questions: int = 0
    answered: int = 0
    abstained: int = 0
    skipped: int = 0
    labelled: int = 0
    right: int = 0

    def restart(self) -> None:
        """Set all numbers to 0."""
        self.questions = self.answered = self.abstained = self.skipped = self.labelled = self.right = 0

    def add(self, text: str, answers: list[MergedAnswer]) -> None:
        """Count the questions of an entry."""
        self.questions += len(answers)
        abstained = sum(each.settled and each.answer.outcome == Outcome.ABSTAINED for each in answers)
        self.abstained += abstained
        self.answered += sum(answer.settled for answer in answers) - abstained
        if self.golds:
            golds = [question.answer for question in dataset.entry_of(text).questions]
            self.labelled += len(golds) - golds.count(None)
            self.right += sum(
                gold is not None and gold == each.answer.letter
                for gold, each in zip(golds, answers, strict=True)
            )


def entries(run: Run, fields: Sequence[str], counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield a run's entries in votequeue's own layout; skipped rows are left out.

    ``fields`` of the answers are added beside them.

    Raises:
        UserError: a question has such a field of its own.
    """
    for text, answers in merged_answers.of_run(run, "confidence" in fields):
        counts.add(text, answers)
        yield _entry(text, answers, fields)


def has_rows(run: Run, table: bool) -> bool:
    """Tell whether a run's rows are other than its entries; a ``table`` cannot hold skipped lines of ours."""
    origin = merged_answers.origin(run).name
    if not runs.has_sources(origin):
        return False
    sources = (source_rows.parse(source) for _, source in runs.load_sources(origin) if source)
    return not table or any(source.layout is not None for source in sources)


def rows(run: Run, fields: Sequence[str], counts: Counts) -> Iterator[Any]:
    """Yield a run's rows in their own layout and order, with ``fields`` of the answers.

    Raises:
        UserError: a row has no place for a field, or has it already.
    """
    counts.restart()
    sources = runs.load_sources(merged_answers.origin(run).name)
    answered = merged_answers.of_run(run, "confidence" in fields)
    # `--append-to` may add entries between the two queries, the second of which is that of the sources.
    for (text, answers), (_, source) in zip(answered, sources, strict=False):
        counts.add(text, answers)
        if source is None:
            yield _entry(text, answers, fields)
        else:
            yield from _filled(source_rows.parse(source), text, answers, fields, counts)


def _filled(
    source: source_rows.ParsedRows,
    text: str,
    answers: list[MergedAnswer],
    fields: Sequence[str],
    counts: Counts,
) -> Iterator[Any]:
    layout, rest = catalog.of_record(source.layout), iter([each.answer.letter for each in answers])
    for row, skipped in source.rows:
        counts.skipped += skipped
        if skipped:
            yield row
        elif row is None:
            yield _entry(text, answers, fields)
        else:
            # A row has as many questions as it takes letters.
            before = operator.length_hint(rest)
            filled = layout.fill(row, rest)
            its_own = answers[len(answers) - before : len(answers) - operator.length_hint(rest)]
            yield _with_fields(filled, its_own, fields) if fields else filled


def _entry(text: str, answers: list[MergedAnswer], fields: Sequence[str]) -> dict[str, Any]:
    entry = dataset.with_answers(text, [each.answer.letter for each in answers])
    for question, each in zip(entry["questions"], answers, strict=True):
        _add_fields(question, each, fields)
    return entry


def _with_fields(row: Any, answers: list[MergedAnswer], fields: Sequence[str]) -> dict[str, Any]:
    if not isinstance(row, dict) or len(answers) != 1:
        what = "no named fields" if not isinstance(row, dict) else "several questions"
        raise UserError(
            f"--fields {','.join(fields)}: a row of the data has {what}, so no place for them: use "
            "--format votequeue"
        )
    return _add_fields(dict(row), answers[0], fields)


def _add_fields(question: dict[str, Any], answer: MergedAnswer, fields: Sequence[str]) -> dict[str, Any]:
    for name in fields:
        if name in question:
            raise UserError(
                f"--fields {name}: {answer.answer.key} has a field {name!r} of its own: leave it out"
            )
        question[name] = getattr(answer.answer, name)
    return question
