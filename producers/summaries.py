"""What a run came to, whatever it was for: found, put into rows, printed.

    printed(of_run("mine"))

Each kind of run has its figures (`report`, `harvest`, `course`, `replay`) and its words (`show_*`); which go
together is said here.
"""

from producers import (
    course,
    harvest,
    report,
    runs,
    show,
    show_dealings,
    show_replay,
    show_report,
    show_training,
)
from producers.course import Course
from producers.harvest import Harvest
from producers.replay import Replay
from producers.report import Figures
from producers.show import Rows
from shared.jobs import DATA_QUEUES

Summary = Figures | Harvest | Course | Replay


def of_run(run: str) -> Figures | Harvest | Course:
    """Work out what a run came to.

    Raises:
        UserError: there is no such run.
    """
    kind = runs.standing(run).kind
    if kind in DATA_QUEUES:
        return harvest.figures(run)
    return course.course(run) if kind == "train" else report.figures(run)


def rows(found: Summary) -> Rows:
    """Put all figures into rows of one table, for a page."""
    match found:
        case Harvest():
            return show_dealings.page_rows(found)
        case Course():
            return show_training.rows(found)
        case Replay():
            return show_replay.page_rows(found)
        case Figures():
            return show_report.rows(found)


def printed(found: Summary) -> None:
    """Print the figures."""
    match found:
        case Harvest():
            show_dealings.report(found)
        case Replay():
            show_replay.report(found)
        case _:
            show.table(rows(found), [f"run {found.run}", ""])
