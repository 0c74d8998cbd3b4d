"""Train a scorer and measure it on held-out questions.

    train(lessons, options, weights, workshop)  ->  TrainedModel(name="scorer-3f9c01ab12cd", ...)

Two ways: the layers are trained (`tune` all, lora), and some entries are kept out to see what was learned; or
they stay as they are (`tune` head), and every entry is kept out of one of several heads.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared import dataset, model_store, voting
from shared.errors import Refused
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS, ScorerTraining
from shared.training_examples import TrainingExample
from workers.models import backbone, calibration, features
from workers.models.calibration import Answers, Calibration, Case
from workers.models.features import FeatureExtractor, parts, texts_of
from workers.ports import TrainingContext
from workers.training import hidden_states, pairs, splits, trainer_setup
from workers.training.head_trainer import Table
from workers.training.ipc import TrainedModel
from workers.training.objectives import OBJECTIVES
from workers.training.pairs import Item

log = logging.getLogger(__name__)
LOOKED_AT = 64  # held-out questions that are looked at on the way


@dataclass(frozen=True)
class _Learned:
    """What came of a training: the model, margins of held-out and of test lessons, facts of the way."""

    model: Any
    tokenizer: Any
    kept: list[Case]
    tests: list[Case]
    facts: dict[str, Any]
    lessons: Sequence[TrainingExample]


def train(
    lessons: Sequence[TrainingExample], options: ScorerTraining, weights: str, workshop: TrainingContext
) -> TrainedModel:
    """Train one scorer.

    Raises:
        Refused: the data or the options do not allow it.
        Interrupted: the workshop said so.
    """
    trainer_setup.require_reports(options.report_to)
    if INPUTS[options.input].answers:
        lessons = [lesson for lesson in lessons if lesson.answer]
    learned = (_train_head if options.tune == "head" else _train_layers)(lessons, options, weights, workshop)
    scale = calibration.calibrate(learned.kept, options.input) if options.calibrate else Calibration()
    metrics, rule, beats = _judged(learned, scale, options)
    folder = workshop.made()
    _save(learned, scale, options, folder)
    return TrainedModel(
        name=model_store.name_of("scorer", folder),
        folder=folder,
        metrics={**metrics, **learned.facts},
        rule=rule,
        beats_majority=beats,
        problems=sorted({dataset.identity(lesson.problem) for lesson in learned.lessons}),
    )


# With all layers, or adapters on them


def _train_layers(
    lessons: Sequence[TrainingExample], options: ScorerTraining, weights: str, workshop: TrainingContext
) -> _Learned:
    parts = splits.split(lessons, options.held_out, options.seed)
    objective = OBJECTIVES[options.objective]
    items = [pairs.gather(part, options) for part in (parts.learned, parts.kept)]
    for name, found in zip(("training", "held-out"), items, strict=True):
        _require_both(found, name)
    tokenizer, model = backbone.load(weights, options, objective.labels)
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    rows = objective.rows(items[0], lambda item, text: reader.tokens(item.lesson.asked, text), options)
    _require_rows(rows)
    adapter = backbone.adapter() if options.tune == "lora" else None
    arguments = trainer_setup.arguments(options, workshop)
    trainer = objective.trainer(model, tokenizer, rows, arguments, adapter=adapter)
    looked_at = parts.kept[:LOOKED_AT]

    def measured() -> dict[str, float]:
        return _measured(_read(trainer.model, tokenizer, looked_at, options), options)

    result = trainer_setup.run(trainer, workshop, measured)
    facts = {**trainer_setup.account(result, rows), "dropped": parts.dropped}
    kept, tests = (_read(trainer.model, tokenizer, part, options) for part in (parts.kept, parts.tests))
    return _Learned(trainer.model, tokenizer, kept, tests, facts, parts.learned)


def _read(
    model: Any, tokenizer: Any, lessons: Sequence[TrainingExample], options: ScorerTraining
) -> list[Case]:
    was_training = model.training
    model.eval()
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    cases = []
    for lesson in lessons:
        texts = _texts_of(lesson, options.input)
        if texts:
            cases.append(Case(lesson, features.margin(reader.logits(lesson.asked, texts)).numpy()))
    model.train(was_training)
    return cases


def _texts_of(lesson: TrainingExample, kind: str) -> list[str]:
    return texts_of(lesson.asked, [text.text for text in lesson.texts], kind)


# With a head on frozen layers


def _train_head(
    lessons: Sequence[TrainingExample], options: ScorerTraining, weights: str, workshop: TrainingContext
) -> _Learned:
    count = max(2, round(1 / options.held_out))
    folds = zip(lessons, splits.folds(lessons, count, options.seed), strict=True)
    kept = [(lesson, fold) for lesson, fold in folds if fold != splits.DROPPED]
    used = [lesson for lesson, _ in kept]
    learned = [lesson for lesson in used if not lesson.test]
    fold_of = {lesson.asked: fold for lesson, fold in kept}
    items = pairs.gather(learned, options)
    _require_both(items, "training")
    if len({fold_of[lesson.asked] for lesson in learned}) < 2:
        raise Refused(
            f"all questions fall into one part of {count}, and none can be held out: give more data"
        )
    objective = OBJECTIVES[options.objective]
    tokenizer, model = backbone.load(weights, options, parts(options.input))
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    questions = _questions(used, options.input)
    # What stands for a text's ids here is its place in the table of all states.
    everything = [(asked, text) for asked, texts in questions.items() for text in texts]
    places = {told: place for place, told in enumerate(everything)}
    rows = objective.rows(items, lambda item, text: [places[item.lesson.asked, text]], options)
    _require_rows(rows)
    of = len(questions) + trainer_setup.steps(options, len(rows))
    found = hidden_states.read(
        questions, reader, hidden_states.place(weights, options, workshop), workshop, of
    )
    table = _table(found, [fold_of[asked] for asked, _ in everything], options.input)
    heads = table.model(count)
    arguments = trainer_setup.arguments(options, workshop)
    trainer = objective.trainer(heads, tokenizer, rows, arguments, collator=table.collate)

    def cases(test: bool) -> list[Case]:
        margins = table.blind_margins(heads).numpy()
        return [
            Case(lesson, margins[[places[lesson.asked, text] for text in texts]])
            for lesson in used
            if lesson.test == test and (texts := _texts_of(lesson, options.input))
        ]

    def measured() -> dict[str, float]:
        return _measured(cases(test=False), options)

    result = trainer_setup.run(trainer, workshop, measured, offset=len(questions))
    import torch

    with torch.no_grad():
        model.score.weight.copy_(table.head(heads).view_as(model.score.weight))
    facts = {**trainer_setup.account(result, rows), "folds": count, "dropped": len(lessons) - len(used)}
    return _Learned(model, tokenizer, cases(test=False), cases(test=True), facts, learned)


def _questions(lessons: Sequence[TrainingExample], kind: str) -> dict[PromptQuestion, list[str]]:
    """Give each question once, with all texts that are read of it."""
    found: dict[PromptQuestion, dict[str, None]] = {}
    for lesson in lessons:
        found.setdefault(lesson.asked, {}).update(dict.fromkeys(_texts_of(lesson, kind)))
    return {asked: list(texts) for asked, texts in found.items() if texts}


def _table(found: Mapping[PromptQuestion, Any], folds: Sequence[int], kind: str) -> Table:
    """Put the states of all questions into one table, in their order."""
    import torch

    if INPUTS[kind].answers:
        # Only the differences between a question's answers tell which of them is right.
        return Table(torch.cat([states - states.mean(0) for states in found.values()]), folds)
    return Table(torch.cat(list(found.values())), folds)


# What there must be


def _require_both(items: Sequence[Item], name: str) -> None:
    rights, wrongs = sum(len(item.rights) for item in items), sum(len(item.wrongs) for item in items)
    if not rights or not wrongs:
        raise Refused(
            f"the {name} part has {rights} right and {wrongs} wrong texts, both are needed: give more data, "
            "or another share to hold out"
        )


def _require_rows(rows: Sequence[object]) -> None:
    if not rows:
        raise Refused(
            "no question has both right and wrong texts to set against each other: give more votes a "
            "question, or train with --no-balance --objective classification"
        )


# What it is good for


def _measured(cases: Sequence[Case], options: ScorerTraining) -> dict[str, float]:
    """Give the held-out figures of a step: AUC and loss, as far as there is something to measure."""
    if not cases:
        return {}
    scores = [Calibration().scores(case, options.input) for case in cases]
    told = {"eval_loss": calibration.loss(cases, Calibration(), options.input)}
    if (auc := calibration.tells_apart(cases, scores, readable=True)) is not None:
        told["eval_auc"] = auc
    return told


def _judged(
    learned: _Learned, scale: Calibration, options: ScorerTraining
) -> tuple[dict[str, Any], voting.Rule, bool | None]:
    """Measure held-out and test votes; give figures, the rule to use, and whether it beats the majority."""
    if not all(np.isfinite(case.margins).all() for case in (*learned.kept, *learned.tests)):
        raise Refused("training diverged, its scores are no numbers: lower --learning-rate")
    metrics, answers = _figures(learned.kept, scale, options, None)
    rule = answers.rule if answers and options.calibrate else _unproven(options)
    beats = answers.beats_majority if answers else None
    if learned.tests:
        chosen = (answers.thresholds, rule) if answers else None
        metrics["test"], tried = _figures(learned.tests, scale, options, chosen)
        beats = tried.beats_majority if tried else beats
    return metrics | {"temperature": scale.temperature, "bias": scale.bias}, rule, beats


def _unproven(options: ScorerTraining) -> voting.Rule:
    """Give the rule of a scorer whose scores no votes have tried: the recipe's, or what voids nothing."""
    return voting.Rule(voting.VotingMode.WEIGHTED, 0.0) if options.calibrate else voting.GATE


def _figures(
    cases: Sequence[Case],
    scale: Calibration,
    options: ScorerTraining,
    given: tuple[dict[str, float], voting.Rule] | None,
) -> tuple[dict[str, Any], Answers | None]:
    scores = [scale.scores(case, options.input) for case in cases]
    bins = calibration.reliability(cases, scores)
    figures: dict[str, Any] = {
        "loss": calibration.loss(cases, scale, options.input) if cases else None,
        "auc": calibration.tells_apart(cases, scores, readable=True),
        "auc_with_unreadable": calibration.tells_apart(cases, scores, readable=False),
        "calibration_error": calibration.expected_error(bins),
        "calibration": bins,
        "held_out": sum(len(found) for found in scores),
    }
    voted = [at for at, case in enumerate(cases) if case.lesson.kind == "votes" and case.lesson.answer]
    if not voted:
        return figures, None
    answers = calibration.answered([cases[at] for at in voted], [scores[at] for at in voted], given)
    figures["answers"] = {
        "questions": answers.questions,
        **answers.by_use,
        "best": answers.by_use[answers.rule.use],
    }
    figures["thresholds"] = answers.thresholds
    return figures, answers


def _save(learned: _Learned, scale: Calibration, options: ScorerTraining, folder: Path) -> None:
    import torch

    backbone.plain(learned.model).to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    learned.tokenizer.save_pretrained(folder)
    facts = {
        "kind": "scorer",
        "options": options.model_dump(mode="json"),
        "temperature": scale.temperature,
        "bias": scale.bias,
    }
    model_store.describe(folder, facts)
