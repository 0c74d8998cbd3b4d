"""Reasonings into the `train` queue: from data files, votes of labelled runs, and texts that runs have made.

    {"id": "p1#2@1.3", "group": "p1", "problem": ..., "questions": [{..., "answer": "B",
        "wrong": [{"answer": "C", "reasoning": "……答案是：C"}]}]}

That is vote 3 of round 1 on question 2 of entry p1, which chose C where B is right. ``group`` names the entry
it came from, so that a split by entry keeps its texts together, and what was made from it too. How a scorer
is trained is not known here.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers import enqueue, exports, intake, progress, questions, runs
from shared import dataset, ledger
from shared.dataset import Entry, Line
from shared.errors import UserError
from shared.jobs import DATA_QUEUES, ScorerTraining
from shared.ledger import Run


@dataclass(frozen=True)
class Texts:
    """What a training would learn from: sound and unsound reasonings counted, all of it digested."""

    digest: str
    entries: int
    sound: int
    unsound: int


@dataclass(frozen=True)
class Enqueued:
    """What an `enqueue train` did."""

    run: str
    sound: int
    unsound: int
    sent: int
    continued: bool


def scorer(
    options: ScorerTraining, files: Sequence[Path], sources: Sequence[str], name: str | None = None
) -> Enqueued:
    """Enqueue the training of a scorer on data files, and on the votes or texts of runs.

    Raises:
        UserError: a bad file or run, or not both sound and unsound reasonings; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    intake.check(files)
    for source in sources:
        _require_texts(source)
    found = survey(files, sources)
    _require_both_kinds(found)
    chosen = name or enqueue.default_name("scorer", "train", found.digest, options.model_dump())
    told = ", ".join([*map(str, files), *map(_named, sources)])
    run = Run(chosen, "train", told, found.digest, None, options.model_dump())

    def write() -> None:
        with progress.bar("recording", found.entries, "entries") as advance:
            texts = intake.counted(_same(found, files, sources), advance)
            ledger.open_single(run, options.target, texts)

    continued = enqueue.begin(run, write)
    return Enqueued(chosen, found.sound, found.unsound, enqueue.publish(chosen), continued)


def lines(files: Sequence[Path], sources: Sequence[str]) -> Iterator[str]:
    """Give all entries to train on, as JSON."""
    for path in files:
        yield from (line.text for line in dataset.scan(path) if isinstance(line, Line))
    for source in sources:
        yield from (json.dumps(entry, ensure_ascii=False) for entry in _entries_of(source))


def _entries_of(source: str) -> Iterator[dict[str, Any]]:
    run = ledger.get_run(source)
    if run.kind in DATA_QUEUES:
        yield from exports.entries(run)
    else:
        for told in questions.tell(source, texts=True):
            yield from _from_votes(told)


def _named(source: str) -> str:
    what = "texts" if ledger.get_run(source).kind in DATA_QUEUES else "votes"
    return f"{what} of {source}"


def _from_votes(told: questions.Told) -> Iterator[dict[str, Any]]:
    if told.gold is None:
        return
    asked = told.entry.questions[told.question]
    for vote in told.votes:
        if not vote.text.strip():
            continue
        judged: dict[str, Any] = {"question": asked.question, "options": asked.options, "answer": told.gold}
        if vote.letter == told.gold:
            judged["reasoning"] = vote.text
        else:
            judged["wrong"] = [{"answer": vote.letter, "reasoning": vote.text}]
        key = dataset.key(told.entry.id, told.question)
        yield {
            "id": f"{key}@{vote.attempt}.{vote.place + 1}",
            "group": str(told.entry.id),
            "problem": told.entry.problem,
            "questions": [judged],
        }


def survey(files: Sequence[Path], sources: Sequence[str]) -> Texts:
    """Count and digest what there is to train on."""
    digest = hashlib.sha256()
    entries = sound = unsound = 0
    with progress.bar("reading", None, "entries") as advance:
        for text in intake.counted(lines(files, sources), advance):
            digest.update(text.encode() + b"\n")
            entries += 1
            for question in Entry.model_validate_json(text).questions:
                sound += bool((question.reasoning or "").strip())
                unsound += sum(bool(wrong.reasoning.strip()) for wrong in question.wrong)
    return Texts(digest.hexdigest(), entries, sound, unsound)


def _same(found: Texts, files: Sequence[Path], sources: Sequence[str]) -> Iterator[str]:
    digest = hashlib.sha256()
    for text in lines(files, sources):
        digest.update(text.encode() + b"\n")
        yield text
    if digest.hexdigest() != found.digest:
        raise UserError("the data changed while it was being read: nothing was enqueued, try again")


def _require_texts(source: str) -> None:
    run = ledger.get_run(source)
    if run.kind in DATA_QUEUES:
        if next(exports.entries(run), None) is None:
            raise UserError(f"--from {source}: it has made nothing yet, see `votequeue status {source}`")
        return
    runs.require_questions(source)
    if not any(told.gold is not None and told.votes for told in questions.tell(source)):
        raise UserError(f"--from {source}: it has no vote on a question whose right answer is known")


def _require_both_kinds(found: Texts) -> None:
    missing = [word for word, count in [("sound", found.sound), ("unsound", found.unsound)] if not count]
    if missing:
        raise UserError(
            f"there is no {' and no '.join(missing)} reasoning to train on: `votequeue sample --wrong` makes "
            "both, `--from RUN` takes the votes of a labelled run, or what a reason run has made"
        )
