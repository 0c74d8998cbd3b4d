"""The ways to answer that a replay compares, in words.

gate-weighted from 0.42  141/275  51.3 %  (45.4 - 57.2 %)  +4.7 (1.2 - 8.3)  1.0 rounds  896 tokens
"""

from producers import show
from producers.intervals import Interval
from producers.replay import Replay, Row
from producers.show import Rows

HEADINGS = [
    "way to answer",
    "right",
    "95 % interval",
    "points over the majority",
    "rounds",
    "tokens a question",
]


def report(found: Replay) -> None:
    """Print all ways to answer, and what they were compared on."""
    show.text(f"run {found.run}, {compared_on(found)}")
    show.table(map(cells, found.rows), HEADINGS)
    if found.scorer is None:
        show.text(
            f"no scorer has judged these votes: `votequeue enqueue infer {found.run} --scorer NAME` lets one"
        )


def compared_on(found: Replay) -> str:
    """Say whose scores these are, over which questions."""
    parts = [f"{found.questions} questions"]
    parts += [
        f"{count} left out ({why})"
        for count, why in [
            (found.unlabelled, "no right letter"),
            (found.learned, "the scorer was trained on their problems"),
            (found.otherwise, "not judged by this scorer"),
        ]
        if count
    ]
    judged = f"scores of {found.scorer}" if found.scorer else "no scores"
    auc = f", AUC {found.auc:.3f} over readable votes" if found.auc is not None else ""
    return f"{judged}{auc}: {', '.join(parts)}"


def page_rows(found: Replay) -> Rows:
    """Put the comparison into rows of two, for a page."""
    told = [(row[0], ", ".join(filter(None, row[1:]))) for row in map(cells, found.rows)]
    return [("compared on", compared_on(found)), *told]


def cells(row: Row) -> list[str]:
    """Put one way to answer into cells, as `HEADINGS` has them."""
    name = row.name if row.threshold is None else f"{row.name} from {row.threshold:.2f}"
    over = "" if row.over_majority is None else f"{100 * row.over_majority:+.1f}"
    if over and row.over_interval is not None:
        over += f" ({_points(row.over_interval)})"
    return [
        name,
        show.percent(row.right),
        f"{_points(row.interval)} %" if row.interval else "",
        over,
        "" if row.rounds is None else f"{row.rounds:.2f}",
        "" if row.tokens is None else f"{row.tokens:.0f}",
    ]


def _points(found: Interval) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in found)
