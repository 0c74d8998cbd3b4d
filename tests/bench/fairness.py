"""How long a small run waits behind a large one: `python -m tests.bench.fairness [--large 100000]`.

    alone          100 questions   1.4 s
    behind 100000  100 questions   3.0 s   2.1 x alone
    priority 1     100 questions   2.2 s   1.6 x alone

The product's workers answer over the fast generator of the chaos harness. Each small run is enqueued after
workers have begun with the large one; its time is from its record in the ledger to its last answer.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from tests.chaos import questions, stage

POLL = 0.1  # seconds


def main(large: int, small: int, workers: int, ledger: str) -> None:
    """Time a small run alone, behind a large one, and with a higher priority."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user looks in
        for run, count in (("large", large), ("small", small)):
            questions.write(folder / f"{run}.jsonl", count)
        with stage.set_up(folder, ledger, workers, {}) as (_, server, fleet):
            engine = sa.create_engine(server.url, poolclass=sa.NullPool)

            def answered(run: str) -> int:
                query = sa.text("SELECT count(*) FROM answers WHERE run = :run")
                with engine.connect() as connection:
                    return int(connection.scalar(query, {"run": run}) or 0)

            def await_answers(run: str, count: int) -> float:
                while answered(run) < count:
                    fleet.watch()
                    time.sleep(POLL)
                query = sa.text(
                    "SELECT max(answered_at) - min(created_at) FROM answers JOIN runs ON name = run "
                    "WHERE run = :run"
                )
                with engine.connect() as connection:
                    return float(connection.scalar(query, {"run": run}) or 0.0)

            command("enqueue", "infer", folder / "small.jsonl", "--run", "alone")
            alone = await_answers("alone", small)
            show("alone", small, alone)
            command("enqueue", "infer", folder / "large.jsonl", "--run", "large")
            await_answers("large", min(large, 500))
            for label, run, priority in ((f"behind {large}", "behind", 0), ("priority 1", "first", 1)):
                command("enqueue", "infer", folder / "small.jsonl", "--run", run)
                if priority:
                    command("priority", run, priority)
                show(label, small, await_answers(run, small), alone)
            print(f"{large - answered('large')} of the large run's {large} questions are open")


def command(*words: object) -> None:
    """Run a command of votequeue."""
    line = [sys.executable, "-m", "producers.cli", *map(str, words)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def show(label: str, count: int, seconds: float, alone: float | None = None) -> None:
    """Print the time of a run."""
    ratio = f" {seconds / alone:5.1f} x alone" if alone else ""
    print(f"{label:14} {count:6} questions {seconds:7.1f} s{ratio}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    main(**vars(parser.parse_args()))
