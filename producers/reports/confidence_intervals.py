"""95 % confidence intervals of shares, by the bootstrap.

    interval([2, 0, 1], [2, 1, 1])  ->  (0.0, 1.0)

Entries are resampled rather than questions, because questions about one problem are correlated.
"""

from collections.abc import Sequence
from typing import Any

from shared.errors import UserError

LEVEL = 0.95
RESAMPLES = 2000
SEED = 42

Interval = tuple[float, float]


def interval(counts: Sequence[float], sizes: Sequence[int]) -> Interval | None:
    """Return the percentile interval of ``sum(counts) / sum(sizes)``; ``None`` for fewer than two entries.

    Efron 1979. ``counts`` may be differences of right answers, to compare two ways on the same
    questions.

    Raises:
        UserError: SciPy is not installed.
    """
    if len(counts) < 2:
        return None
    try:
        import numpy as np
        from scipy import stats
    except ImportError:
        raise UserError("intervals need SciPy: pip install 'votequeue[report]'") from None

    def share(right: Any, of: Any, axis: int = -1) -> Any:
        return right.sum(axis=axis) / of.sum(axis=axis)

    bounds = stats.bootstrap(
        (np.asarray(counts, float), np.asarray(sizes, float)),
        share,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)
