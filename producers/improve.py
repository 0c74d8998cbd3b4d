"""The closed loop: votes on labelled questions train a scorer and an adapter, which the next round uses.

    begin(Path("labelled.jsonl"), ...)  ->  Loop("labelled-9f3c01ab", Path("var/improve/labelled-9f..."), ...)

Each step is a run that its command could have enqueued. The ledger has the steps that have ended, so the same
calls continue an interrupted loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers import console, models, run_progress, watch
from producers.enqueue import infer_order, inputs, publish, train
from producers.enqueue.inputs import DataSource
from producers.reports import confidence_intervals, improvement
from shared import dataset, file_permissions, settings, vote_weights
from shared.errors import UserError
from shared.ledger import models as registry
from shared.ledger import progress, runs
from shared.options import Reading
from shared.recipes import LoraTraining, ScorerTraining

TRAIN, VALIDATION, TEST = "train", "validation", "test"
OF_FOLD = (TEST, VALIDATION, TRAIN, TRAIN, TRAIN)  # by `vote_weights.fold`
LEAST = 10  # entries in a part
_ONCE = {"scorer": registry.NONE, "max_attempts": 1, "same_problem": False}
_IN_USE = {"scorer": registry.IN_USE, "use": "auto", "lora": registry.IN_USE}


@dataclass(frozen=True)
class Loop:
    """A loop over the parts of labelled data in a folder; without ``lora``, it trains no adapters."""

    name: str
    folder: Path
    examples: Path | None
    scorer: ScorerTraining
    lora: LoraTraining | None

    def run_round(self, number: int) -> Path:
        """Run what is left of a round, and write the page; a `UserError` if a training failed."""
        votes = [f"{self.name}-{at}-votes" for at in range(1, number + 1)]
        seed = settings.load().seed
        # With one seed, every round would sample the same votes.
        seeds = {} if seed is None else {"seed": seed + number}
        self._answer(votes[-1], TRAIN, lora=registry.IN_USE, **_ONCE, **seeds)
        # A scorer learns from votes like those that it will judge.
        adapter = improvement.adapter_of(votes[-1])
        tests = []
        if registry.in_use("scorer") and runs.find_run(f"{self.name}-{number}-scorer") is None:
            # The scorer in use was trained on the training part: the two are compared on other questions.
            tests = [f"{self.name}-validation-{adapter}"]
            self._answer(tests[0], VALIDATION, lora=adapter, **_ONCE)
        self._train("scorer", number, [run for run in votes if improvement.adapter_of(run) == adapter], tests)
        if self.lora is not None:
            self._train("lora", number, votes)
            self._try_adapter(number)
        self._answer(f"{self.name}-{number}-test", TEST, **_IN_USE)
        with dataset.writing(self.folder / "report.md") as file:
            file.write(improvement.page(self.name, number))
        return self.folder / "report.md"

    def _answer(self, run: str, part: str, **options: Any) -> None:
        data = self.folder / f"{part}.jsonl"
        infer_order.place(infer_order.check(data, run=run, examples=self.examples, **options))
        if dead := _dead_items(run):
            console.note(f"{console.count(len(dead), 'question')} dead, see `votequeue failed {run}`")

    def _train(self, kind: str, number: int, votes: list[str], tests: Sequence[str] = ()) -> None:
        run = f"{self.name}-{number}-{kind}"
        if runs.find_run(run) is None:
            sources = train.sources([], votes, tests, [])
            if kind == "lora" and self.lora is not None:
                train.lora(self.lora, sources, run)
            else:
                train.scorer(self.scorer, sources, run)
        for dead in _dead_items(run):
            raise UserError(f"{dead.reason}: `votequeue failed {run} --retry`, then repeat this command")

    def _try_adapter(self, number: int) -> None:
        """Use a round's adapter if it is better; a round with a test has decided already."""
        tried = improvement.validations(self.name, number)
        for adapter, run in tried.items():
            self._answer(run, VALIDATION, lora=adapter, **_ONCE)
        in_use, (*_, adapter) = registry.in_use("lora"), tried
        decided = runs.find_run(f"{self.name}-{number}-test") or (in_use and in_use.name == adapter)
        if not decided and improvement.is_better(improvement.trial(self.name, number)):
            models.use(adapter, f"better than {next(iter(tried))} on the validation part of {self.name}")


def _dead_items(run: str) -> list[progress.Dead]:
    """Wait for the end of a run that a worker serves; list its dead items."""
    state = run_progress.progress_of(run)
    if state.unserved:
        raise UserError(f"run {run}: {run_progress.describe_stall(state)}, then repeat this command")
    watch.follow(run)
    return progress.dead(run)


def begin(
    data: Path,
    name: str | None,
    scorer: ScorerTraining,
    lora: LoraTraining | None,
    skip_bad: bool = False,
    reading: Reading = inputs.AS_IT_IS,
) -> Loop:
    """Split labelled data into the parts of a loop, or check that they are those of the loop so far.

    Raises:
        UserError: the data are invalid, unlabelled, too few, or other ones; or a model in use knows them.
    """
    confidence_intervals.scipy_stats()
    (source,) = inputs.check([data], skip_bad, reading)
    name = name or publish.default_name(source.stem, "improve", source.digest, lora is not None)
    publish.require_name(name)
    folder = settings.load().home / "improve" / name
    file_permissions.make_folder(folder)
    split(source, folder)
    # Without reasonings, there are no few-shot examples.
    return Loop(name, folder, folder / f"{TRAIN}.jsonl" if source.solved else None, scorer, lora)


def split(source: DataSource, folder: Path) -> None:
    """Write the labelled entries of each part to a file; raises as `begin`.

    Copies of a problem, and entries made from it, are in the same part; the latter are only trained on.
    """
    parts: dict[str, list[str]] = {part: [] for part in (TRAIN, VALIDATION, TEST)}
    unseen = set()
    for entry, text in ((line.entry, line.text) for line in source.lines()):
        part = OF_FOLD[vote_weights.fold(entry.group, labelled=True)]
        labelled = all(question.answer for question in entry.questions)
        if labelled and (part == TRAIN or not entry.augmented):
            parts[part].append(text + "\n")
            problems = {runs.asked(entry, at).problem_identity for at in range(len(entry.questions))}
            unseen |= problems if part != TRAIN else set()
    for part, texts in parts.items():
        if len(texts) < LEAST:
            raise UserError(
                f"{source.name}: too few entries with answers to all questions: {len(texts)} "
                f"would be in the {part} part, which needs {LEAST}"
            )
    for model in (registry.in_use("scorer"), registry.in_use("lora")):
        if model and unseen & registry.problems(model.name):
            message = f"{model.name} is in use and was trained on problems that the loop tests on"
            raise UserError(f"{message}: run `votequeue models use no-{model.kind}` first")
    for part, texts in parts.items():
        path, content = folder / f"{part}.jsonl", "".join(texts)
        if not path.exists():
            with dataset.writing(path) as file:
                file.write(content)
        elif path.read_bytes() != content.encode("utf-8", "backslashreplace"):
            raise UserError(f"{path}: the loop began with other data or options: choose another --run")
