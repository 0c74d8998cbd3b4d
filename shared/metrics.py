"""Statistics that several parts compute.

auc([0.5, 0.9], [0.5, 0.1])  ->  0.875
"""

import math
from collections.abc import Sequence


def auc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Give the chance that a right vote is scored above a wrong one; a tie counts half."""
    if not right or not wrong:
        return None
    import numpy as np

    # The number of wrong votes below each right one, ties counted half: the mean of both ends of its place.
    wrongs, rights = np.sort(np.asarray(wrong, float)), np.sort(np.asarray(right, float))
    below = sum(int(np.searchsorted(wrongs, rights, side).sum()) for side in ("left", "right"))
    return below / (2 * len(right) * len(wrong))


_BETS = [0.1 * tenth for tenth in range(1, 10)]  # shares of the capital


def evidence(won: int, lost: int) -> float:
    """Give the evidence (an e-value) that more comparisons are lost than won; ties are left out.

    It is the capital of a strategy that bets on losses, the mean over several stakes. If a loss is at most as
    probable as a win, whatever came before, the capital ever reaches 1/level with at most this probability,
    however often it is looked at (Ville 1939; Ramdas et al. 2023, doi:10.1214/23-STS894).
    """
    capitals = [lost * math.log1p(bet) + won * math.log1p(-bet) for bet in _BETS]
    return sum(math.exp(min(capital, 700.0)) for capital in capitals) / len(_BETS)
