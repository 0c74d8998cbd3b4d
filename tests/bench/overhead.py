"""CPU time of queue and ledger per question: `python -m tests.bench.overhead [--questions 10000] [...]`.

    | postgresql | 10000 | 2.91 | 0.12 | 0.85 | 1.72 |

One worker answers a run with the fast generator of `tests.chaos`. The baseline is a worker with the same pool
and settings whose task does nothing. Their user and system time, and that of the servers, is divided by the
number of questions. With --full-ledger, a second run is answered in a ledger that holds so many questions.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
import sqlalchemy as sa

from shared import broker, settings
from shared.ledger import engine, schema
from shared.ledger.schema import OPEN
from tests.chaos import questions, servers, stage

STARTING = 120.0  # seconds
EVERY = 0.2  # seconds between two looks at what is left
LEDGERS = ("sqlite", "postgresql")
# With the rows of each question, or run.
COPIED = (
    schema.runs,
    schema.entries,
    schema.items,
    schema.begun_claims,
    schema.attempts,
    schema.votes,
    schema.rounds,
    schema.answers,
)


@dataclass(frozen=True)
class Cost:
    """Milliseconds of CPU time per question."""

    worker: float
    broker: float
    ledger: float

    @property
    def all(self) -> float:
        """Give the sum."""
        return self.worker + self.broker + self.ledger


def main() -> None:
    """Print one row per measurement, with its ratio to the baseline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--ledger", choices=LEDGERS, action="append", help="default: both")
    parser.add_argument("--full-ledger", type=int, default=0, help="questions recorded before a second run")
    chosen = parser.parse_args()
    with _folder() as folder:
        baseline = _of_nothing(folder, chosen.questions)
    print("| CPU, ms | questions | worker | broker | ledger | ratio | of workers |")
    print("|---|---|---|---|---|---|---|")
    print(_row("a task that does nothing", chosen.questions, baseline, baseline), flush=True)
    for ledger in chosen.ledger or LEDGERS:
        with _folder() as folder, _ledger(ledger, folder) as server:
            empty = _of_run(folder, server, "first", chosen.questions)
            print(_row(ledger, chosen.questions, empty, baseline), flush=True)
            if chosen.full_ledger:
                _fill("first", max(1, chosen.full_ledger // chosen.questions))
                full = _of_run(folder, server, "second", chosen.questions)
                print(_row(f"{ledger}, {chosen.full_ledger} recorded", chosen.questions, full, baseline))
                print(f"{ledger}: ratio of the full ledger to the empty one {full.all / empty.all:.2f}")


def _row(name: str, count: int, cost: Cost, baseline: Cost) -> str:
    figures = cost.worker, cost.broker, cost.ledger, cost.all / baseline.all, cost.worker / baseline.worker
    return f"| {name} | {count} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own user looks in
        yield folder


@contextlib.contextmanager
def _ledger(kind: str, folder: Path) -> Iterator[servers.Ledger]:
    server = stage.ledger_of(kind, folder)
    server.start()
    try:
        yield server
    finally:
        engine.engine().dispose()
        server.kill()


@contextlib.contextmanager
def _broker(folder: Path, ledger: str) -> Iterator[servers.Broker]:
    """Start a broker, and point this process and its children to it and to the ledger."""
    server = servers.Broker(folder / "valkey")
    server.start(wait=True)
    told = {"HOME": str(folder / "var"), "BROKER_URL": server.url, "LEDGER_URL": ledger}
    os.environ.update({f"VOTEQUEUE_{name}": value for name, value in told.items()})
    for made in (settings.load, engine.engine, broker.client):
        made.cache_clear()
    try:
        yield server
    finally:
        server.kill(forget=True)


def _of_nothing(folder: Path, count: int) -> Cost:
    """Measure the baseline."""
    with _broker(folder, f"sqlite:///{folder / 'unused.db'}") as server:
        loaded = settings.load()
        size, in_flight = loaded.batches
        subprocess.run([sys.executable, "-m", "tests.nothing_app", str(count)], check=True)
        words = ["worker", "--queues", "nothing", "--pool", "threads", "--concurrency", str(size * in_flight)]
        others = ["--without-gossip", "--without-mingle", "--loglevel", loaded.log_level]
        command = [sys.executable, "-m", "celery", "-A", "tests.nothing_app", *words, *others]
        left = redis.Redis.from_url(server.url)

        def is_over() -> bool:
            return not left.llen(f"{broker.KEY_PREFIX}nothing") and not left.hlen(broker.UNACKED)

        return _measured(command, b" ready.", folder / "log", is_over, server, None, count)


def _of_run(folder: Path, ledger: servers.Ledger, run: str, count: int) -> Cost:
    """Measure a run of so many questions."""
    with _broker(folder, ledger.url) as server:
        data = folder / "data.jsonl"
        questions.write(data, count)
        words = ["enqueue", "infer", str(data), "--run", run]
        command = [sys.executable, "-m", "producers.cli", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        items = schema.items.c
        is_open = sa.select(sa.literal(1)).where(items.run == run, items.state.in_(OPEN)).limit(1)

        def is_over() -> bool:
            with engine.reading() as connection:
                return connection.scalar(is_open) is None

        engine.ready()
        command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
        return _measured(command, b"ready: batches of", folder / f"{run}.log", is_over, server, ledger, count)


def _measured(
    command: list[str],
    ready: bytes,
    log: Path,
    is_over: Callable[[], bool],
    queue: servers.Broker,
    ledger: servers.Ledger | None,
    count: int,
) -> Cost:
    """Run a worker until all is over; give its CPU time, and the servers', from when it was ready."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as worker:
        assert queue.process is not None
        parts = [
            [worker.pid],
            [queue.process.pid],
            [process.pid for process in ledger.processes()[:1]] if ledger else [],
        ]
        deadline = time.monotonic() + STARTING
        while ready not in log.read_bytes():
            if worker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        before = [servers.cpu_seconds(pids) for pids in parts]
        while not is_over():
            time.sleep(EVERY)
        spent = [servers.cpu_seconds(pids) - earlier for pids, earlier in zip(parts, before, strict=True)]
        worker.terminate()
    return Cost(*(1000 * seconds / count for seconds in spent))


def _fill(run: str, copies: int) -> None:
    """Copy a run with all that is recorded of its questions."""
    for copy in range(copies):
        with engine.writing() as connection:
            for table in COPIED:
                name = table.c.name if table is schema.runs else table.c.run
                columns = [sa.literal(f"{run}-{copy}") if column is name else column for column in table.c]
                rows = sa.select(*columns).where(name == run)
                connection.execute(table.insert().from_select(list(table.c), rows))
    if engine.engine().dialect.name == "postgresql":
        # The server does this by itself within minutes, which would count as cost of the second run.
        with engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.connection.dbapi_connection.patience = None  # type: ignore[union-attr]
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.invalidate()


if __name__ == "__main__":
    main()
