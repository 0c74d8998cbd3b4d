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

_BATCH = 10_000_000  # numbers drawn at once: about 100 MB

Interval = tuple[float, float]


def by_unit(
    units: Sequence[object], counts: Sequence[float], sizes: Sequence[int] | None = None
) -> Interval | None:
    """Return the `interval` of questions with these units, counts and sizes (by default 1)."""
    import numpy as np

    places: dict[object, int] = {}
    at = np.fromiter((places.setdefault(unit, len(places)) for unit in units), np.intp, len(units))
    of = np.bincount(at) if sizes is None else np.bincount(at, sizes)
    return interval(np.bincount(at, counts), of)


def interval(counts: Any, sizes: Any) -> Interval | None:
    """Return the percentile interval of ``sum(counts) / sum(sizes)``; ``None`` for fewer than two entries.

    Efron 1979. ``counts`` may be differences of right answers, to compare two ways on the same questions.
    Entries with the same count and size are drawn together, by how many of them a resample has.
    """
    if len(counts) < 2:
        return None
    import numpy as np

    # As complex numbers, pairs are sorted fast.
    kinds, entries = np.unique(np.asarray(counts) + 1j * np.asarray(sizes), return_counts=True)
    rng, batch = np.random.default_rng(SEED), max(1, _BATCH // len(kinds))
    shares: list[float] = []
    while len(shares) < RESAMPLES:
        size = min(batch, RESAMPLES - len(shares))
        sums = rng.multinomial(len(counts), entries / len(counts), size) @ kinds
        shares += list(sums.real / sums.imag)
    low, high = np.quantile(shares, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def scipy_stats() -> Any:
    """Give `scipy.stats`.

    Raises:
        UserError: SciPy is not installed.
    """
    try:
        from scipy import stats
    except ImportError:
        raise UserError("p values need SciPy: pip install 'votequeue[report]'") from None
    return stats
