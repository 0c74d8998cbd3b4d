"""Statistics that several parts compute.

auc([0.5, 0.9], [0.5, 0.1])  ->  0.875
"""

import itertools
import math
from collections.abc import Sequence


def auc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Give the chance that a right vote is scored above a wrong one; a tie counts half."""
    if not right or not wrong:
        return None
    scored = sorted([(score, True) for score in right] + [(score, False) for score in wrong])
    below, total = 0, 0.0
    for _score, group in itertools.groupby(scored, key=lambda pair: pair[0]):
        rights = [is_right for _, is_right in group]
        positives = sum(rights)
        total += positives * (below + (len(rights) - positives) / 2)
        below += len(rights) - positives
    return total / (len(right) * len(wrong))


_BETS = [0.1 * tenth for tenth in range(1, 10)]  # shares of the capital


def evidence(won: int, lost: int) -> float:
    """Give the evidence (an e-value) that more comparisons are lost than won; ties are left out.

    It is the capital of a gambler who bets on losses, the mean over several bets. If a loss is at most as
    probable as a win, whatever came before, the capital ever reaches 1/level with at most this probability,
    however often it is looked at (Ville 1939; Ramdas et al. 2023, doi:10.1214/23-STS894).
    """
    capitals = [lost * math.log1p(bet) + won * math.log1p(-bet) for bet in _BETS]
    return sum(math.exp(min(capital, 700.0)) for capital in capitals) / len(_BETS)
