"""A ledger in trouble: frozen writers, dark connections, conflicts, readers that may not write."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared import dataset, processes, settings
from shared.errors import Conflict, ServiceUnreachable, UserError
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, leases, outbox, postgres, runs, schema
from shared.ledger.runs import Run
from tests import waiting
from tests.conftest import Command, forget
from tests.integration import run_fixtures
from tests.integration.test_rounds import SAMPLING
from workers import liveness
from workers.liveness import Liveness
from workers.sqlite_watchdog import FrozenWriter


def open_run(folder: Path, questions: int = 8) -> list[Job]:
    path = run_fixtures.write(folder / "data.jsonl", run_fixtures.entry("p1", "A" * questions))
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = SAMPLING.model_dump()
    count = runs.open_run(Run("r", "infer", str(path), "d", None, options), lines)
    return [Infer(run="r", item=number) for number in range(count)]


@pytest.fixture
def on_postgres(home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.URL]:
    """Have an empty ledger on PostgreSQL; give its URL."""
    base = sa.make_url(postgres_url)
    maintenance = sa.create_engine(base, isolation_level="AUTOCOMMIT")
    name = f"trouble{time.monotonic_ns()}"
    with maintenance.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    maintenance.dispose()
    use(monkeypatch, base.set(database=name))
    yield base.set(database=name)
    forget()


def use(monkeypatch: pytest.MonkeyPatch, url: sa.URL) -> None:
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", url.render_as_string(hide_password=False))
    forget()


class DarkeningProxy:
    """Forwards to a port, until it goes dark: then it takes what is sent and answers nothing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.dark = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listener:
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if not self.dark.is_set():
                    sink.sendall(data)


def test_a_connection_that_goes_dark_is_given_up_and_the_next_one_works(
    on_postgres: sa.URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_run(tmp_path)
    monkeypatch.setattr(postgres.PatientConnection, "patience", 0.5)
    proxy = DarkeningProxy(on_postgres.port or 0)
    use(monkeypatch, on_postgres.set(port=proxy.port))
    assert runs.count_states("r")["pending"] == 8
    proxy.dark.set()
    begun = time.monotonic()
    with pytest.raises(ServiceUnreachable):
        runs.count_states("r")
    assert time.monotonic() - begun < 15
    proxy.dark.clear()
    assert runs.count_states("r")["pending"] == 8


def test_a_client_that_stands_still_within_a_transaction_holds_nobody_up(
    on_postgres: sa.URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = open_run(tmp_path)
    claims.claim(jobs, "silent", lease=0.001)
    monkeypatch.setitem(engine._SESSION_LIMITS, "idle_in_transaction_session_timeout", 1500)
    forget()
    with engine.engine().connect() as frozen:
        frozen.execute(sa.text("SELECT 1 FROM items WHERE number < 4 FOR UPDATE")).all()
        # A sweep takes the others, and these once the server has ended the frozen client's session.
        assert claims.expire(5) == jobs[4:]
        time.sleep(2)
        assert claims.expire(5) == jobs[:4]
        frozen.invalidate()


def test_a_worker_of_another_machine_is_dead_when_its_session_is_gone_and_stays_so(
    on_postgres: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "STEADY", 0.001)
    monkeypatch.setattr(liveness, "MISSING", 0.3)
    ours, theirs = leases.Session(), leases.Session()
    assert ours.keep() is not None
    leases.heartbeat("theirs", 60, None, theirs.keep())
    leases.heartbeat("too old to have one", 60)
    watch = Liveness(ours)
    assert watch.look() == []
    theirs.close()
    # It may just be taking its lock again.
    assert watch.look() == []
    theirs.keep()
    time.sleep(0.4)
    leases.heartbeat("theirs", 60, None, theirs.keep())
    assert watch.look() == []
    theirs.close()
    watch.look()
    time.sleep(0.4)
    assert watch.look() == ["theirs"]
    ours.close()
    assert watch.look() == []


def test_a_deadlock_is_tried_again_at_once(on_postgres: sa.URL, tmp_path: Path) -> None:
    open_run(tmp_path)
    met = threading.Barrier(2)
    tries: list[int] = []

    @engine.retried
    def lock(first: int, second: int) -> None:
        tries.append(first)
        with engine.writing() as connection:
            for number in (first, second):
                connection.execute(
                    schema.items.update().where(schema.items.c.number == number).values(losses=number)
                )
                if len(tries) <= 2 and number == first:
                    met.wait(10)

    threads = [threading.Thread(target=lock, args=pair) for pair in ((0, 1), (1, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) >= 3


def test_a_conflict_that_never_ends_is_said_in_the_end(on_postgres: sa.URL) -> None:
    @engine.retried
    def conflict() -> None:
        with engine.writing() as connection:
            connection.execute(sa.text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(Conflict):
        conflict()


@pytest.mark.usefixtures("any_ledger")
def test_workers_that_write_the_same_items_in_any_order_never_wait_for_each_other(tmp_path: Path) -> None:
    jobs = open_run(tmp_path, 40)
    failures: list[Exception] = []

    def worker(name: str, work: Callable[[str], object]) -> None:
        try:
            for _ in range(15):
                work(name)
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    def claim_and_give_back(name: str) -> None:
        held = claims.claim(reversed(jobs), name, 60)
        claims.begin(reversed(held))
        half = len(held) // 2
        claims.lose(held[half:][::-1], "bug", 1000, alone=False)
        claims.release(held[:half][::-1], "stopped")

    def sweep(_: str) -> None:
        claims.expire(1000)
        outbox.mark_sent(jobs[::-1])
        outbox.forget_sent()
        outbox.make_due("r")

    works = [claim_and_give_back] * 3 + [sweep] * 2
    conflicts: list[object] = []
    sa.event.listen(engine.engine(), "handle_error", conflicts.append)
    threads = [threading.Thread(target=worker, args=(f"w{at}", work)) for at, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert conflicts == []


def test_readers_need_neither_the_write_lock_nor_the_right_to_write(
    home: Path, votequeue: Command, tmp_path: Path
) -> None:
    open_run(tmp_path)
    path = settings.load().home / "ledger.db"
    forget()
    with closing(sqlite3.connect(path, isolation_level=None)) as busy:
        busy.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert "8" in votequeue("status", "r").out
        assert "0 of 8 questions" in votequeue("collect", "r", "-o", tmp_path / "out.jsonl").out
        assert votequeue("report", "r").code == 0
        assert time.monotonic() - begun < 10
        busy.execute("ROLLBACK")


def test_postgres_readers_may_be_users_who_cannot_write(
    on_postgres: sa.URL, monkeypatch: pytest.MonkeyPatch, votequeue: Command, tmp_path: Path
) -> None:
    open_run(tmp_path)
    with engine.writing() as connection:
        name = f"reader{time.monotonic_ns()}"
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(sa.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"))
    use(monkeypatch, on_postgres.set(username=name))
    assert votequeue("status", "r").code == 0
    assert "0 of 8 questions" in votequeue("collect", "r", "-o", tmp_path / "out.jsonl").out
    with pytest.raises(UserError, match="cannot be written"):
        claims.claim([Infer(run="r", item=0)], "one", 60)


FROZEN = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("home")
def test_a_stopped_worker_that_holds_the_write_lock_is_ended_after_its_lease_and_a_stranger_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_run(tmp_path)
    path = settings.load().home / "ledger.db"
    watch = FrozenWriter(path, patience=0.2)
    own = leases.own_process()
    assert own is not None
    with subprocess.Popen([sys.executable, "-c", FROZEN, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        watch.look()
        os.kill(writer.pid, signal.SIGSTOP)
        waiting.until(lambda: processes.state(writer.pid) == "T")
        for _ in range(2):
            watch.look()
            time.sleep(0.3)
        watch.look()
        assert f"process {writer.pid} is stopped and holds the write lock" in caplog.text
        assert writer.poll() is None
        started = processes.start(writer.pid)
        os.kill(writer.pid, signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", FROZEN, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        started = processes.start(writer.pid)
        leases.heartbeat("frozen", 60, replace(own, pid=writer.pid, started=started))
        writer.stdout.readline()
        os.kill(writer.pid, signal.SIGSTOP)
        waiting.until(lambda: processes.state(writer.pid) == "T")
        for _ in range(2):
            watch.look()
            time.sleep(0.3)
        assert writer.wait(timeout=5) == -signal.SIGKILL
    claims.claim([Infer(run="r", item=0)], "one", 60)


@pytest.mark.usefixtures("home")
def test_a_ledger_where_nothing_can_be_written_is_read_all_the_same(
    tmp_path: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path)
    forget()
    # Root may write everything: the system is asked whether we may.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert votequeue("status", "r").code == 0
    with pytest.raises(UserError, match="cannot be written"):
        claims.claim([Infer(run="r", item=0)], "one", 60)


@pytest.mark.usefixtures("home")
def test_the_sweep_looks_at_what_is_pending_through_indexes_alone(tmp_path: Path) -> None:
    open_run(tmp_path)
    plans: list[str] = []

    def explain(connection: sa.Connection, statement: str, parameters: object) -> None:
        if "items" in statement and statement.startswith(("SELECT", "UPDATE")):
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[-1]) for row in rows)

    def before(connection: sa.Connection, _c: object, statement: str, parameters: object, *_: object) -> None:
        explain(connection, statement, parameters)

    sa.event.listen(engine.engine(), "before_cursor_execute", before)
    outbox.unsent(100)
    outbox.left_over(["infer"], 100, 1.0)
    outbox.forget_sent(older_than=10, queue="infer")
    claims.expire(5)
    looked = [plan for plan in plans if "items" in plan]
    assert looked
    assert [plan for plan in looked if plan.startswith("SCAN items")] == []
