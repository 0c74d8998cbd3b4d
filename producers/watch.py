"""Follow a run until all its items have ended.

    12/25 settled, 13 held; 61 of 125 votes, 104 tokens/s; about 47 s left (from the votes finished so far)

It only reads the ledger, so it can be interrupted and restarted at any time.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from producers import console, run_progress
from producers.reports import api_usage, training_report
from producers.run_progress import RunProgress
from shared.errors import UserError
from shared.ledger import deadlines, runs

Show = Callable[[float, str, bool], None]  # completed share, status line, whether the run has ended
_BIG = 20_000  # items above which counting every second is too expensive


def follow(name: str, timeout: float | None = None, poll: float | None = None) -> RunProgress:
    """Show a run's progress until no item is pending or leased; return its final progress.

    Each problem that blocks the run is printed once. ``timeout`` and ``poll`` are in seconds.

    Raises:
        UserError: there is no such run, or an item is still open at the time-out.
    """
    progress = run_progress.progress_of(name)
    pause = (1.0 if progress.total < _BIG else 5.0) if poll is None else poll
    deadline = time.monotonic() + (math.inf if timeout is None else timeout)
    told: list[str] = []
    with _display(progress) as show:
        while progress.open:
            show(*progress_line(progress), False)
            before, told = told, problems(progress)
            for problem in told:
                if problem not in before:
                    console.note(problem)
            left = deadline - time.monotonic()
            if left <= 0:
                open_items = console.count(progress.open, progress.unit)
                raise UserError(f"run {name!r}: {open_items} still open after {timeout:g} s")
            time.sleep(min(pause, left))
            if progress.overdue:  # no worker has done it
                deadlines.answer_due(run=name)
            progress = run_progress.progress_of(name)
        show(1.0, run_progress.summary(progress), True)
    return progress


def progress_line(progress: RunProgress) -> tuple[float, str]:
    """Give the completed share of a run, and its progress in one line."""
    if progress.kind == "train":
        report = training_report.report_of(progress.run)
        if report.step is not None and report.of:
            return report.step / report.of, training_report.summary(report)
    return progress.share, run_progress.summary(progress)


def problems(progress: RunProgress) -> list[str]:
    """Describe what keeps a run from going on, and what to do."""
    blocked = progress.stalled or progress.unserved
    stalled = [run_progress.describe_stall(progress)] if blocked else []
    return (
        run_progress.describe_control(progress)
        + stalled
        + api_usage.describe_halts(runs.get_run(progress.run))
    )


@contextlib.contextmanager
def _display(progress: RunProgress) -> Iterator[Show]:
    out = console.console()
    if not out.is_terminal:
        yield _logging(progress.run)
        return
    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[line]}", markup=False)
    with Progress(*columns, console=out) as bars:
        task = bars.add_task("", total=1.0, line="")
        yield lambda share, line, _: bars.update(task, completed=share, line=line)


def _logging(run: str) -> Show:
    printed_at, printed = 0.0, ""

    def show(_share: float, line: str, over: bool) -> None:
        nonlocal printed_at, printed
        if time.monotonic() - printed_at >= console.LOG_EVERY or over:
            printed_at = time.monotonic()
            if printed != (printed := line):
                console.note(f"{run}: {printed}")

    return show
