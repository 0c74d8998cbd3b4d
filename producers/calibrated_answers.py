"""Answers with the probability that they are right, by the calibration of their run.

    CalibratedAnswers(run).probability(entry, 0, votes, "B")  ->  0.83

`producers.enqueue.calibrate` learns it from labelled cases. Below its threshold, a question abstains.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared import dataset, vote_weights, voting
from shared.dataset import Entry
from shared.ledger import models, votes
from shared.ledger.runs import Run
from shared.ledger.votes import QuestionResult, RecordedAnswer, RecordedVote
from shared.options import Calibration, Sampling
from shared.voting import Outcome


@dataclass(frozen=True)
class Case:
    """A labelled question with an answer; ``unit`` is its `dataset.unit`."""

    unit: str
    fold: int
    right: bool
    features: Sequence[float]

    def probability(self, calibration: Calibration) -> float:
        """Give the probability that its answer is right, learned without its fold."""
        return calibration.probability(self.features, self.fold)


class CalibratedAnswers:
    """The answers of a run; without a calibration, no question abstains."""

    def __init__(self, run: Run) -> None:
        self._run = run
        recorded = run.options.get("calibration")
        self.calibration = Calibration.model_validate(recorded) if recorded else None

    @functools.cached_property
    def _sampling(self) -> Sampling:
        return models.weighed(Sampling.of_record(self._run.options))

    def probability(self, entry: Entry, question: int, cast: Sequence[RecordedVote], letter: str) -> float:
        """Give the probability that a letter is right, from the votes of all rounds."""
        if self.calibration is None:
            return 1.0
        fold, described = _describe(entry, question, cast, letter, self._sampling)
        return self.calibration.probability(described, fold)

    def abstains(self, result: QuestionResult) -> bool:
        """Tell whether the answer of a question is withheld."""
        if self.calibration is None or result.letter is None:
            return False
        known = self.probability(result.entry, result.question, result.votes, result.letter)
        return known < self.calibration.threshold

    def answered(self, answer: RecordedAnswer, result: QuestionResult) -> RecordedAnswer:
        """Add the probability to an answer, and withhold it if the question abstains."""
        if self.calibration is None or answer.letter is None:
            return answer
        known = self.probability(result.entry, result.question, result.votes, answer.letter)
        if known >= self.calibration.threshold:
            return answer._replace(probability=known)
        letter = self.calibration.abstain_as
        return answer._replace(letter=letter, outcome=Outcome.ABSTAINED, probability=known)

    def cases(self) -> Iterator[Case]:
        """Read the labelled questions with an answer, and a problem that no model was trained on."""
        used = {name for each in votes.count_sources(self._run.name) for name in (each.scorer, each.adapter)}
        learned = set[str]().union(*(models.problems(name) for name in used if name))
        for result in votes.of_run(self._run.name):
            known = result.gold is not None and result.problem_identity not in learned
            if known and (letter := result.letter) is not None:
                place = result.entry, result.question, result.votes
                fold, features = _describe(*place, letter, self._sampling)
                yield Case(dataset.unit(result.entry), fold, letter == result.gold, features)


def answers_of(run: Run, confidence: bool) -> Iterator[tuple[str, list[RecordedAnswer]]]:
    """Read the answers of a run as `votes.answers_of`, by its calibration if it has one."""
    calibrated = CalibratedAnswers(run)
    answers = votes.answers_of(run.name, confidence)
    if calibrated.calibration is None:
        return answers
    results = votes.of_run(run.name)  # in the same order
    return ((text, [calibrated.answered(each, next(results)) for each in part]) for text, part in answers)


def _describe(
    entry: Entry, question: int, cast: Sequence[RecordedVote], letter: str, sampling: Sampling
) -> tuple[int, tuple[float, ...]]:
    """Give the fold of a question, and the features of an answer."""
    asked = entry.questions[question]
    fold = vote_weights.fold(dataset.unit(entry), asked.answer is not None)
    return fold, features(cast, letter, len(asked.options), sampling, fold)


def features(
    cast: Sequence[RecordedVote], letter: str, options: int, sampling: Sampling, fold: int
) -> tuple[float, ...]:
    """Describe an answer by the votes of its last round, or of all rounds if none is accepted there.

    The features are: the log-odds of its votes and of their weights against the others', with one vote spread
    over the options; its lead; the mean log-odds of its scores; the logarithms of the numbers of votes with a
    letter and of options; whether it is a fallback; and the number of voices that name it.
    """
    attempt = max((vote.attempt for vote in cast), default=0)
    last = [vote for vote in cast if vote.attempt == attempt]
    fallback = not any(vote.accepted for vote in last)
    read = [vote for vote in (cast if fallback else last) if vote.letter is not None]
    mine = [vote for vote in read if vote.letter == letter]
    others = [vote for vote in read if vote.letter != letter]
    scores = [math.log(voting.odds(vote.score)) for vote in mine if vote.score is not None]

    def weight(part: Sequence[RecordedVote]) -> float:
        odds = [1.0 if vote.score is None else voting.odds(vote.score) for vote in part]
        return math.fsum(
            sampling.kind_weight(vote.kind, fold) * each for vote, each in zip(part, odds, strict=True)
        )

    return (
        _log_odds(len(mine), len(others), options),
        _log_odds(weight(mine), weight(others), options),
        (len(mine) - max(Counter(vote.letter for vote in others).values(), default=0)) / max(1, len(read)),
        math.fsum(scores) / max(1, len(scores)),
        math.log1p(len(read)),
        math.log(options),
        float(fallback),
        float(len({vote.voice for vote in mine})),
    )


def _log_odds(mine: float, others: float, options: int) -> float:
    return math.log((mine + 1 / options) / (others + 1 - 1 / options))
