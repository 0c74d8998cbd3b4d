"""Runs that are paused, resumed, cancelled and reordered at random while workers are killed.

`python -m tests.chaos.controls [--ledger postgresql] [--seconds 12] [--seed 7]`: every question of a run that
was not cancelled is answered exactly once; those of the cancelled run are answered once or cancelled.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from shared.errors import UserError
from shared.ledger import controls, engine
from shared.ledger.schema import State
from tests.chaos import figures, questions, stage
from tests.chaos.figures import Figures
from tests.chaos.fleet import Fleet

RUNS, DOOMED = ("one", "two", "three"), "three"
PATIENCE = 120.0  # seconds for the rest, once the disturbances are over


def main(ledger: str, seconds: float, seed: int, count: int, workers: int) -> int:
    """Play, count, and tell what is broken."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user looks in
        questions.write(folder / "data.jsonl", count)
        with stage.set_up(folder, ledger, workers, {}, lambda: enqueue(folder)) as (_, server, fleet):
            disturb(fleet, chance, seconds)
            for run in RUNS:
                control(controls.resume, run)
            deadline = time.monotonic() + PATIENCE
            while stage.count_open(server.url) != 0 and time.monotonic() < deadline:
                fleet.watch()
                time.sleep(0.1)
            fleet.end()
            broken = [fault for run in RUNS for fault in faults(server.url, run, count)]
            kills = sum(death.ours for death in fleet.deaths)
    print(f"{kills} kills on {ledger}")
    print("\n".join(broken) or "every promise was kept")
    return int(bool(broken))


def enqueue(folder: Path) -> None:
    """Enqueue all runs over the same data."""
    for run in RUNS:
        line = ["enqueue", "infer", str(folder / "data.jsonl"), "--run", run]
        subprocess.run([sys.executable, "-m", "producers.cli", *line], check=True, stdout=subprocess.DEVNULL)


def disturb(fleet: Fleet, chance: random.Random, seconds: float) -> None:
    """Pause, resume, reorder and once cancel runs, and kill workers."""
    begun, cancelled = time.monotonic(), False
    while (passed := time.monotonic() - begun) < seconds:
        fleet.watch()
        run = chance.choice(RUNS)
        what = chance.choice(("pause", "resume", "resume", "priority", "kill"))
        if not cancelled and passed > seconds / 3:
            control(controls.cancel, DOOMED)
            cancelled = True
        elif what == "pause":
            control(controls.pause, run)
        elif what == "resume":
            control(controls.resume, run)
        elif what == "priority":
            control(controls.set_priority, run, chance.randint(-1, 1))
        elif awake := fleet.awake():
            fleet.kill(chance.choice(awake))
        time.sleep(chance.uniform(0.05, 0.4))


def control(change: Callable[..., object], run: str, *more: int) -> None:
    """Change what a run may do, and close the ledger: workers are forks of this process."""
    try:
        change(run, *more)
    except UserError as error:
        # Only the cancelled run refuses.
        if f"run {DOOMED!r} is cancelled" not in str(error):
            raise
    finally:
        engine.engine().dispose()
        engine.engine.cache_clear()


def faults(url: str, run: str, count: int) -> list[str]:
    """Say what is wrong with a run."""
    opened = sa.create_engine(url, poolclass=sa.NullPool)
    found = Figures(scenario=run)
    figures.read_ledger(opened, found, run, ())
    query = sa.text("SELECT count(*) FROM items WHERE run = :run AND state = :state")
    with opened.connect() as connection:
        given_up = connection.scalar(query, {"run": run, "state": State.CANCELLED.value})
    broken = []
    if found.answered + (given_up or 0) != count or (given_up and run != DOOMED):
        broken.append(f"{run}: {found.answered} answered, {given_up} cancelled, of {count}")
    if found.twice or found.wrong or found.wrongly_charged or found.buried:
        broken.append(
            f"{run}: {found.twice} twice, {found.wrong} wrong, {found.wrongly_charged} wrongly charged, "
            f"{found.buried} buried"
        )
    return broken + [f"{run}: {note}" for note in found.notes]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.controls", description=__doc__)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=int, default=150, dest="count")
    parser.add_argument("--workers", type=int, default=2)
    sys.exit(main(**vars(parser.parse_args())))
