"""95 % confidence intervals of shares, by the bootstrap.

    interval([2, 0, 1], [2, 1, 1])  ->  (0.0, 1.0)

Entries are resampled rather than questions, because questions about one problem are correlated.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from shared.errors import UserError

LEVEL = 0.95
RESAMPLES = 2000
SEED = 42

_BATCH = 10_000_000  # numbers drawn at once: about 100 MB

Interval = tuple[float, float]


def by_unit(
    units: Sequence[str], counts: Sequence[float], sizes: Sequence[int] | None = None
) -> Interval | None:
    """Return the `interval` of questions with these units, counts and sizes (by default 1)."""
    summed: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for name, count, size in zip(units, counts, sizes or [1] * len(units), strict=True):
        summed[name][0] += count
        summed[name][1] += size
    return interval([count for count, _ in summed.values()], [int(size) for _, size in summed.values()])


def interval(counts: Sequence[float], sizes: Sequence[int]) -> Interval | None:
    """Return the percentile interval of ``sum(counts) / sum(sizes)``; ``None`` for fewer than two entries.

    Efron 1979. ``counts`` may be differences of right answers, to compare two ways on the same
    questions.

    Raises:
        UserError: SciPy is not installed.
    """
    if len(counts) < 2:
        return None
    stats = scipy_stats()
    import numpy as np

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
        batch=max(1, _BATCH // len(counts)),
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def scipy_stats() -> Any:
    """Give `scipy.stats`.

    Raises:
        UserError: SciPy is not installed.
    """
    try:
        from scipy import stats
    except ImportError:
        raise UserError("intervals need SciPy: pip install 'votequeue[report]'") from None
    return stats
