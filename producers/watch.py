"""Following a run until every item of it has an end.

    64/1328 settled, 48 held, 1216 waiting; 12.3/min, about 2 h 43 min left

It reads the ledger only, so it may be stopped and started again at any time.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from producers import dealings, progress, runs
from producers.runs import Standing
from shared import ledger
from shared.schema import State

Show = Callable[[Standing], None]
_BIG = 20_000  # items from which counting them every second would be felt


def follow(name: str) -> Standing:
    """Show a run's progress until no item of it is pending or held; give how it ended.

    Whatever keeps it from going on is said once.

    Raises:
        UserError: there is no such run.
    """
    standing = runs.standing(name)
    told: list[str] = []
    with _screen(standing) as show:
        while standing.open:
            show(standing)
            before, told = told, _troubles(standing)
            for sentence in told:
                if sentence not in before:
                    progress.note(sentence)
            time.sleep(1.0 if standing.total < _BIG else 5.0)
            standing = runs.standing(name)
        show(standing)
    return standing


def line(standing: Standing) -> str:
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
        pace.append(f"about {progress.span(standing.eta)} left")
    return ", ".join(parts) + ("; " + ", ".join(pace) if pace else "")


def _troubles(standing: Standing) -> list[str]:
    stalled = [stall(standing)] if standing.stalled else []
    return stalled + dealings.halts_in_words(ledger.get_run(standing.run))


def stall(standing: Standing) -> str:
    """Say that nobody works, and what to do."""
    loads = standing.kind in ("infer", "train")
    patience = " (one that starts needs a minute for its model)" if loads else ""
    return (
        f"no worker is taking {runs.UNITS[standing.unit]}{patience}: "
        f"start one with `votequeue up` or `votequeue worker {standing.kind}`"
    )


@contextlib.contextmanager
def _screen(standing: Standing) -> Iterator[Show]:
    out = progress.console()
    if not out.is_terminal:
        yield _logging(standing.run)
        return
    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[line]}", markup=False)
    with Progress(*columns, console=out) as bars:
        task = bars.add_task("", total=standing.total, line="")
        yield lambda now: bars.update(task, completed=now.settled, line=line(now))


def _logging(run: str) -> Show:
    told_at, told = 0.0, ""

    def show(standing: Standing) -> None:
        nonlocal told_at, told
        if time.monotonic() - told_at >= progress.LOG_EVERY or not standing.open:
            told_at = time.monotonic()
            if told != (told := line(standing)):
                progress.note(f"{run}: {told}")

    return show
