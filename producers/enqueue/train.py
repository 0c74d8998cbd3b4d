"""Enqueue a training: examples from data files, from votes of labelled runs and from generated texts.

    gather([TrainingSource("mine", weight=1.0), TrainingSource("more.jsonl", weight=0.3)])
        ->  TrainingExample(...), TrainingExample(...), ...

A labelled `infer` run yields its votes, which are right or wrong by their letters. A `reason` or `translate`
run and a data file yield their reasonings.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers import console, generated_entries, retention, run_progress
from producers.enqueue import inputs, prompt_choice, publish, row_reader
from shared import prompt_files
from shared.dataset import Entry, Line
from shared.errors import UserError
from shared.jobs import DATA_QUEUES, Infer
from shared.ledger import prompt_store, runs, votes
from shared.ledger.runs import Run
from shared.options import Reading, Sampling
from shared.recipes import INPUTS, LoraTraining, ScorerTraining, Training
from shared.training_examples import Text, TrainingExample
from shared.voices import PROGRAM, REASONING


@dataclass(frozen=True)
class TrainingSource:
    """A run or a file of training examples, the weight of its texts, and whether it is for testing only.

    ``voices`` are those of the texts to learn from. ``all_votes``: the votes of the other voices are taken,
    too, to learn what they count.
    """

    name: str
    path: Path | None = None
    weight: float = 1.0
    test: bool = False
    voices: tuple[str, ...] = (REASONING,)
    all_votes: bool = False

    @property
    def label(self) -> str:
        """Describe the source: ``votes of mine``, ``texts of wrong x 0.5``."""
        text = self.name
        if self.path is None:
            text = f"{'texts' if runs.get_run(self.name).kind in DATA_QUEUES else 'votes'} of {self.name}"
        return text + (f" x {self.weight:g}" if self.weight != 1 else "") + (" (test)" if self.test else "")


@dataclass(frozen=True)
class Survey:
    """Counts and digest of a training's examples."""

    digest: str
    examples: int
    questions: int
    right: int
    wrong: int
    tested: int
    voices: frozenset[str] = frozenset()


@dataclass(frozen=True)
class EnqueuedTraining:
    """The result of an `enqueue train`; ``tested`` counts the texts that are used only for testing."""

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
    """Look up the sources; ``weights`` are ``NAME=0.5``, with the name of a run or a file.

    Raises:
        UserError: there is no such run, it has no examples, or a weight names no source.
    """
    weight_of = dict(map(_weight, weights))
    selected = [TrainingSource(str(path), path, weight_of.pop(str(path), 1.0)) for path in files]
    selected += [TrainingSource(name, None, weight_of.pop(name, 1.0)) for name in names]
    selected += [TrainingSource(name, None, test=True) for name in tests]
    if weight_of:
        listed = ", ".join(source.name for source in selected)
        raise UserError(f"--weight {next(iter(weight_of))}: it is not a training source ({listed})")
    twice = {name for name in tests if name in names}
    if twice:
        raise UserError(f"--test {twice.pop()}: a run cannot be used for both training and testing")
    for source in selected:
        if source.path is None:
            _require_texts(source)
    return selected


def _weight(argument: str) -> tuple[str, float]:
    name, _, number = argument.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not name or not 0 < weight <= 100:
        raise UserError(f"--weight {argument}: expected NAME=NUMBER, with a number above 0 and up to 100")
    return name, weight


def _require_texts(source: TrainingSource) -> None:
    run = runs.get_run(source.name)
    option = "--test" if source.test else "--from"
    inputs.note_open_items(source.name)
    if run.kind in DATA_QUEUES and not source.test:
        if next(generated_entries.entries(run), None) is None:
            raise UserError(
                f"{option} {source.name}: it has no results yet, see `votequeue status {source.name}`"
            )
        return
    run_progress.require_questions(source.name)
    retention.require_texts(source.name, option)
    if not any(result.gold is not None and result.votes for result in votes.of_run(source.name)):
        raise UserError(f"{option} {source.name}: it has no vote on a labelled question")


# Enqueuing


def scorer(
    options: ScorerTraining, sources: Sequence[TrainingSource], name: str | None = None
) -> EnqueuedTraining:
    """Enqueue the training of a scorer.

    Raises:
        UserError: a file is invalid, right or wrong texts are missing, or a run's votes do not suit: it
            stopped rounds early, or showed options in other orders; nothing was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    for source in sources:
        if source.path is None:
            option = "--test" if source.test else "--from"
            run_progress.require_whole_rounds(source.name, f"{option} {source.name}")
            if not INPUTS[options.input].answers:
                run_progress.require_own_order(source.name, f"--input {options.input}")
    sources = [dataclasses.replace(source, all_votes=True) for source in sources]
    survey = survey_sources(sources)
    if INPUTS[options.input].answers:
        _require_labels(survey)
    else:
        _require_both(survey)
    return _enqueue("scorer", options, sources, survey, name)


def _require_labels(survey: Survey) -> None:
    if not survey.questions:
        raise UserError("there is no labelled question to train on")


def _require_both(survey: Survey) -> None:
    missing = [word for word, count in [("right", survey.right), ("wrong", survey.wrong)] if not count]
    if missing:
        raise UserError(
            f"there is no {' and no '.join(missing)} text to train on: `--from RUN` takes the votes of a "
            "labelled run, or what a reason run has made; `votequeue sample --wrong` makes both"
        )


def lora(
    options: LoraTraining, sources: Sequence[TrainingSource], name: str | None = None
) -> EnqueuedTraining:
    """Enqueue the training of a LoRA adapter for the generator, from right texts.

    Raises:
        UserError: a file is invalid, there is no right text, or a run showed options in other orders; nothing
            was enqueued.
        ServiceUnreachable: the broker does not answer.
    """
    for source in sources:
        if source.path is None:
            run_progress.require_own_order(source.name, "an adapter's training")
    sources = [dataclasses.replace(source, voices=(REASONING, PROGRAM)) for source in sources]
    survey = survey_sources(sources)
    if not survey.right:
        raise UserError(
            "there is no right text to train on: `--from RUN` takes right votes, or what a reason run has "
            "made, `--data FILE` the reasonings and programs in a file"
        )
    # Training prompts show the same few-shot examples as the run that sampled the votes.
    names = [source.name for source in sources if source.path is None]
    digests = dict.fromkeys(digest for name in names if (digest := runs.get_run(name).examples))
    language = _language(sources)
    others = prompt_choice.by_language(sorted(survey.voices - {REASONING}), language)
    chosen = {
        "examples": tuple(digests),
        "prompt": _prompt(names, language),
        "voice_prompts": {voice: prompt.digest for voice, prompt in others.items()},
    }
    return _enqueue("lora", options.model_copy(update=chosen), sources, survey, name)


def _prompt(names: Sequence[str], language: str) -> str:
    """Give the prompt of reasonings: that of the runs that sampled the votes, else the data's language's."""
    sampled = [run for name in names if (run := runs.get_run(name)).kind == Infer.queue]
    digests = [prompt_files.digest_of(run.options.get("prompt")) for run in sampled]
    if len(set(digests)) > 1:
        console.note(f"the runs have different prompts: the training uses that of {sampled[0].name}")
    return digests[0] if digests else prompt_files.built_in(language).digest


def _language(sources: Sequence[TrainingSource]) -> str:
    examples = itertools.islice(gather(sources), prompt_choice.SURVEYED)
    return prompt_choice.language_of(example.asked.text for example in examples)


def _enqueue(
    stem: str,
    options: Training,
    sources: Sequence[TrainingSource],
    survey: Survey,
    name: str | None,
) -> EnqueuedTraining:
    record = options.model_dump(mode="json")
    # The prompts follow from the texts.
    identity = {name: value for name, value in record.items() if name not in ("prompt", "voice_prompts")}
    chosen = name or publish.default_name(stem, "train", survey.digest, identity)
    run = Run(chosen, "train", ", ".join(source.label for source in sources), survey.digest, None, record)

    def write() -> None:
        if isinstance(options, LoraTraining):
            for digest in (options.prompt, *options.voice_prompts.values()):
                prompt_store.put(prompt_store.of_votes(digest))
        with console.bar("recording", survey.examples, "training examples") as advance:
            examples = inputs.counted(_unchanged(survey, sources), advance)
            files = [source.path for source in sources if source.path is not None]
            runs.open_single(run, options.target, examples, files)

    continued = publish.begin(run, write)
    sent = publish.publish(chosen)
    return EnqueuedTraining(
        chosen, survey.questions, survey.right, survey.wrong, survey.tested, sent, continued
    )


def survey_sources(sources: Sequence[TrainingSource]) -> Survey:
    """Count and hash the training examples.

    Raises:
        UserError: a file has a bad line.
    """
    inputs.check([source.path for source in sources if source.path is not None])
    digest = hashlib.sha256()
    voices: set[str] = set()
    learned_voices = {voice for source in sources for voice in source.voices}
    examples = labelled = right = wrong = tested = 0
    with console.bar("reading", None, "training examples") as advance:
        for example in inputs.counted(gather(sources), advance):
            digest.update(example.model_dump_json().encode() + b"\n")
            examples += 1
            voices.update(text.voice for text in example.texts)
            if example.test:
                tested += len(example.texts)
                continue
            labelled += bool(example.answer)
            learned = [text for text in example.texts if text.voice in learned_voices]
            rights = sum(map(example.is_right, learned))
            right += rights
            wrong += len(learned) - rights
    return Survey(digest.hexdigest(), examples, labelled, right, wrong, tested, frozenset(voices))


def _unchanged(survey: Survey, sources: Sequence[TrainingSource]) -> Iterator[str]:
    digest = hashlib.sha256()
    for example in gather(sources):
        text = example.model_dump_json()
        digest.update(text.encode() + b"\n")
        yield text
    if digest.hexdigest() != survey.digest:
        raise UserError("the data changed while it was being read: nothing was enqueued, try again")


# Training examples


def gather(sources: Sequence[TrainingSource]) -> Iterator[TrainingExample]:
    """Yield the training examples of all sources."""
    for source in sources:
        entries = _entries(source)
        yield from _of_votes(source) if entries is None else _of_entries(entries, source)


def _entries(source: TrainingSource) -> Iterator[Entry] | None:
    """Return the entries of a file or of a generating run; ``None`` for an infer run."""
    if source.path is not None:
        return (line.entry for line in row_reader.scan(source.path, Reading()) if isinstance(line, Line))
    run = runs.get_run(source.name)
    if run.kind in DATA_QUEUES:
        return (Entry.model_validate(entry) for entry in generated_entries.entries(run))
    return None


def _of_votes(source: TrainingSource) -> Iterator[TrainingExample]:
    sampling = Sampling.of_record(runs.get_run(source.name).options)
    for result in votes.of_run(source.name, texts=True):
        if result.gold is None or not result.votes:
            continue
        texts = tuple(
            Text(
                text=prompt_store.answer_text(vote.text, sampling),
                letter=vote.letter,
                attempt=vote.attempt,
                place=vote.place,
                thinking=vote.thinking,
                voice=vote.voice,
                outcome=vote.outcome,
            )
            for vote in result.votes
            if source.all_votes or vote.voice == REASONING
        )
        yield _example(result.entry, result.question, source, texts, kind="votes")


def _of_entries(entries: Iterator[Entry], source: TrainingSource) -> Iterator[TrainingExample]:
    voices = source.voices
    if source.path is None:
        # What else stands in the export is not the run's own.
        own = runs.get_run(source.name).options.get("voice", REASONING)
        voices = tuple(voice for voice in voices if voice == own)
    for entry in entries:
        for index, question in enumerate(entry.questions):
            texts = [
                Text(text=text, letter=question.answer, voice=voice)
                for voice in voices
                if question.answer and (text := getattr(question, voice)) and text.strip()
            ]
            if REASONING in voices:
                texts += [Text(text=wrong.reasoning, letter=wrong.answer) for wrong in question.wrong]
            # A labelled question is a training example even without a text.
            if texts or question.answer:
                yield _example(entry, index, source, tuple(texts), kind="texts")


def _example(
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
        **more,
    )
