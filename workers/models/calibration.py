"""Calibrate scores, and choose the voting mode with the best accuracy on held-out questions.

    calibrate(cases, "question+answer")  ->  Calibration(temperature=1.31, bias=0.0)

A score is the probability that a vote is right. A `question+answer` scorer reads a question with each of its
answers, and the scores of one question's answers add up to one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from shared import metrics
from shared.dataset import LETTERS
from shared.recipes import INPUTS
from shared.training_examples import TrainingExample
from shared.voting import PLAIN, SCORED, Fallback, Rule, Vote, VotingMode, revote

THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 20)]
BINS = 10
# Bounds: for a scorer without mistakes, the likelihood is highest at temperature 0.
LOG_TEMPERATURE, BIAS = (-3.0, 3.0), 10.0
FALLBACK: Fallback = "majority"
# The cheapest mode first: one that voids no votes needs no further rounds.
USES = tuple(sorted(SCORED, key=lambda mode: (mode.voids, not mode.weighs)))
Array = Any


@dataclass(frozen=True)
class Case:
    """A question and the scorer's margins: one for each option (``question+answer``) or each text."""

    example: TrainingExample
    margins: Array


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling (Guo et al. 2017), with a bias if each margin is for one text (Platt 1999)."""

    temperature: float = 1.0
    bias: float = 0.0

    def scores(self, case: Case, kind: str) -> list[float]:
        """Score each of a question's texts; with ``question+answer``, one without a letter scores 0."""
        return self.scores_of(case.margins, [text.letter for text in case.example.texts], kind)

    def scores_of(self, margins: Array, letters: Sequence[str | None], kind: str) -> list[float]:
        """Give the scores from margins and the letters of the texts."""
        if not INPUTS[kind].answers:
            return [float(value) for value in expit(margins / self.temperature + self.bias)]
        shares = softmax(margins / self.temperature)
        places = [LETTERS.find(letter) if letter else -1 for letter in letters]
        return [float(shares[place]) if place >= 0 else 0.0 for place in places]


def calibrate(cases: Sequence[Case], kind: str) -> Calibration:
    """Fit a calibration by maximum likelihood of the labels."""
    if INPUTS[kind].answers:
        fit = minimize(lambda at: _answer_loss(cases, np.exp(at[0])), [0.0], bounds=[LOG_TEMPERATURE])
        return Calibration(float(np.exp(fit.x[0])))
    margins, right = _flat(cases)
    fit = minimize(
        lambda at: _text_loss(margins / np.exp(at[0]) + at[1], right),
        [0.0, 0.0],
        bounds=[LOG_TEMPERATURE, (-BIAS, BIAS)],
    )
    return Calibration(float(np.exp(fit.x[0])), float(fit.x[1]))


def loss(cases: Sequence[Case], scale: Calibration, kind: str) -> float:
    """Give the mean cross-entropy of the scores, in nats, a question (``question+answer``) or a text."""
    if INPUTS[kind].answers:
        return _answer_loss(cases, scale.temperature)
    margins, right = _flat(cases)
    return _text_loss(margins / scale.temperature + scale.bias, right)


def _flat(cases: Sequence[Case]) -> tuple[Array, Array]:
    right = [[case.example.is_right(text) for text in case.example.texts] for case in cases]
    return np.concatenate([case.margins for case in cases]), np.concatenate(right)


def _answer_loss(cases: Sequence[Case], temperature: float) -> float:
    losses = [
        -np.log(np.maximum(softmax(case.margins / temperature)[LETTERS.index(case.example.answer)], 1e-12))
        for case in cases
    ]
    return float(np.mean(losses))


def _text_loss(margins: Array, right: Array) -> float:
    return float(np.mean(np.logaddexp(0, np.where(right, -margins, margins))))


# Quality of scores


def auc(cases: Sequence[Case], scores: Sequence[Sequence[float]], readable: bool) -> float | None:
    """Compute the AUC: the probability that a right text scores higher than a wrong one.

    ``None``: all texts are right, or all are wrong. ``readable`` excludes texts without a letter.
    """
    labelled = _labelled(cases, scores, readable)
    return metrics.auc(
        [score for right, score in labelled if right], [score for right, score in labelled if not right]
    )


def reliability(cases: Sequence[Case], scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """Give the non-empty bins of equal width over readable texts: [mean score, share right, texts]."""
    bins: dict[int, list[tuple[bool, float]]] = {}
    for right, score in _labelled(cases, scores, readable=True):
        bins.setdefault(min(int(score * BINS), BINS - 1), []).append((right, score))
    return [
        [float(np.mean([s for _, s in texts])), float(np.mean([r for r, _ in texts])), float(len(texts))]
        for _, texts in sorted(bins.items())
    ]


def expected_error(bins: Sequence[Sequence[float]]) -> float:
    """Give the expected calibration error: the mean distance between scores and shares, over texts."""
    total = sum(texts for _, _, texts in bins)
    return sum(texts * abs(score - share) for score, share, texts in bins) / total if total else 0.0


def _labelled(
    cases: Sequence[Case], scores: Sequence[Sequence[float]], readable: bool
) -> list[tuple[bool, float]]:
    return [
        (case.example.is_right(text), score)
        for case, of_case in zip(cases, scores, strict=True)
        for text, score in zip(case.example.texts, of_case, strict=True)
        if text.letter is not None or not readable
    ]


# Voting modes


@dataclass(frozen=True)
class Answers:
    """Accuracy on held-out questions for each use of the scores, and the best rule."""

    questions: int
    by_use: dict[str, float]
    thresholds: dict[str, float]
    rule: Rule

    @property
    def beats_majority(self) -> bool:
        """Tell whether the best use of the scores gets more answers right than the plain majority."""
        return self.by_use[self.rule.use] > self.by_use[VotingMode.MAJORITY]


def answered(
    cases: Sequence[Case],
    scores: Sequence[Sequence[float]],
    chosen: tuple[dict[str, float], Rule] | None = None,
) -> Answers:
    """Answer questions from their votes in every mode, with the best thresholds.

    ``chosen`` are thresholds and a rule from other questions; without them, these questions choose them.
    """
    rounds = [_rounds(case, of_case) for case, of_case in zip(cases, scores, strict=True)]
    golds = [case.example.answer for case in cases]

    def share(rule: Rule) -> float:
        hits = [
            revote(votes, rule, FALLBACK)[0].letter == gold for votes, gold in zip(rounds, golds, strict=True)
        ]
        return sum(hits) / len(hits)

    thresholds = chosen[0] if chosen else {str(use): _best(share, use) for use in USES if use.voids}
    rules = {use: Rule(use, thresholds.get(use, 0.0)) for use in USES}
    by_use = {str(use): share(rule) for use, rule in rules.items()} | {str(VotingMode.MAJORITY): share(PLAIN)}
    # max returns the first of equal uses.
    best = chosen[1] if chosen else rules[max(USES, key=lambda use: by_use[use])]
    by_use |= {"one vote": _one_vote(cases), "oracle": _oracle(rounds, golds)}
    return Answers(len(cases), by_use, thresholds, best)


def _best(share: Callable[[Rule], float], use: VotingMode) -> float:
    """Choose the lowest threshold with the best mean over itself and its neighbours."""
    shares = [share(Rule(use, threshold)) for threshold in THRESHOLDS]
    smooth = [float(np.mean(shares[max(0, at - 1) : at + 2])) for at in range(len(shares))]
    return THRESHOLDS[int(np.argmax(smooth))]


def _rounds(case: Case, scores: Sequence[float]) -> list[list[Vote]]:
    rounds: dict[int, list[Vote]] = {}
    for text, score in zip(case.example.texts, scores, strict=True):
        rounds.setdefault(text.attempt, []).append(Vote(text.letter, score))
    return [votes for _, votes in sorted(rounds.items())]


def _one_vote(cases: Sequence[Case]) -> float:
    right = [
        case.example.is_right(text) for case in cases for text in case.example.texts if text.attempt == 1
    ]
    return sum(right) / len(right) if right else 0.0


def _oracle(rounds: Sequence[list[list[Vote]]], golds: Sequence[str]) -> float:
    hits = [any(vote.letter == gold for vote in votes[0]) for votes, gold in zip(rounds, golds, strict=True)]
    return sum(hits) / len(hits)
