"""Weights of the votes of several runs, learned on labelled questions with cross-validation.

    log_odds(right=130, votes=200, chance=50.0)  ->  1.68    130 of 200 votes with 4 options are right

Independent voters are combined best if a vote counts the log-odds that it is right (Nitzan and Paroush 1982,
doi:10.2307/2526438). A labelled question gets weights that were learned without its fold.
"""

import hashlib
import math
from collections.abc import Sequence

FOLDS = 5
UNLABELLED = FOLDS  # the place of the weights of unlabelled questions, after those of the folds


def fold(unit: str, labelled: bool) -> int:
    """Give the fold of a question by its `dataset.unit`, so that copies of a problem share it."""
    if not labelled:
        return UNLABELLED
    return int.from_bytes(hashlib.sha256(unit.encode("utf-8", "surrogatepass")).digest()[:8], "big") % FOLDS


# A question's fold, its right votes, its votes with a letter, and how many of them chance would get right.
FoldCount = tuple[int, int, int, float]


def by_fold(counts: Sequence[FoldCount]) -> tuple[float, ...]:
    """Learn the weight of votes without each fold, and last without any left out."""
    return tuple(log_odds(*_sums(counts, fold)) for fold in range(UNLABELLED + 1))


def shares_by_fold(counts: Sequence[FoldCount]) -> tuple[float, ...]:
    """Estimate the share of right votes without each fold, with one right and one wrong vote added."""
    sums = [_sums(counts, fold) for fold in range(UNLABELLED + 1)]
    return tuple((right + 1) / (votes + 2) for right, votes, _ in sums)


def _sums(counts: Sequence[FoldCount], left_out: int) -> tuple[float, float, float]:
    right, votes, chance = (sum(count[at] for count in counts if count[0] != left_out) for at in (1, 2, 3))
    return right, votes, chance


def log_odds(right: float, votes: float, chance: float) -> float:
    """Return the log-odds of a right vote over chance, at least 0: log(p (k - 1) / (1 - p)) for k options.

    p is the accuracy with one vote added for each option (Laplace). ``chance`` is the sum of 1 / k over the
    votes, so k is a mean where questions differ.
    """
    if not votes:
        return 0.0
    guess = chance / votes
    accuracy = (right + 1) / (votes + 1 / guess)
    return max(0.0, math.log(accuracy / (1 - accuracy)) - math.log(guess / (1 - guess)))
