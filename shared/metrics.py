"""Metrics that both a training and a report compute.

auc([0.5, 0.9], [0.5, 0.1])  ->  0.875
"""

import itertools
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
