"""Progress bars and notes on stderr; stdout is for results.

    enqueueing  ━━━━━━━━━━━━━━━  12000/100000  1043/s  0:01:24

On a terminal the lines are live; elsewhere (a log, a pipe) one is printed every ten seconds.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LOG_EVERY = 10.0  # seconds between lines without a terminal
Advance = Callable[[int], None]


def console() -> Console:
    """Return the console for notes and progress; markup in texts is not interpreted."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    console().print(printable(text))


def printable(text: str) -> str:
    """Replace control characters, which a model's or user's text may contain."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    # C0 controls, DEL and C1 controls, which a terminal would interpret.
    control = character < " " or "\x7f" <= character < "\xa0"
    return "\N{REPLACEMENT CHARACTER}" if control and character not in "\n\t" else character


def plural(word: str) -> str:
    """Return the plural: ``questions``, ``entries``."""
    return "entries" if word == "entry" else word + "s"


def count(number: int, word: str) -> str:
    """Format a count: ``1 question``, ``2 entries``."""
    return f"{number} {word if number == 1 else plural(word)}"


def span(seconds: float) -> str:
    """Format a duration: ``47 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show a progress bar up to ``total``; call the yielded function with each amount done."""
    out = console()
    if not out.is_terminal:
        lines = _Lines(out, label, total, unit)
        yield lines.advance
        lines.end()
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), _Count(unit), TimeRemainingColumn()
    with Progress(*columns, console=out) as progress:
        task = progress.add_task(label, total=total)
        yield lambda amount: progress.advance(task, amount)


@contextlib.contextmanager
def steps() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show progress in several steps; call the yielded function with step name, bytes done, total bytes."""
    out = console()
    if not out.is_terminal:
        yield _Steps(out).report
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out) as progress:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step)
            progress.update(tasks[step], completed=done, total=total)

        yield report


class _Steps:
    """Steps without a terminal: one line per step, and one every ten seconds."""

    def __init__(self, out: Console) -> None:
        self._out, self._step, self._told = out, "", 0.0

    def report(self, step: str, done: int, total: int | None) -> None:
        if step == self._step and time.monotonic() - self._told < LOG_EVERY:
            return
        self._step, self._told = step, time.monotonic()
        share = f" {100 * done // total} %" if total else ""
        self._out.print(f"{step}{share}")


class _Count(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = f" {task.speed:.0f}/s" if task.speed else ""
        return Text(f"{_of(int(task.completed), task.total)} {self._unit}{speed}")


class _Lines:
    """A progress bar without a terminal."""

    def __init__(self, out: Console, label: str, total: int | None, unit: str) -> None:
        self._out, self._label, self._total, self._unit = out, label, total, unit
        self._begun = self._told = time.monotonic()
        self._done = 0

    def advance(self, amount: int) -> None:
        self._done += amount
        if time.monotonic() - self._told >= LOG_EVERY:
            self.end()

    def end(self) -> None:
        self._told = time.monotonic()
        rate = self._done / max(self._told - self._begun, 1e-3)
        self._out.print(f"{self._label}: {_of(self._done, self._total)} {self._unit}, {rate:.0f}/s")


def _of(done: int, total: float | None) -> str:
    return f"{done}" if total is None else f"{done}/{total:.0f}"
