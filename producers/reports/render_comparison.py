"""Print the comparison of several runs, and write its page.

    chat  118/275  42.9 %  36.9 to 49.2 %  +5.1 (0.7 to 9.5)  0.0259  30  16  ...

`paired_comparison` computes the figures.
"""

from collections.abc import Iterable, Iterator, Sequence

from producers import console
from producers.reports import render
from producers.reports.combination import Combination
from producers.reports.paired_comparison import ComparedRun, Comparison, Difference, Flip
from producers.reports.render import Rows

FLIPS_SHOWN = 100  # flips in each direction on a page; the JSON has all of them
GROUP_HEADINGS = ["by", "value", "before", "after", "points", "won", "lost"]


def report(comparison: Comparison) -> None:
    """Print the comparison as tables."""
    render.text(f"runs {', '.join(run.name for run in comparison.runs)}: {compared_on(comparison)}")
    render.table(map(cells, comparison.runs), _headings(comparison))
    for run, difference in _differences(comparison):
        render.table(_group_rows(difference), GROUP_HEADINGS, f"\n{_over(comparison, run)}")
    for note in notes(comparison):
        render.text(note)


def compared_on(comparison: Comparison) -> str:
    """Describe the questions of a comparison."""
    sizes = {run.questions for run in comparison.runs}
    whole = "" if sizes == {comparison.shared} else f" (of {_join(run.questions for run in comparison.runs)})"
    left_out = [
        f"{count} left out ({reason})"
        for count, reason in [
            (comparison.unanswered, "without an answer in some run"),
            (comparison.unlabelled, "no right letter"),
            (comparison.contradictory, "the data name different right letters"),
            (comparison.learned, "a scorer or adapter was trained on their problems"),
        ]
        if count
    ]
    compared = f"{comparison.questions} compared, in {console.count(comparison.entries, 'entry')}"
    return ", ".join([f"{console.count(comparison.shared, 'shared question')}{whole}", compared, *left_out])


def notes(comparison: Comparison) -> Iterator[str]:
    """Explain what the figures rest on."""
    if not comparison.questions:
        yield "no right letters: only the answers are compared"
        return
    yield "intervals: 95 %, bootstrap by entry; p: McNemar's exact test, two-sided, questions as independent"
    if (count := len(comparison.runs) - 1) > 1:
        yield f"{count} comparisons with {comparison.runs[0].name}; their p values are not corrected for it"


def _join(values: Iterable[object]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}"


def _over(comparison: Comparison, run: ComparedRun) -> str:
    return f"{run.name} (after) over {comparison.runs[0].name} (before)"


def _differences(comparison: Comparison) -> Iterator[tuple[ComparedRun, Difference]]:
    for run in comparison.runs:
        if run.difference is not None:
            yield run, run.difference


def _headings(comparison: Comparison) -> list[str]:
    first = comparison.runs[0].name
    counts = ["McNemar's p", "won", "lost", "same answer", "agreement", "tokens a question", "letters"]
    return ["run", "right", "95 % interval", f"points over {first}", *counts]


def cells(run: ComparedRun) -> list[str]:
    """Return one run as table cells."""
    difference = run.difference
    shares = "" if run.agreement is None else f"{100 * run.agreement:.1f} %"
    tokens = "" if run.tokens is None else f"{run.tokens:.0f}"
    letters = " ".join(f"{letter} {count}" for letter, count in run.letters.items())
    return [
        run.name,
        render.percent(run.right) if run.right.of else "",
        f"{render.points(run.interval)} %" if run.interval else "",
        *(_difference_cells(difference) if difference else [""] * 4),
        render.percent(run.same),
        shares,
        tokens,
        letters,
    ]


def _difference_cells(difference: Difference) -> list[str]:
    interval = f" ({render.points(difference.interval)})" if difference.interval else ""
    gain = f"{100 * difference.gain:+.1f}{interval}"
    return [gain, f"{difference.p:.3g}", str(len(difference.won)), str(len(difference.lost))]


def _group_rows(difference: Difference) -> Iterator[list[str]]:
    for group in difference.groups:
        points = 100 * (group.after.right - group.before.right) / group.before.of
        shares = [render.percent(group.before), render.percent(group.after)]
        yield [group.by, group.value, *shares, f"{points:+.1f}", str(group.won), str(group.lost)]


# Combinations


def combination_rows(combination: Combination) -> Rows:
    """Return a combination of runs, beside its runs, as table rows."""
    weights = [f"{run} {weight:.2f}" for run, weight in combination.weights.items()]
    learned = combination.mode == "learned"
    rows = [("combination", f"learned weights: {', '.join(weights)}" if learned else "every vote counts 1")]
    comparison = combination.comparison
    if comparison is None or not comparison.questions:
        return [*rows, ("compared on", "no labelled question is answered in all runs")]
    best, combined = comparison.runs[0].name, comparison.runs[-1].name
    entries = console.count(comparison.entries, "entry")
    rows.append(("compared on", f"{console.count(comparison.questions, 'labelled question')} in {entries}"))
    for run in comparison.runs:
        _, right, interval, *difference = cells(run)[:5]
        over = f", {difference[0]} points over {best}, p {difference[1]}" if run.name == combined else ""
        rows.append((f"accuracy of {run.name}", f"{right}  ({interval}){over}"))
    return [*rows, ("", _verdict(best, comparison.runs[-1].difference))]


def _verdict(best: str, difference: Difference | None) -> str:
    """Say whether the combination is shown to be better than its best run."""
    interval = difference.interval if difference else None
    if interval and interval[0] > 0:
        return f"the combination is better than {best}: the 95 % interval is above zero"
    place = "is below zero" if interval and interval[1] < 0 else "includes zero"
    why = f"the 95 % interval {place}" if interval else "an interval needs at least two entries"
    return f"the combination is not shown to be better than {best}: {why}"


# The page


def page(comparison: Comparison) -> str:
    """Render a comparison as a Markdown page."""
    parts = [
        f"# Comparison of {_join(run.name for run in comparison.runs)}",
        compared_on(comparison),
        render.markdown_table(_headings(comparison), map(cells, comparison.runs)),
        *notes(comparison),
    ]
    for run, difference in _differences(comparison):
        parts += [
            f"## {_over(comparison, run)}",
            render.markdown_table(GROUP_HEADINGS, _group_rows(difference)),
        ]
        directions = ("won", difference.won), ("lost", difference.lost), ("both wrong", difference.both_wrong)
        for name, flips in directions:
            parts += _flips(name, flips)
    return "\n\n".join(parts) + "\n"


def _flips(name: str, flips: Sequence[Flip]) -> list[str]:
    if not flips:
        return [f"### {name}: none"]
    rows = [[flip.key, flip.gold, flip.before, flip.after] for flip in flips[:FLIPS_SHOWN]]
    more = len(flips) - len(rows)
    table = render.markdown_table(["question", "right letter", "before", "after"], rows)
    return [f"### {name}: {len(flips)}", table, *([f"and {more} more: see report.json"] if more else [])]
