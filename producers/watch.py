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
from producers.reports.training_report import TrainingReport
from producers.run_progress import RunProgress
from shared.ledger import runs
from shared.ledger.schema import State

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
        show(1.0, line(standing), True)
    return standing


def _seen(standing: RunProgress) -> tuple[float, str]:
    if standing.kind == "train":
        found = training_report.report_of(standing.run)
        if found.step is not None and found.of:
            return found.step / found.of, training(found)
    return standing.share, line(standing)


def line(standing: RunProgress) -> str:
    """Say in one line how far a run is."""
    states = standing.states
    held, pending, died = states[State.LEASED], states[State.PENDING], states[State.DEAD]
    waiting = f"waiting ({standing.put_off} of them put off)" if standing.put_off else "waiting"
    parts = [f"{standing.settled}/{standing.total} settled"]
    parts += [
        f"{count} {word}" for count, word in [(held, "held"), (pending, waiting), (died, "dead")] if count
    ]
    pace = [f"{standing.rate:.1f}/min"] if standing.rate else []
    if standing.open and standing.eta is not None:
        word = "at most" if standing.eta_at_most else "about"
        pace.append(f"{word} {console.span(standing.eta)} left (from {standing.eta_rests_on})")
    return "; ".join(", ".join(part) for part in (parts, _votes(standing), pace) if part)


def _votes(standing: RunProgress) -> list[str]:
    votes = standing.votes
    if votes is None or not standing.open:
        return []
    parts = [f"{votes.done} of {votes.total} votes"]
    if votes.not_begun:
        parts.append(f"{votes.not_begun} not begun (prompts are being read)")
    if votes.tokens_per_second:
        parts.append(f"{votes.tokens_per_second:.0f} tokens/s")
    return parts


def training(found: TrainingReport) -> str:
    """Say in one line how far a training is."""
    parts = [f"step {found.step} of {found.of}"]
    parts += [
        f"{word} {value:.3g}"
        for word, value in [
            ("loss", found.loss),
            ("learning rate", found.learning_rate),
            ("held-out AUC", found.auc),
        ]
        if value is not None
    ]
    told = ", ".join(parts)
    if found.steps_a_minute is not None:
        told += f"; {found.steps_a_minute:.1f} steps/min"
        told += f", about {console.span(found.eta)} left" if found.eta is not None else ""
    return told + (
        f"; checkpoint at step {found.saved}" if found.saved is not None else "; no checkpoint yet"
    )


def _troubles(standing: RunProgress) -> list[str]:
    stalled = [stall(standing)] if standing.stalled else []
    return stalled + api_usage.halts_in_words(runs.get_run(standing.run))


def stall(standing: RunProgress) -> str:
    """Say that nobody works, and what to do."""
    loads = standing.kind in ("infer", "train")
    patience = " (one that starts needs a minute for its model)" if loads else ""
    return (
        f"no worker is taking {console.plural(standing.unit)}{patience}: "
        f"start one with `votequeue up` or `votequeue worker {standing.kind}`"
    )


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
