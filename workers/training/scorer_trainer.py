"""Train a scorer and measure it on held-out questions.

    train(examples, options, weights, context)  ->  TrainedModel(name="scorer-3f9c01ab12cd", ...)

With `tune` all or lora, the layers are trained, and some entries are held out for evaluation. With `tune`
head, the layers are frozen, and every entry is held out from one of several heads.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared import model_store, vote_weights, voting
from shared.errors import Refused
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS, ScorerTraining
from shared.training_examples import TrainingExample
from workers.models import backbone, calibration, features
from workers.models.calibration import Answers, Calibration, Case, Chosen, Kinds
from workers.models.features import FeatureExtractor, parts, texts_of
from workers.ports import TrainingContext
from workers.training import hidden_states, pairs, promotion, splits, trainer_setup
from workers.training.head_trainer import Table
from workers.training.ipc import TrainedModel
from workers.training.objectives import OBJECTIVES
from workers.training.pairs import Item
from workers.training.promotion import ScorerInUse

log = logging.getLogger(__name__)
_DESCRIBED = ("temperature", "bias", "kind_weights", "agreement")  # metrics that scoring and voting need
EVALUATED = 64  # held-out questions that are evaluated during the training


@dataclass(frozen=True)
class _Trained:
    """A trained model, margins of held-out and of test examples, and facts about the training."""

    model: Any
    tokenizer: Any
    held_out: list[Case]
    tests: list[Case]
    facts: dict[str, Any]
    examples: Sequence[TrainingExample]


def train(
    examples: Sequence[TrainingExample],
    options: ScorerTraining,
    weights: str,
    context: TrainingContext,
    in_use: Callable[[], ScorerInUse | None] = lambda: None,
) -> TrainedModel:
    """Train one scorer, and compare it with the plain majority and the scorer ``in_use`` by then.

    Raises:
        Refused: the data or the options do not allow it.
        Interrupted: the listener asked to stop.
    """
    trainer_setup.require_reports(options.report_to)
    if INPUTS[options.input].answers:
        examples = [example for example in examples if example.answer]
    prepared = [example.with_thinking() for example in examples] if options.thinking else examples
    trained = (_train_head if options.tune == "head" else _train_layers)(prepared, options, weights, context)
    scale = calibration.calibrate(trained.held_out, options.input) if options.calibrate else Calibration()
    metrics, rule, answers = _judged(trained, scale, options)
    kinds = answers.kinds if answers else None
    cases, right = _proven(trained, scale, options, rule, kinds)
    originals = dict(zip(prepared, examples, strict=True))
    comparison = promotion.compare(cases, right, in_use(), originals.__getitem__) if cases else None
    if comparison:
        metrics["promotion"] = comparison.model_dump()
    folder = context.output_folder()
    _save(trained, metrics, options, folder)
    return TrainedModel(
        name=model_store.name_of("scorer", folder),
        folder=folder,
        metrics={**metrics, **trained.facts},
        rule=rule,
        comparison=comparison,
        problems=sorted({example.asked.problem_identity for example in trained.examples}),
    )


# Training of all layers, or of adapters


def _train_layers(
    examples: Sequence[TrainingExample], options: ScorerTraining, weights: str, context: TrainingContext
) -> _Trained:
    parts = splits.split(examples, options.held_out, options.seed)
    objective = OBJECTIVES[options.objective]
    items = [pairs.gather(part, options) for part in (parts.learned, parts.held_out)]
    for name, part in zip(("training", "held-out"), items, strict=True):
        _require_both(part, name)
    tokenizer, model = backbone.load(weights, options, objective.labels)
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    rows = objective.rows(items[0], lambda item, text: reader.tokens(item.example.asked, text), options)
    _require_rows(rows)
    adapter = backbone.adapter() if options.tune == "lora" else None
    arguments = trainer_setup.arguments(options, context)
    trainer = objective.trainer(model, tokenizer, rows, arguments, adapter=adapter)
    evaluated = parts.held_out[:EVALUATED]

    def evaluate() -> dict[str, float]:
        return _evaluate(_read(trainer.model, tokenizer, evaluated, options), options)

    result = trainer_setup.run(trainer, context, evaluate)
    facts = {**trainer_setup.account(result, rows), "dropped": parts.dropped}
    held_out, tests = (
        _read(trainer.model, tokenizer, part, options) for part in (parts.held_out, parts.tests)
    )
    return _Trained(trainer.model, tokenizer, held_out, tests, facts, parts.learned)


def _read(
    model: Any, tokenizer: Any, examples: Sequence[TrainingExample], options: ScorerTraining
) -> list[Case]:
    was_training = model.training
    model.eval()
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    cases = []
    for example in examples:
        texts = _texts_of(example, options.input)
        if texts:
            cases.append(Case(example, features.margin(reader.logits(example.asked, texts)).numpy()))
    model.train(was_training)
    return cases


def _texts_of(example: TrainingExample, kind: str) -> list[str]:
    return texts_of(example.asked, [text.text for text in example.texts], kind)


# Training of a head on frozen layers


def _train_head(
    examples: Sequence[TrainingExample], options: ScorerTraining, weights: str, context: TrainingContext
) -> _Trained:
    count = max(2, round(1 / options.held_out))
    folds = zip(examples, splits.folds(examples, count, options.seed), strict=True)
    example_folds = [(example, fold) for example, fold in folds if fold != splits.DROPPED]
    used = [example for example, _ in example_folds]
    learned = [example for example in used if not example.test]
    fold_of = {example.asked: fold for example, fold in example_folds}
    items = pairs.gather(learned, options)
    _require_both(items, "training")
    if len({fold_of[example.asked] for example in learned}) < 2:
        raise Refused(
            f"all questions fall into one of {count} folds, so none can be held out: give more data"
        )
    objective = OBJECTIVES[options.objective]
    tokenizer, model = backbone.load(weights, options, parts(options.input))
    reader = FeatureExtractor(model, tokenizer, options.input, options.max_length)
    questions = _questions(used, options.input)
    # In place of token ids, a row has the text's index in the table of all states.
    all_texts = [(asked, text) for asked, texts in questions.items() for text in texts]
    places = {text: place for place, text in enumerate(all_texts)}
    rows = objective.rows(items, lambda item, text: [places[item.example.asked, text]], options)
    _require_rows(rows)
    total_steps = len(questions) + trainer_setup.steps(options, len(rows))
    states = hidden_states.read(
        questions, reader, hidden_states.place(weights, options, context), context, total_steps
    )
    table = _table(states, [fold_of[asked] for asked, _ in all_texts], options.input)
    heads = table.model(count)
    arguments = trainer_setup.arguments(options, context)
    trainer = objective.trainer(heads, tokenizer, rows, arguments, collator=table.collate)

    def cases(test: bool) -> list[Case]:
        margins = table.blind_margins(heads).numpy()
        return [
            Case(example, margins[[places[example.asked, text] for text in texts]])
            for example in used
            if example.test == test and (texts := _texts_of(example, options.input))
        ]

    def evaluate() -> dict[str, float]:
        return _evaluate(cases(test=False), options)

    result = trainer_setup.run(trainer, context, evaluate, offset=len(questions))
    import torch

    with torch.no_grad():
        model.score.weight.copy_(table.head(heads).view_as(model.score.weight))
    facts = {**trainer_setup.account(result, rows), "folds": count, "dropped": len(examples) - len(used)}
    return _Trained(model, tokenizer, cases(test=False), cases(test=True), facts, learned)


def _questions(examples: Sequence[TrainingExample], kind: str) -> dict[PromptQuestion, list[str]]:
    """Give each question once, with all texts that are scored for it."""
    texts_by_question: dict[PromptQuestion, dict[str, None]] = {}
    for example in examples:
        texts_by_question.setdefault(example.asked, {}).update(dict.fromkeys(_texts_of(example, kind)))
    return {asked: list(texts) for asked, texts in texts_by_question.items() if texts}


def _table(states: Mapping[PromptQuestion, Any], folds: Sequence[int], kind: str) -> Table:
    """Concatenate the states of all questions into one table."""
    import torch

    if INPUTS[kind].answers:
        # Only the differences between a question's answers show which of them is right.
        return Table(torch.cat([answers - answers.mean(0) for answers in states.values()]), folds)
    return Table(torch.cat(list(states.values())), folds)


# Requirements on the data


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
            "no question has both right and wrong texts to pair: give more votes a question, "
            "or train with --no-balance --objective classification"
        )


# Evaluation


def _evaluate(cases: Sequence[Case], options: ScorerTraining) -> dict[str, float]:
    """Give the held-out loss and AUC of a step; without cases, nothing."""
    if not cases:
        return {}
    scores = [Calibration().scores(case, options.input) for case in cases]
    figures = {"eval_loss": calibration.loss(cases, Calibration(), options.input)}
    if (auc := calibration.auc(cases, scores, readable=True)) is not None:
        figures["eval_auc"] = auc
    return figures


def _judged(
    trained: _Trained, scale: Calibration, options: ScorerTraining
) -> tuple[dict[str, Any], voting.Rule, Answers | None]:
    """Evaluate on held-out and test votes; give metrics, the rule, and the answers that chose it."""
    if not all(np.isfinite(case.margins).all() for case in (*trained.held_out, *trained.tests)):
        raise Refused("training diverged, its scores are not finite: lower --learning-rate")
    metrics, answers = _figures(trained.held_out, scale, options, None)
    rule = answers.rule if answers and options.calibrate else _unproven(options)
    if trained.tests:
        chosen = Chosen(answers.thresholds, rule, answers.kinds) if answers else None
        metrics["test"], _ = _figures(trained.tests, scale, options, chosen)
    return metrics | {"temperature": scale.temperature, "bias": scale.bias}, rule, answers


def _proven(
    trained: _Trained, scale: Calibration, options: ScorerTraining, rule: voting.Rule, kinds: Kinds | None
) -> tuple[list[Case], list[bool]]:
    """Answer test questions, or else held-out ones, by what other questions chose; tell which are right."""
    if trained.tests or not options.calibrate:
        cases = [case for case in trained.tests or trained.held_out if _is_voted(case)]
        scores = _scores(cases, scale, options)
        return cases, calibration.right(cases, scores, rule, kinds, own=not trained.tests)
    cases, right = [], []
    for fold in range(vote_weights.FOLDS):
        others = [case for case in trained.held_out if case.labelled.fold != fold]
        own = [case for case in trained.held_out if case.labelled.fold == fold and _is_voted(case)]
        if not own or not others:
            continue
        scale = calibration.calibrate(others, options.input)
        voted = [case for case in others if _is_voted(case)]
        answers = calibration.answered(voted, _scores(voted, scale, options)) if voted else None
        rule, kinds = (answers.rule, answers.kinds) if answers else (_unproven(options), None)
        cases += own
        right += calibration.right(own, _scores(own, scale, options), rule, kinds)
    return cases, right


def _is_voted(case: Case) -> bool:
    return case.example.kind == "votes" and bool(case.example.answer)


def _scores(cases: Sequence[Case], scale: Calibration, options: ScorerTraining) -> list[list[float]]:
    return [scale.scores(case, options.input) for case in cases]


def _unproven(options: ScorerTraining) -> voting.Rule:
    """Give the rule of a scorer that was not evaluated on votes: weighted if calibrated, else the gate."""
    return voting.Rule(voting.VotingMode.WEIGHTED, 0.0) if options.calibrate else voting.GATE


def _figures(
    cases: Sequence[Case],
    scale: Calibration,
    options: ScorerTraining,
    given: Chosen | None,
) -> tuple[dict[str, Any], Answers | None]:
    scores = _scores(cases, scale, options)
    bins = calibration.reliability(cases, scores)
    figures: dict[str, Any] = {
        "loss": calibration.loss(cases, scale, options.input) if cases else None,
        "auc": calibration.auc(cases, scores, readable=True),
        "auc_with_unreadable": calibration.auc(cases, scores, readable=False),
        "calibration_error": calibration.expected_error(bins),
        "calibration": bins,
        "held_out": sum(len(of_case) for of_case in scores),
    }
    if not (voted := [case for case in cases if _is_voted(case)]):
        return figures, None
    answers = calibration.answered(voted, _scores(voted, scale, options), given)
    figures["answers"] = {
        "questions": answers.questions,
        **answers.by_use,
        "best": answers.best,
    }
    figures["thresholds"] = answers.thresholds
    if answers.kinds:
        figures |= {"kind_weights": answers.kinds.weights, "agreement": answers.kinds.agreement}
    return figures, answers


def _save(trained: _Trained, metrics: dict[str, Any], options: ScorerTraining, folder: Path) -> None:
    import torch

    backbone.plain(trained.model).to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    trained.tokenizer.save_pretrained(folder)
    facts = {
        "kind": "scorer",
        "options": options.model_dump(mode="json"),
        **{name: metrics[name] for name in _DESCRIBED if name in metrics},
    }
    model_store.describe(folder, facts)
