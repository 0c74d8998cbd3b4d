"""Plots of an `infer` run; each is drawn only where there is enough data for it.

    draw(figures, Path("out"))  ->  [Path("out/agreement.png"), Path("out/letters.png")]

agreement      agreement of the votes, and accuracy by agreement
outcomes       how questions were answered: majority, weights, fallback, or not at all
letters        distribution of letters in votes, answers and gold answers: shows position bias
calibration    share of right votes by score
reliability    share of right answers by their probability, with 95 % intervals
risk           share of wrong answers by the share of questions answered, with 95 % intervals

The figures come from `inference_report`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from producers.reports.calibration_report import Part
from producers.reports.inference_report import NO_LETTER, Figures, Verdict

SIZE = (6, 3.5)  # inches
DPI = 120
# Distinguishable with red-green colour blindness and in greyscale.
STYLES: dict[Verdict, dict[str, Any]] = {
    Verdict.RIGHT: {"color": "#4477aa", "label": "right"},
    Verdict.WRONG: {"color": "#ee9966", "label": "wrong"},
    Verdict.UNKNOWN: {"color": "#88a0b0", "label": "gold answer unknown"},
    Verdict.UNANSWERED: {"color": "#cccccc", "label": "no answer"},
}
BINS = 10  # of scores
FEW = 40  # minimum number of scored votes for a calibration plot
Bins = list[list[float]]

AGREEMENT, OUTCOMES, LETTERS, CALIBRATION, RELIABILITY, RISK = NAMES = (
    "agreement.png",
    "outcomes.png",
    "letters.png",
    "calibration.png",
    "reliability.png",
    "risk.png",
)


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw the plots that have enough data; return the files."""
    drawers = {AGREEMENT: _agreement, OUTCOMES: _outcomes, LETTERS: _letters, CALIBRATION: _calibration}
    drawers |= {RELIABILITY: _reliability, RISK: _risk}
    return [path for name, each in drawers.items() if save(path := folder / name, each, figures)]


def save(path: Path, drawer: Callable[..., bool], *data: Any) -> bool:
    """Draw one plot and save it, unless its drawer has too little data; matplotlib must be installed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    drawn = drawer(figure.subplots(), *data)
    if drawn:
        figure.savefig(path, dpi=DPI)
    return drawn


def _agreement(axes: Any, figures: Figures) -> bool:
    """Stack questions by the number of first-round votes for the commonest letter."""
    firsts = figures.first_rounds
    size = max((first.votes for first in firsts), default=0)
    if size < 2 or len({first.agreeing for first in firsts}) < 2:
        return False
    counts = range(1, size + 1)
    bars = [str(count) for count in counts]
    tally: Counter[tuple[int, Verdict]] = Counter()
    for first, times in firsts.items():
        tally[first.agreeing, first.verdict] += times
    stacked = {verdict: [tally[count, verdict] for count in counts] for verdict in Verdict}
    _stack(axes, bars, stacked)
    for at, right in enumerate(stacked[Verdict.RIGHT]):
        if right + (wrong := stacked[Verdict.WRONG][at]):
            total = sum(values[at] for values in stacked.values())
            axes.annotate(f"{100 * right / (right + wrong):.0f} % right", (at, total), **_ABOVE)
    labelled = any(first.verdict is not Verdict.UNKNOWN for first in firsts)
    axes.set(
        title="Agreement of votes and right answers" if labelled else "Agreement of votes",
        xlabel=f"votes for the commonest letter, of {size} in the first round",
        ylabel="questions",
    )
    return True


def _outcomes(axes: Any, figures: Figures) -> bool:
    """Stack questions by outcome."""
    if len(figures.outcomes) < 2:
        return False
    bars = sorted(figures.outcomes, key=lambda how: -sum(figures.outcomes[how].values()))
    _stack(axes, bars, {each: [figures.outcomes[how][each] for how in bars] for each in Verdict})
    for at, how in enumerate(bars):
        count = sum(figures.outcomes[how].values())
        axes.annotate(f"{count} ({100 * count / figures.questions:.0f} %)", (at, count), **_ABOVE)
    axes.set(title="How the questions ended", ylabel="questions")
    return True


def _letters(axes: Any, figures: Figures) -> bool:
    """Draw the shares of letters side by side: in votes, answers and gold answers."""
    if not figures.vote_letters:
        return False
    series = [
        ("votes", figures.vote_letters, "#4477aa"),
        ("answers", figures.answer_letters, "#66ccee"),
        ("right answers", figures.right_letters, "#bbbbbb"),
    ]
    rows = [row for row in series if row[1]]
    letters = sorted({letter for _, counts, _ in rows for letter in counts} - {NO_LETTER})
    letters += [NO_LETTER] if figures.vote_letters[NO_LETTER] else []
    width = 0.8 / len(rows)
    for at, (name, counts, colour) in enumerate(rows):
        shares = [100 * counts[letter] / counts.total() for letter in letters]
        places = [place + (at - (len(rows) - 1) / 2) * width for place in range(len(letters))]
        axes.bar(places, shares, width=width * 0.95, color=colour, label=f"{name} ({counts.total()})")
    axes.set(title="Letters", xlabel="letter", ylabel="% of each")
    axes.set_xticks(range(len(letters)), letters)
    legend(axes)
    return True


def _calibration(axes: Any, figures: Figures) -> bool:
    """Draw the share of right votes by score."""
    right, wrong = figures.scorer.right_scores, figures.scorer.wrong_scores
    if not right or not wrong or len(right) + len(wrong) < FEW:
        return False
    calibration(axes, reliability(right, wrong), "votes of this run")
    axes.set_title("Calibration of the scorer: readable votes with known answers")
    return True


def reliability(right: Sequence[float], wrong: Sequence[float]) -> Bins:
    """Return bins of scored votes with equal width: [mean score, share right, votes], without empty bins."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for score, is_right in [*((score, True) for score in right), *((score, False) for score in wrong)]:
        bins[min(int(score * BINS), BINS - 1)].append((score, is_right))
    return [
        [sum(score for score, _ in part) / len(part), sum(right for _, right in part) / len(part), len(part)]
        for part in bins
        if part
    ]


def calibration(axes: Any, bins: Bins, label: str) -> None:
    """Draw a reliability diagram from bins of [mean score, share right, votes]."""
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="perfect calibration")
    axes.plot([score for score, _, _ in bins], [share for _, share, _ in bins], marker="o", label=label)
    for score, share, votes in bins:
        axes.annotate(f"{votes:.0f}", (score, share), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(
        xlabel="score (mean of a bin; the number is its votes)",
        ylabel="share of right votes",
        xlim=(0, 1),
        ylim=(-0.03, 1.03),
    )
    legend(axes)


def _reliability(axes: Any, figures: Figures) -> bool:
    """Draw the share of right answers by their probability."""
    if figures.calibration is None:
        return False
    parts = figures.calibration.bins
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="perfect calibration")
    _with_intervals(axes, [part.probability for part in parts], parts)
    axes.set(title="Reliability", xlabel="probability (mean of a bin)", ylabel="share of right answers")
    return True


def _risk(axes: Any, figures: Figures) -> bool:
    """Draw the share of wrong answers by coverage, and the coverage of the answers given."""
    if figures.calibration is None:
        return False
    parts = figures.calibration.surest
    _with_intervals(axes, [part.coverage for part in parts], parts)
    if given := figures.calibration.given:
        axes.axvline(given.coverage, linestyle=":", color="grey")
    axes.set(title="Risk against coverage", xlabel="share answered, the surest first", ylabel="share wrong")
    return True


def _with_intervals(axes: Any, places: Sequence[float], parts: Sequence[Part]) -> None:
    """Plot the shares of parts, and their 95 % intervals as bars."""
    shares = [float(part.share.value or 0) for part in parts]
    ends = [part.interval or (share, share) for part, share in zip(parts, shares, strict=True)]
    axes.plot(places, shares, marker="o", label="answers, 95 % intervals")
    axes.vlines(places, *zip(*ends, strict=True), color="#88a0b0")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    legend(axes)


def legend(axes: Any) -> None:
    """Draw a legend where it covers least."""
    # Without an explicit place, Matplotlib warns if its search for one takes a second.
    axes.legend(loc="best")


_ABOVE: dict[str, Any] = {
    "textcoords": "offset points",
    "xytext": (0, 3),
    "ha": "center",
    "fontsize": 8,
}


def _stack(axes: Any, bars: Sequence[str], stacked: dict[Verdict, list[int]]) -> None:
    """Draw stacked bars; series of zeros are left out."""
    bottom = [0] * len(bars)
    for verdict, values in stacked.items():
        if any(values):
            axes.bar(bars, values, bottom=bottom, width=0.6, **STYLES[verdict])
            bottom = [below + value for below, value in zip(bottom, values, strict=True)]
    # Room for the labels above the bars.
    axes.set_ylim(0, 1.15 * max(bottom))
    axes.yaxis.get_major_locator().set_params(integer=True)
    if sum(any(values) for values in stacked.values()) > 1:
        legend(axes)
