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

from shared import kind_weights, metrics, vote_weights
from shared.dataset import LETTERS
from shared.kind_weights import BY_KIND, LabelledRound
from shared.recipes import INPUTS
from shared.training_examples import TrainingExample
from shared.voices import REASONING
from shared.vote_weights import UNLABELLED
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

    @property
    def labelled(self) -> LabelledRound:
        """Give its first round of votes; what is held out together is in the same fold."""
        example = self.example
        fold = vote_weights.fold(example.group, labelled=True)
        first = [text for text in example.texts if text.attempt == 1]
        return LabelledRound(fold, example.answer, len(example.options), first)


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
    """Give the margins of reasonings, which the scorer learned from, and whether each is right."""
    pairs = [
        (margin, case.example.is_right(text))
        for case in cases
        for text, margin in zip(case.example.texts, case.margins, strict=True)
        if text.voice == REASONING
    ]
    margins, right = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(margins), np.array(right)


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
        if text.voice == REASONING and (text.letter is not None or not readable)
    ]


# Voting modes


@dataclass(frozen=True)
class Kinds:
    """What votes of each kind count, and the probability that agreeing first votes are right, by fold."""

    weights: dict[str, tuple[float, ...]]
    agreement: tuple[float, ...]


def kinds(cases: Sequence[Case]) -> Kinds | None:
    """Learn what votes of each kind count; ``None``: they are all reasonings."""
    rounds = [case.labelled for case in cases]
    if all(vote.voice == REASONING for each in rounds for vote in each.votes):
        return None
    return Kinds(kind_weights.by_kind(rounds), kind_weights.agreement(rounds))


@dataclass(frozen=True)
class Chosen:
    """What was chosen on other questions: thresholds, a rule, and weights by kind."""

    thresholds: dict[str, float]
    rule: Rule
    kinds: Kinds | None


@dataclass(frozen=True)
class Answers:
    """Accuracy on held-out questions for each use of the scores; ``best`` is that of the best one, ``rule``.

    With ``kinds``, votes are weighed by their kinds in all uses, among them the majority (`BY_KIND`).
    """

    questions: int
    by_use: dict[str, float]
    thresholds: dict[str, float]
    rule: Rule
    best: float
    kinds: Kinds | None


def answered(
    cases: Sequence[Case], scores: Sequence[Sequence[float]], chosen: Chosen | None = None
) -> Answers:
    """Answer questions from their votes in every mode, with the best thresholds.

    Without ``chosen``, these questions choose thresholds and rule. What votes of a kind count is learned
    without the question's own fold.
    """
    learned = chosen.kinds if chosen else kinds(cases)
    golds = [case.example.answer for case in cases]
    known = _rounds_of(cases, scores)
    weighed = _rounds_of(cases, scores, learned, own=chosen is None)

    def share(rule: Rule, rounds: Sequence[list[list[Vote]]]) -> float:
        return sum(_hits(rounds, golds, rule)) / len(golds)

    def best_threshold(use: VotingMode) -> float:
        return _best(lambda threshold: share(Rule(use, threshold), weighed))

    thresholds = chosen.thresholds if chosen else {str(use): best_threshold(use) for use in USES if use.voids}
    rules = {str(use): Rule(use, thresholds.get(use, 0.0)) for use in USES}
    if learned:
        rules = {BY_KIND: PLAIN, **rules}
    by_use = {name: share(rule, weighed) for name, rule in rules.items()}
    # max returns the first of equal uses.
    rule = chosen.rule if chosen else rules[max(by_use, key=by_use.__getitem__)]
    best = share(rule, weighed)
    by_use |= {
        str(VotingMode.MAJORITY): share(PLAIN, known),
        "one vote": _one_vote(cases),
        "oracle": _oracle(known, golds),
    }
    return Answers(len(cases), by_use, thresholds, rule, best, learned)


def _best(share: Callable[[float], float]) -> float:
    """Choose the lowest threshold with the best mean over itself and its neighbours."""
    shares = [share(threshold) for threshold in THRESHOLDS]
    smooth = [float(np.mean(shares[max(0, at - 1) : at + 2])) for at in range(len(shares))]
    return THRESHOLDS[int(np.argmax(smooth))]


def right(
    cases: Sequence[Case],
    scores: Sequence[Sequence[float]],
    rule: Rule,
    kinds: Kinds | None = None,
    own: bool = False,
) -> list[bool]:
    """Tell which questions a rule answers right; ``own``: ``kinds`` were learned on them, by fold."""
    return _hits(_rounds_of(cases, scores, kinds, own), [case.example.answer for case in cases], rule)


def _hits(rounds: Sequence[list[list[Vote]]], golds: Sequence[str], rule: Rule) -> list[bool]:
    return [
        revote(votes, rule, FALLBACK)[0].letter == gold for votes, gold in zip(rounds, golds, strict=True)
    ]


def _rounds_of(
    cases: Sequence[Case],
    scores: Sequence[Sequence[float]],
    kinds: Kinds | None = None,
    own: bool = False,
) -> list[list[list[Vote]]]:
    """Give the votes of all cases by rounds; with ``kinds``, votes weigh what theirs counts."""
    rounds = []
    for case, of_case in zip(cases, scores, strict=True):
        weights: list[float] = []
        if kinds:
            fold = case.labelled.fold if own else UNLABELLED
            weights = [kind_weights.weight(kinds.weights, text.kind, fold) for text in case.example.texts]
        rounds.append(_rounds(case, of_case, weights))
    return rounds


def _rounds(case: Case, scores: Sequence[float], weights: Sequence[float] = ()) -> list[list[Vote]]:
    rounds: dict[int, list[Vote]] = {}
    each = zip(case.example.texts, scores, weights or [1.0] * len(scores), strict=True)
    for text, score, weight in each:
        rounds.setdefault(text.attempt, []).append(Vote(text.letter, score, weight))
    return [votes for _, votes in sorted(rounds.items())]


def _one_vote(cases: Sequence[Case]) -> float:
    right = [
        case.example.is_right(text) for case in cases for text in case.example.texts if text.attempt == 1
    ]
    return sum(right) / len(right) if right else 0.0


def _oracle(rounds: Sequence[list[list[Vote]]], golds: Sequence[str]) -> float:
    hits = [any(vote.letter == gold for vote in votes[0]) for votes, gold in zip(rounds, golds, strict=True)]
    return sum(hits) / len(hits)
