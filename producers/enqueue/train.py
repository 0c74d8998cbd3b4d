"""Enqueue a training: examples from data files, from votes of labelled runs and from generated texts.

    gather([TrainingSource("mine", weight=1.0), TrainingSource("more.jsonl", weight=0.3)])
        ->  TrainingExample(...), TrainingExample(...), ...

A run over labelled questions gives its own votes, told right from wrong by their letters; a `reason` or
`translate` run and a data file give the reasonings they hold.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers import console, generated_entries, run_progress
from producers.enqueue import inputs, publish
from shared import answers, dataset
from shared.dataset import Entry, Line
from shared.errors import UserError
from shared.jobs import DATA_QUEUES
from shared.ledger import runs, votes
from shared.ledger.runs import Run
from shared.options import Sampling
from shared.recipes import INPUTS, LoraTraining, ScorerTraining, Training
from shared.training_examples import Text, TrainingExample


@dataclass(frozen=True)
class TrainingSource:
    """Where lessons come from: a run or a file; how much each text counts; whether it is for tests only."""

    name: str
    path: Path | None = None
    weight: float = 1.0
    test: bool = False

    @property
    def told(self) -> str:
        """Say what it is: ``votes of mine``, ``texts of wrong x 0.5``."""
        what = self.name
        if self.path is None:
            what = f"{'texts' if runs.get_run(self.name).kind in DATA_QUEUES else 'votes'} of {self.name}"
        return what + (f" x {self.weight:g}" if self.weight != 1 else "") + (" (test)" if self.test else "")


@dataclass(frozen=True)
class Survey:
    """What a training would learn from: questions, right and wrong texts counted, all of it digested."""

    digest: str
    lessons: int
    questions: int
    right: int
    wrong: int
    tested: int


@dataclass(frozen=True)
class EnqueuedTraining:
    """What an `enqueue train` did; ``tested`` counts the texts that are for trying the model only."""

    run: str
    questions: int
    right: int
    wrong: int
    tested: int
    sent: int
    continued: bool


def sources(
    files: Sequence[Path], names: Sequence[str], tests: Sequence[str], weights: Sequence[str]
) -> list[TrainingSource]:
    """Look up what to learn from; ``weights`` are ``NAME=0.5``, where a name is a run's or a file's.

    Raises:
        UserError: there is no such run, it has nothing to learn from, or a weight is for nothing.
    """
    wanted = dict(map(_weight, weights))
    found = [TrainingSource(str(path), path, wanted.pop(str(path), 1.0)) for path in files]
    found += [TrainingSource(name, None, wanted.pop(name, 1.0)) for name in names]
    found += [TrainingSource(name, None, test=True) for name in tests]
    if wanted:
        known = ", ".join(source.name for source in found)
        raise UserError(f"--weight {next(iter(wanted))}: it is not among what is learned from ({known})")
    twice = {name for name in tests if name in names}
    if twice:
        raise UserError(f"--test {twice.pop()}: what is learned from cannot be what the model is tried on")
    for source in found:
        if source.path is None:
            _require_texts(source)
    return found


def _weight(told: str) -> tuple[str, float]:
    name, _, number = told.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not name or not 0 < weight <= 100:
        raise UserError(f"--weight {told}: write NAME=0.5, with a number above 0 and up to 100")
    return name, weight


def _require_texts(source: TrainingSource) -> None:
    run = runs.get_run(source.name)
    option = "--test" if source.test else "--from"
    if run.kind in DATA_QUEUES and not source.test:
        if next(generated_entries.entries(run), None) is None:
            raise UserError(
                f"{option} {source.name}: it has made nothing yet, see `votequeue status {source.name}`"
            )
        return
    run_progress.require_questions(source.name)
    if not any(result.gold is not None and result.votes for result in votes.of_run(source.name)):
        raise UserError(f"{option} {source.name}: it has no vote on a question whose right answer is known")


# Enqueuing


def scorer(
    options: ScorerTraining, found: Sequence[TrainingSource], name: str | None = None
) -> EnqueuedTraining:
    """Enqueue the training of a scorer.

    Raises:
        UserError: a bad file, or not both right and wrong texts where they are read; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    seen = survey(found)
    if INPUTS[options.input].answers:
        _require_labels(seen)
    else:
        _require_both(seen)
    return _enqueue("scorer", options, found, seen, name)


def _require_labels(seen: Survey) -> None:
    if not seen.questions:
        raise UserError("there is no question to train on whose right answer is known")


def _require_both(seen: Survey) -> None:
    missing = [word for word, count in [("right", seen.right), ("wrong", seen.wrong)] if not count]
    if missing:
        raise UserError(
            f"there is no {' and no '.join(missing)} text to train on: `--from RUN` takes the votes of a "
            "labelled run, or what a reason run has made; `votequeue sample --wrong` makes both"
        )


def lora(options: LoraTraining, found: Sequence[TrainingSource], name: str | None = None) -> EnqueuedTraining:
    """Enqueue the training of a LoRA adapter for the generator, from right texts.

    Raises:
        UserError: a bad file, or no right text; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    seen = survey(found)
    if not seen.right:
        raise UserError(
            "there is no right text to train on: `--from RUN` takes right votes, or what a reason run has "
            "made, `--data FILE` the reasonings in a file"
        )
    # What a run's prompts showed when it sampled, they show when its votes are learned from.
    names = [source.name for source in found if source.path is None]
    digests = dict.fromkeys(digest for name in names if (digest := runs.get_run(name).examples))
    return _enqueue("lora", options.model_copy(update={"examples": tuple(digests)}), found, seen, name)


def _enqueue(
    stem: str,
    options: Training,
    found: Sequence[TrainingSource],
    seen: Survey,
    name: str | None,
) -> EnqueuedTraining:
    told = options.model_dump(mode="json")
    chosen = name or publish.default_name(stem, "train", seen.digest, told)
    run = Run(chosen, "train", ", ".join(source.told for source in found), seen.digest, None, told)

    def write() -> None:
        with console.bar("recording", seen.lessons, "lessons") as advance:
            lessons = inputs.counted(_same(seen, found), advance)
            files = [source.path for source in found if source.path is not None]
            runs.open_single(run, options.target, lessons, files)

    continued = publish.begin(run, write)
    sent = publish.publish(chosen)
    return EnqueuedTraining(chosen, seen.questions, seen.right, seen.wrong, seen.tested, sent, continued)


def survey(found: Sequence[TrainingSource]) -> Survey:
    """Count and digest what there is to train on.

    Raises:
        UserError: a file has a bad line.
    """
    inputs.check([source.path for source in found if source.path is not None])
    digest = hashlib.sha256()
    lessons = labelled = right = wrong = tested = 0
    with console.bar("reading", None, "lessons") as advance:
        for lesson in inputs.counted(gather(found), advance):
            digest.update(lesson.model_dump_json().encode() + b"\n")
            lessons += 1
            if lesson.test:
                tested += len(lesson.texts)
                continue
            labelled += bool(lesson.answer)
            rights = sum(lesson.is_right(text) for text in lesson.texts)
            right += rights
            wrong += len(lesson.texts) - rights
    return Survey(digest.hexdigest(), lessons, labelled, right, wrong, tested)


def _same(seen: Survey, found: Sequence[TrainingSource]) -> Iterator[str]:
    digest = hashlib.sha256()
    for lesson in gather(found):
        text = lesson.model_dump_json()
        digest.update(text.encode() + b"\n")
        yield text
    if digest.hexdigest() != seen.digest:
        raise UserError("the data changed while it was being read: nothing was enqueued, try again")


# Lessons


def gather(found: Sequence[TrainingSource]) -> Iterator[TrainingExample]:
    """Give all lessons of some sources."""
    for source in found:
        entries = _entries(source)
        yield from _of_votes(source) if entries is None else _of_entries(entries, source)


def _entries(source: TrainingSource) -> Iterator[Entry] | None:
    """Give the entries of a file or of a run that has made some; ``None`` of one that has votes."""
    if source.path is not None:
        return (line.entry for line in dataset.scan(source.path) if isinstance(line, Line))
    run = runs.get_run(source.name)
    if run.kind in DATA_QUEUES:
        return (Entry.model_validate(entry) for entry in generated_entries.entries(run))
    return None


def _of_votes(source: TrainingSource) -> Iterator[TrainingExample]:
    reader = answers.READERS[Sampling.of_record(runs.get_run(source.name).options).reader]
    for result in votes.of_run(source.name, texts=True):
        if result.gold is None or not result.votes:
            continue
        texts = tuple(
            Text(text=reader.cut(vote.text), letter=vote.letter, attempt=vote.attempt, place=vote.place)
            for vote in result.votes
        )
        yield _lesson(result.entry, result.question, source, texts, kind="votes")


def _of_entries(entries: Iterator[Entry], source: TrainingSource) -> Iterator[TrainingExample]:
    for entry in entries:
        for index, question in enumerate(entry.questions):
            texts = [Text(text=wrong.reasoning, letter=wrong.answer) for wrong in question.wrong]
            if question.answer and question.reasoning and question.reasoning.strip():
                texts.insert(0, Text(text=question.reasoning, letter=question.answer))
            # A question whose answer is known teaches something without any text, too.
            if texts or question.answer:
                yield _lesson(entry, index, source, tuple(texts), kind="texts")


def _lesson(
    entry: Entry, index: int, source: TrainingSource, texts: tuple[Text, ...], **more: str
) -> TrainingExample:
    question = entry.questions[index]
    return TrainingExample(
        problem=entry.problem,
        question=question.question,
        options=tuple(question.options),
        answer=question.answer or "",
        group=entry.group,
        source=source.name,
        augmented=entry.augmented,
        test=source.test,
        weight=source.weight,
        texts=texts,
        **more,  # type: ignore[arg-type]
    )
