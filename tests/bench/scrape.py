"""CPU time of a scrape of exporter and worker: `python -m tests.bench.scrape [--items 1000000] [...]`.

    | exporter, sqlite, open run | 1000000 | 72.9 | 1.41 |

The exporter reads the ledger at intervals, and a scrape gets what was read last. Both are measured, also for
an empty ledger; a read's time includes PostgreSQL's. In the open run, half of the items are done, and the
others have a message. In the ended run, all are done.
"""

import argparse
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import prometheus_client
import psutil
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from producers.exporter import Exporter
from shared import broker, metrics_server, settings
from shared.ledger import engine, schema
from shared.ledger.claims import Settled, VoteRecord
from shared.voices import VOICES
from shared.voting import Answer, Outcome
from tests import valkey
from tests.chaos import servers
from tests.integration import postgres
from tests.unit.test_instrumentation import CLAIM
from workers import instrumentation

LEDGERS = ("sqlite", "postgresql")
RUN = {"kind": "infer", "source": "data.jsonl", "digest": "d", "options": {}}


def main(items: int, times: int, ledgers: list[str]) -> None:
    """Print one row per ledger and state, and one for a worker."""
    print("| scraped | items | ms of CPU per read | ms of CPU per scrape |\n|---|---|---|---|", flush=True)
    for ledger in ledgers:
        with _settings(ledger):
            _row(f"exporter, {ledger}", 0, times)
            _fill("open", items, done=items // 2)
            _row(f"exporter, {ledger}, open run", items, times)
            with engine.writing() as connection:
                connection.execute(schema.items.update().values(state="done", settled_at=1.0))
            _vacuum()
            _row(f"exporter, {ledger}, ended run", items, times)
    with _settings("sqlite"):  # an answer's queue is that of its run
        _count_everything()
    scrape = _scrape(prometheus_client.REGISTRY, times)
    print(f"| worker, without an engine | | | {scrape:.2f} |", flush=True)


@contextlib.contextmanager
def _settings(ledger: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, valkey.running() as url, contextlib.ExitStack() as stack:
        os.environ.update(VOTEQUEUE_HOME=folder, VOTEQUEUE_BROKER_URL=url, VOTEQUEUE_LEDGER_URL="")
        if ledger == "postgresql":
            programs = postgres.binaries()
            assert programs, "PostgreSQL's server is not installed"
            os.environ["VOTEQUEUE_LEDGER_URL"] = stack.enter_context(postgres.server(programs))
        for made in (settings.load, engine.engine, broker.client):
            made.cache_clear()
        yield
        engine.engine().dispose()


def _fill(run: str, items: int, done: int) -> None:
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {items})"
    columns = (
        "run, number, key, entry, question, state, attempt, fence, losses, not_before, sent_at, settled_at"
    )
    state = f"CASE WHEN i < {done} THEN 'done' ELSE 'pending' END"
    settled = f"CASE WHEN i < {done} THEN 1.0 END"
    with engine.writing() as connection:
        connection.execute(schema.runs.insert().values(name=run, created_at=1.0, **RUN))
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.connection.dbapi_connection.patience = None  # type: ignore[union-attr]
        text = f"SELECT '{run}', i, i || '#1', i, 0, {state}, 1, 1, 0, 0.0, 2.0, {settled} FROM n"
        connection.execute(sa.text(f"INSERT INTO items ({columns}) {numbers} {text}"))
    _vacuum()


def _vacuum() -> None:
    """Do what a PostgreSQL server does by itself after a while."""
    if engine.engine().dialect.name == "postgresql":
        with engine.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.connection.dbapi_connection.patience = None  # type: ignore[union-attr]
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE")


def _row(name: str, items: int, times: int) -> None:
    exporter, registry = Exporter(), CollectorRegistry()
    registry.register(exporter)
    exporter.refresh()
    if items:
        counted = {
            state: registry.get_sample_value("votequeue_queue_items", {"queue": "infer", "state": state})
            for state in ("pending", "leased", "done", "dead")
        }
        assert sum(count or 0 for count in counted.values()) == items, counted
    read = _cpu(exporter.refresh, times, _postmaster())
    scrape = _scrape(registry, times)
    print(f"| {name} | {items} | {read:.1f} | {scrape:.2f} |", flush=True)


def _scrape(registry: CollectorRegistry, times: int) -> float:
    """Give the mean milliseconds of CPU time of a scrape by HTTP, with those of a simple client."""
    port = valkey.free_port()
    metrics_server.serve("127.0.0.1", port, registry)

    def get() -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            while client.recv(1 << 16):
                pass

    return _cpu(get, times)


def _cpu(action: Callable[[], object], times: int, servers_of: Sequence[int] = ()) -> float:
    """Give the mean milliseconds of CPU time, of this process and of servers."""
    before = time.process_time() + servers.cpu_seconds(servers_of)
    for _ in range(times):
        action()
    return 1000 * (time.process_time() + servers.cpu_seconds(servers_of) - before) / times


def _postmaster() -> list[int]:
    """Give the ledger's server, if it has one; its children work for it."""
    with engine.reading() as connection:
        if connection.dialect.name == "sqlite":
            return []
        return [psutil.Process(connection.scalar(sa.text("SELECT pg_backend_pid()"))).ppid()]


def _count_everything() -> None:
    """Give each counter the labels that a busy worker has."""
    for voice in VOICES:
        instrumentation.ASKED.labels(voice).inc(5)
        votes = [
            VoteRecord("", letter, None, accepted, 10, voice=voice)
            for letter, accepted in (("A", True), ("B", False), (None, False))
        ]
        instrumentation.rounds_settled([Settled(CLAIM, votes, None, "")], sampled=True)
    for how in Outcome:
        instrumentation.rounds_settled([Settled(CLAIM, [], Answer("A", how, 1), "")], sampled=True)
    for outcome in ("ok", "throttled", "failed", "no reply"):
        instrumentation.CALLS.labels("chat", "m", outcome).inc()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="CPU time of a scrape of exporter and worker.")
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the ledger")
    parser.add_argument("--times", type=int, default=20, help="reads and scrapes; the mean is printed")
    parser.add_argument("--ledger", choices=LEDGERS, action="append", help="default: both")
    given = parser.parse_args()
    main(given.items, given.times, given.ledger or list(LEDGERS))
