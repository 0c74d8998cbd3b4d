"""How workers add up: `python -m tests.bench.scaling [--workers 2,4,8,16] [--ledger sqlite|postgresql]`.

Real workers on simulated GPUs (`tests.chaos.generators.SimulatedGpu`), each good for ``--rate`` questions a
second of five votes. For each number of workers it prints questions/s, the ratio to linear growth from the
first number, and the processor time a question of workers, broker and ledger. ``--rate 0`` takes no time to
sample: it shows the ceiling of the queue and the ledger.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from tests.chaos import generators, questions, servers, stage
from tests.chaos.fleet import Fleet

RUN = "scaling"
VOTES, MEAN_TOKENS = 5, 150
# The rate is taken between these shares of the questions: before, workers fill up, and after, they run dry.
FROM, TO = 0.2, 0.8
# Twice the default: enough questions for all slots while others wait for the last of their votes.
SETTINGS = {"BATCHES_IN_FLIGHT": "8"}
_SETTLED = sa.text("SELECT ended_at FROM attempts WHERE ended_at IS NOT NULL ORDER BY ended_at")


@dataclass(frozen=True)
class Measured:
    """Questions a second, and the processor time a question, in ms, by kind of process."""

    rate: float
    processor: dict[str, float]


def main() -> int:
    """Print a row for each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", default="2,4,8,16")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--rate", type=float, default=10.0, help="questions/s of a simulated GPU")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds' worth of questions")
    parser.add_argument("--questions", type=int, help="instead of --seconds")
    chosen = parser.parse_args()
    print("workers  questions/s  of linear  worker ms  broker ms  ledger ms")
    first: tuple[int, float] | None = None
    for workers in map(int, chosen.workers.split(",")):
        count = chosen.questions or round(chosen.seconds * chosen.rate * workers)
        found = measure(workers, count, chosen.rate, chosen.ledger)
        first = first or (workers, found.rate)
        linear = found.rate / (first[1] * workers / first[0])
        spent = "".join(f"{ms:11.2f}" for ms in found.processor.values())
        print(f"{workers:7}{found.rate:13.1f}{linear:11.3f}{spent}", flush=True)
    return 0


def measure(workers: int, count: int, rate: float, ledger: str) -> Measured:
    """Have some workers answer so many questions."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user looks in
        simulate(folder, rate)
        try:
            with stage.set_up(folder, ledger, workers, SETTINGS, lambda: enqueue(folder, count)) as (
                broker,
                store,
                fleet,
            ):
                ended = until_settled(fleet, store, count)
                processor = {who: 1000 * spent / count for who, spent in used(fleet, broker, store).items()}
        finally:
            del os.environ[generators.VOTES], os.environ[generators.STEP]
    at, until = (ended[int(share * (len(ended) - 1))] for share in (FROM, TO))
    return Measured((TO - FROM) * len(ended) / (until - at), processor)


def simulate(folder: Path, rate: float) -> None:
    """Tell workers to be started the votes of their simulated GPUs, and the time of a step."""
    chance = random.Random(7)
    votes = [
        [
            ("因为如此。\n答案是：A", max(1, round(chance.gammavariate(4, MEAN_TOKENS / 4))))
            for _ in range(VOTES)
        ]
        for _ in range(1000)
    ]
    mean = sum(tokens for _, tokens in itertools.chain(*votes)) / (VOTES * len(votes))
    path = folder / "votes.json"
    path.write_text(json.dumps(votes, ensure_ascii=False), "utf-8")
    step = generators.SLOTS / (rate * VOTES * mean) if rate else 0.0
    os.environ |= {generators.VOTES: str(path), generators.STEP: str(step)}


def enqueue(folder: Path, count: int) -> None:
    """Enqueue that many questions."""
    questions.write(data := folder / "data.jsonl", count)
    command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", str(data), "--run", RUN]
    subprocess.run([*command, "--votes", str(VOTES)], check=True, stdout=subprocess.DEVNULL)


def until_settled(fleet: Fleet, store: servers.Ledger, count: int) -> list[float]:
    """Wait for all answers; give when each was settled, in seconds since the epoch."""
    engine = sa.create_engine(store.url, poolclass=sa.NullPool)
    while True:
        fleet.watch()
        if fleet.deaths:
            sys.exit(f"a worker has died: {fleet.deaths[0]}")
        with engine.connect() as connection:
            ended = list(connection.scalars(_SETTLED)) if stage.count_open(store.url) == 0 else []
        if len(ended) >= count:
            return ended
        time.sleep(2.0)


def used(fleet: Fleet, broker: servers.Broker, store: servers.Ledger) -> dict[str, float]:
    """Give the processor time of workers, broker and ledger server so far, in seconds."""
    assert broker.process is not None
    return {
        "workers": servers.cpu_seconds(fleet.pids),
        "broker": servers.cpu_seconds([broker.process.pid]),
        # Its first process is the others' parent.
        "ledger": servers.cpu_seconds(process.pid for process in store.processes()[:1]),
    }


if __name__ == "__main__":
    sys.exit(main())
