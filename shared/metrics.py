"""Metrics that both a training and a report compute.

auc([0.5, 0.9], [0.5, 0.1])  ->  0.875
"""

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
