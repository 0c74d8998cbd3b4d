"""Follow a run until every item of it has ended.

    12/25 settled, 13 held; 61 of 125 votes, 104 tokens/s; about 47 s left (from the votes finished so far)

It reads the ledger only, so it may be stopped and started again at any time.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from producers import console, run_progress
from producers.reports import api_usage, training_report
from producers.run_progress import RunProgress
from shared.ledger import runs

Show = Callable[[float, str, bool], None]  # the share done, a line that says how far that is, is it over
_BIG = 20_000  # items from which counting them every second would be felt


def follow(name: str) -> RunProgress:
    """Show a run's progress until no item of it is pending or held; give how it ended.

    Whatever keeps it from going on is said once.

    Raises:
        UserError: there is no such run.
    """
    standing = run_progress.progress_of(name)
    told: list[str] = []
    with _screen(standing) as show:
        while standing.open:
            show(*_seen(standing), False)
            before, told = told, _troubles(standing)
            for sentence in told:
                if sentence not in before:
                    console.note(sentence)
            time.sleep(1.0 if standing.total < _BIG else 5.0)
            standing = run_progress.progress_of(name)
        show(1.0, run_progress.line(standing), True)
    return standing


def _seen(standing: RunProgress) -> tuple[float, str]:
    if standing.kind == "train":
        found = training_report.report_of(standing.run)
        if found.step is not None and found.of:
            return found.step / found.of, training_report.line(found)
    return standing.share, run_progress.line(standing)


def _troubles(standing: RunProgress) -> list[str]:
    stalled = [run_progress.stall(standing)] if standing.stalled else []
    return stalled + api_usage.halts_in_words(runs.get_run(standing.run))


@contextlib.contextmanager
def _screen(standing: RunProgress) -> Iterator[Show]:
    out = console.console()
    if not out.is_terminal:
        yield _logging(standing.run)
        return
    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[line]}", markup=False)
    with Progress(*columns, console=out) as bars:
        task = bars.add_task("", total=1.0, line="")
        yield lambda share, words, _: bars.update(task, completed=share, line=words)


def _logging(run: str) -> Show:
    told_at, told = 0.0, ""

    def show(_share: float, words: str, over: bool) -> None:
        nonlocal told_at, told
        if time.monotonic() - told_at >= console.LOG_EVERY or over:
            told_at = time.monotonic()
            if told != (told := words):
                console.note(f"{run}: {told}")

    return show
