"""Simulate the tests of scorers: how often a gain promotes, and how soon a loss switches off.

    python -m tests.bench.promotion --questions 100 250 500 1000 --gains 0 3 5 8 10 --times 2000

A gain of 5 points with ``--disagree`` 0.23 means: on 14 % of the questions only the new scorer is right, on
9 % only the other way. Each question is an entry of its own. A loss is the same against the scorer in use.
"""

import argparse

import numpy as np

from producers.reports import render
from shared import metrics
from shared.recipes import LEVEL
from workers.training import promotion

FURTHEST = 5000  # labelled entries after which a simulated sequential test ends


def promoted(questions: int, gain: float, disagree: float, times: int, rng: np.random.Generator) -> list[str]:
    """Give a row: how often the paired test promotes, and the mean half-width of the interval."""
    won = (disagree + gain) / 2
    entries = [str(at) for at in range(questions)]
    found = [
        promotion.difference(entries, (draws < won).tolist(), ((draws >= won) & (draws < disagree)).tolist())
        for draws in rng.random((times, questions))
    ]
    powers = [f"{100 * np.mean([each.p <= level for each in found]):.0f} %" for level in (LEVEL, 2 * LEVEL)]
    half_width = 100 * np.mean([each.half_width for each in found])
    return [str(questions), f"{100 * gain:+.0f}", *powers, f"{half_width:.1f}"]


def switched_off(loss: float, disagree: float, run: int, times: int, rng: np.random.Generator) -> list[str]:
    """Give a row: how often the sequential test ends, looked at after each run, and after which entry."""
    lost = (disagree + loss) / 2
    ends = []
    for _ in range(times):
        draws = rng.random((FURTHEST // run, run))
        losses = np.cumsum((draws < lost).sum(1))
        wins = np.cumsum(((draws >= lost) & (draws < disagree)).sum(1))
        passed = (metrics.evidence(int(w), int(n)) >= 1 / LEVEL for w, n in zip(wins, losses, strict=True))
        ends.append(next((run * at for at, ends_here in enumerate(passed, 1) if ends_here), None))
    known = [end for end in ends if end is not None]
    # Half of the tests have ended by then, if half of them end at all.
    median = sorted(known)[times // 2] if len(known) > times // 2 else None
    share = f"{100 * len(known) / times:.0f} %"
    return [f"{-100 * loss:+.0f}", str(run), share, f"{median}" if median else "-"]


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[100, 250, 500, 1000])
    parser.add_argument("--gains", type=float, nargs="+", default=[0, 3, 5, 8, 10], metavar="POINTS")
    parser.add_argument("--disagree", type=float, default=0.23, metavar="SHARE")
    parser.add_argument("--run", type=int, default=100, help="labelled entries in a run (default: 100)")
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    rows = [
        promoted(questions, gain / 100, given.disagree, given.times, rng)
        for questions in given.questions
        for gain in given.gains
    ]
    headings = [f"promoted at {LEVEL:g}", f"at {2 * LEVEL:g}", "±"]
    render.table(rows, ["questions", "true gain", *headings])
    rows = [switched_off(loss / 100, given.disagree, given.run, given.times, rng) for loss in given.gains]
    render.table(rows, ["true gain", "entries a run", f"switched off within {FURTHEST}", "median entries"])


if __name__ == "__main__":
    main()
