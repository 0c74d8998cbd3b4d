"""Control over runs: pause, resume, cancel, delete, priority and retention, on every database."""

import asyncio
import io
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from producers import Client, collect
from producers.collect import Collected
from shared import broker
from shared.errors import Halted, UserError
from shared.jobs import Infer
from shared.ledger import calls, claims, controls, engine, leases, outbox, runs, schema
from shared.ledger import retention as ledger_retention
from shared.ledger.calls import CallPurpose
from shared.ledger.schema import State
from shared.options import Sampling
from tests import waiting
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import run_fixtures
from tests.integration.test_reconcile import items_in_turn, sweep_steadily
from workers import infer, outcomes, reconcile, settlement, task_runner
from workers.inference.batcher import Batcher
from workers.inference.rounds import Rounds

SAMPLING = Sampling(votes=3, max_attempts=2, scorer="none", lora="none")


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str) -> None:
    """Have a broker that answers and an empty ledger, in this order: the former empties the environment."""
    assert engine.engine().dialect.name == any_ledger
    assert on_broker


def enqueue(home: Path, name: str = "r", questions: int = 4, **changes: Any) -> None:
    data = run_fixtures.write(
        home / f"{name}.jsonl", *(run_fixtures.entry(f"{name}{at}") for at in range(questions))
    )
    run_fixtures.infer(data, SAMPLING.model_copy(update=changes), name)


def states(run: str = "r") -> dict[str, int]:
    return {state: count for state, count in runs.count_states(run).items() if count}


def sweep() -> reconcile.Swept:
    from shared import settings

    sweep_steadily()
    return reconcile.sweep("one", settings.load())


def rows_of(run: str) -> dict[str, int]:
    """Count the rows of a run in all tables."""
    with engine.reading() as connection:
        counted = {
            table.name: connection.scalar(sa.select(sa.func.count()).where(table.c.run == run))
            for table in schema.metadata.sorted_tables
            if "run" in table.c
        }
    return {name: count for name, count in counted.items() if count}


# Pause


def test_a_paused_run_is_not_claimed_and_has_no_messages_until_it_is_resumed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enqueue(home)
    (held,) = run_fixtures.claim("r", 0)
    Client().pause("r")
    assert run_fixtures.claim("r", 1, 2, 3) == []
    sweep()
    assert broker.waiting("infer") == 0
    assert outbox.unsent(10) == []
    # What is in play is finished, and what is given back counts no attempt.
    run_fixtures.vote(held, [run_fixtures.ballot("A")] * 3)
    assert states() == {State.PENDING: 3, State.DONE: 1}
    capsys.readouterr()
    assert (
        Client().enqueue_infer("r.jsonl", run="r", votes=3, max_attempts=2, scorer="none", lora="none").sent
        == 0
    )
    assert "run r is paused: `votequeue resume r` sends its messages" in capsys.readouterr().err
    assert Client().resume("r") == 3
    assert [held.attempt for held in run_fixtures.claim("r", 1, 2, 3)] == [1, 1, 1]


def test_a_question_of_a_paused_run_that_is_asked_again_gets_no_message(home: Path) -> None:
    enqueue(home)
    broker.client().flushall()
    (held,) = run_fixtures.claim("r", 0)
    controls.pause("r")
    settlement.publish(claims.release([held], "stopped"))
    assert broker.waiting("infer") == 0
    settlement.publish([])
    controls.resume("r")
    settlement.publish([held.job])
    assert broker.waiting("infer") == 1


def test_a_message_of_a_paused_run_finds_nothing_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(home)
    controls.pause("r")
    task_runner.claimer.cache_clear()
    assert task_runner.run(Infer(run="r", item=0), lambda _: pytest.fail("it was claimed")) == (
        outcomes.NOTHING_TO_DO
    )
    assert states() == {State.PENDING: 4}


def test_status_says_that_a_run_is_paused_and_does_not_call_it_stalled(
    home: Path, votequeue: Command
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 1)
    assert votequeue("pause", "r").code == 0
    assert votequeue("priority", "r", "3").code == 0
    with engine.writing() as connection:
        connection.execute(schema.runs.update().values(created_at=0.0))
    leases.heartbeat("one", 60, queues=["train"])
    progress = Client().progress("r")
    assert (progress.control, progress.priority, progress.stalled) == ("paused", 3, False)
    assert (progress.rate, progress.eta, progress.unserved) == (0, None, False)
    assert "start one with" not in votequeue("status").out + votequeue("status", "r").out
    said = votequeue("status", "r").out
    assert "the run is paused: `votequeue resume r` continues it" in said
    assert "priority 3" in said
    assert "paused, priority 3" in votequeue("status").out
    assert "run r: 3 messages sent" in votequeue("resume", "r").out
    assert Client().progress("r").control == "active"


def test_claims_and_pauses_at_once_lose_nothing(home: Path) -> None:
    enqueue(home, questions=60)
    over, taken = threading.Event(), []

    def paused_and_resumed() -> bool:
        controls.pause("r")
        controls.resume("r")
        return states().get(State.DONE) == 60

    def work(worker: str) -> None:
        while not over.is_set():
            for held in run_fixtures.claim("r", *range(60), worker=worker)[:7]:
                taken.append(held.job.item)
                run_fixtures.vote(held, [run_fixtures.ballot("A")] * 3)
            claims.release_all(worker, "the rest")

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    waiting.until(paused_and_resumed)
    over.set()
    for thread in threads:
        thread.join()
    assert states() == {State.DONE: 60}
    with engine.reading() as connection:
        answers = connection.execute(sa.select(schema.answers.c.number, schema.answers.c.attempt)).all()
    assert sorted(number for number, _ in answers) == list(range(60))
    assert {attempt for _, attempt in answers} == {1}
    assert sorted(taken) == list(range(60))


# Cancel


def test_cancelling_ends_open_items_and_keeps_answers_and_can_be_repeated(
    home: Path, votequeue: Command
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 1)
    (held,) = run_fixtures.claim("r", 1)
    assert "3 items ended without a result" in votequeue("cancel", "r").out
    assert states() == {State.DONE: 1, State.CANCELLED: 3}
    assert "run r is cancelled: 0 items ended" in votequeue("cancel", "r").out
    # Late writes are refused, and nothing becomes open again.
    run_fixtures.vote(held, [run_fixtures.ballot("B")] * 3)
    assert claims.release([held], "late") == []
    assert claims.lose([held], "late", 3, alone=True) == []
    assert states() == {State.DONE: 1, State.CANCELLED: 3}
    assert rows_of("r")["votes"] == 5
    history = votequeue("trace", "r", "r1#1").out
    assert "r1#1 (item 1 of run r): cancelled" in history
    assert ": cancelled" in history
    sweep()
    assert broker.waiting("infer") == 0


def test_status_report_and_collect_say_that_a_run_is_cancelled(home: Path, votequeue: Command) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 1)
    controls.cancel("r")
    assert "the run is cancelled: 3 questions ended without a result" in votequeue("status", "r").out
    assert "4: 1 answered, 0 dead, 0 open, 3 cancelled" in votequeue("report", "r").out
    ended = votequeue("collect", "r", "-o", "answers.jsonl", "--wait")
    assert (ended.code, "3 of 4 questions have no answer (3 cancelled)" in ended.err) == (1, True)
    counts = collect.collect("r", home / "more.jsonl")
    assert isinstance(counts, Collected)
    assert (counts.answered, counts.cancelled, counts.open) == (1, 3, 0)
    assert [answer.letter for answer in Client().collect("r")] == ["A", None, None, None]


def test_cancelling_a_finished_run_changes_nothing(home: Path, votequeue: Command) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    assert "run r has no open items: it stays as it is" in votequeue("cancel", "r").out
    assert '"control": "active"' in votequeue("cancel", "r", "--json").out
    enqueue(home, "more", 1)
    assert Client().enqueue_infer(home / "more.jsonl", append_to="r").sent == 1


def test_a_cancelled_run_takes_no_more_work(home: Path, votequeue: Command) -> None:
    enqueue(home)
    controls.cancel("r")
    for command in (
        ("resume", "r"),
        ("pause", "r"),
        ("priority", "r", "1"),
        ("failed", "r", "--retry"),
        ("enqueue", "infer", "r.jsonl", "--append-to", "r"),
    ):
        ended = votequeue(*command)
        assert (ended.code, "run 'r' is cancelled" in ended.err) == (1, True), command
    with pytest.raises(UserError, match="is cancelled"):
        enqueue(home)
    with pytest.raises(UserError, match="is cancelled"):
        runs.append("r", [])


def test_cancelling_while_questions_are_settled_writes_each_once_or_not_at_all(home: Path) -> None:
    enqueue(home, questions=120)
    held = run_fixtures.claim("r", *range(120))
    kept: list[int] = []

    def settle() -> None:
        for claim in held:
            before = states().get(State.DONE, 0)
            run_fixtures.vote(claim, [run_fixtures.ballot("A")] * 3)
            kept.append(states().get(State.DONE, 0) - before)

    thread = threading.Thread(target=settle)
    thread.start()
    while len(kept) < 20:
        time.sleep(0.001)
    ended = controls.cancel("r")
    thread.join()
    assert states() == {State.DONE: 120 - ended, State.CANCELLED: ended}
    assert ended > 0
    rows = rows_of("r")
    assert (rows["answers"], rows["votes"]) == (120 - ended, 3 * (120 - ended))


def test_a_paused_or_cancelled_run_makes_no_calls(home: Path) -> None:
    enqueue(home)
    with engine.writing() as connection:
        calls.put_budget(connection, "r", None)
    purpose = CallPurpose("r", 0, "vote 1", "chat", "m")
    calls.finish(calls.begin(purpose, 0.0), calls.OK)
    controls.pause("r")
    with pytest.raises(Halted, match="run r makes no calls now"):
        calls.begin(purpose, 0.0)
    controls.resume("r")
    calls.finish(calls.begin(purpose, 0.0), calls.OK)
    controls.cancel("r")
    with pytest.raises(Halted):
        calls.begin(purpose, 0.0)


def test_work_in_play_is_aborted_at_the_engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(home)
    enqueue(home, "other", 1)

    async def play() -> list[str]:
        service, hold = infer.Answering(), asyncio.Event()
        service._loop.close()
        service._loop = asyncio.get_running_loop()
        generator = FakeGenerator(hold=hold)
        playing = Rounds(generator, FakeScorer(), lambda _: FakeRetriever())
        service._batches = Batcher(
            lambda batch, ended: infer.run_round(playing, batch, ended), size=16, in_flight=4, linger=0.0
        )
        tasks = [
            asyncio.create_task(service._batches.submit(held, group=held.job.run))
            for run, numbers in (("r", (0, 1)), ("other", (0,)))
            for held in run_fixtures.claim(run, *numbers)
        ]
        while len(generator.requests) < 3:
            await asyncio.sleep(0.01)
        controls.cancel("r")
        await asyncio.to_thread(service.heed_controls)
        await asyncio.wait(tasks[:2])
        assert all(task.cancelled() for task in tasks[:2])
        hold.set()
        return [await tasks[2]]

    assert asyncio.run(play()) == ["A: unscored majority, 1 of 1 votes"]
    assert states() == {State.CANCELLED: 4}
    assert states("other") == {State.DONE: 1}


def test_an_aborted_group_leaves_the_others_waiting() -> None:
    async def play() -> tuple[list[str], set[object]]:
        going = asyncio.Event()

        async def run(items: list[str], _: object) -> list[str]:
            await going.wait()
            return items

        batcher: Batcher[str, str] = Batcher(run, size=1, in_flight=1, linger=0.0)
        names = ("a", "a", "b", "a", "b")
        tasks = [asyncio.create_task(batcher.submit(name, group=name)) for name in names]
        await asyncio.sleep(0.01)
        groups = batcher.groups
        batcher.abort("a", "it is cancelled")
        going.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.stop(abort=True)
        return [result if isinstance(result, str) else "aborted" for result in results], groups

    assert asyncio.run(play()) == (["aborted", "aborted", "b", "aborted", "b"], {"a", "b"})


# Delete


def test_a_deleted_run_has_no_rows_and_its_name_is_not_used_again(home: Path, votequeue: Command) -> None:
    enqueue(home)
    enqueue(home, "other")
    run_fixtures.answer_all("r", 2)
    run_fixtures.answer_all("other", 2)
    ended = votequeue("delete", "r", "--yes")
    assert (ended.code, "2 open items: `votequeue cancel r` first" in ended.err) == (1, True)
    controls.cancel("r")
    before = rows_of("other")
    assert votequeue("delete", "r", "--yes").code == 0
    assert "infer" in outbox.to_rearrange()
    assert rows_of("r") == {}
    assert runs.find_run("r") is None
    assert rows_of("other") == before
    with engine.reading() as connection:
        assert connection.scalars(sa.select(schema.locks.c.name)).all() == ["sending:other"]
    ended = votequeue("delete", "r", "--yes")
    assert (ended.code, "no run is called 'r'" in ended.err) == (1, True)
    with pytest.raises(UserError, match="a run 'r' was deleted: choose another name"):
        enqueue(home)


def test_deleting_asks_first(home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert votequeue("delete", "r").code == 1
    assert runs.find_run("r") is not None


def test_an_interrupted_deletion_is_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    monkeypatch.setattr(controls, "CHUNK", 3)

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(controls, "_delete_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            controls.delete("r")
    assert rows_of("r") == {}
    with pytest.raises(UserError, match="run 'r' is being deleted"):
        Client().progress("r")
    assert controls.delete("r").rows == 1
    assert runs.find_run("r") is None


def test_runs_that_another_one_needs_are_not_deleted_and_those_that_learned_are_named(
    home: Path, votequeue: Command
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4, letter="B")
    Client().enqueue_infer("r", run="again")
    enqueue(home, "weighed", weights_from="x, r")
    ended = votequeue("delete", "r", "--yes")
    assert (ended.code, "run 'r' is needed by again: delete those runs first" in ended.err) == (1, True)
    controls.cancel("again")
    controls.delete("again")
    ended = votequeue("delete", "r", "--yes")
    assert (ended.code, "weighed learned from r" in ended.err) == (0, True)


def test_a_run_with_a_call_under_way_is_not_deleted(home: Path) -> None:
    enqueue(home)
    with engine.writing() as connection:
        calls.put_budget(connection, "r", None)
    number = calls.begin(CallPurpose("r", 0, "vote 1", "chat", "m"), 0.0)
    controls.cancel("r")
    with pytest.raises(UserError, match="1 calls of run 'r' are under way"):
        controls.delete("r")
    calls.finish(number, calls.OK)
    controls.delete("r")
    assert rows_of("r") == {}


# Priorities and shares


def test_messages_of_runs_are_sent_in_turn_and_higher_priorities_first(home: Path) -> None:
    for name in ("a", "b", "c"):
        enqueue(home, name, 3)
    broker.client().flushall()
    outbox.forget_sent()
    assert [job.run for job in outbox.unsent(100)] == ["a", "b", "c"] * 3
    controls.set_priority("b", 1)
    assert [job.run for job in outbox.unsent(100)] == ["b"] * 3 + ["a", "c"] * 3
    controls.set_priority("a", -1)
    assert [job.run for job in outbox.unsent(5, rooms={"infer": 5})] == ["b"] * 3 + ["c"] * 2
    controls.pause("b")
    assert [job.run for job in outbox.unsent(4)] == ["c"] * 3 + ["a"]


@pytest.mark.parametrize("wrong", ["99999999999999999999", "-1000000001", "x", "1.5"])
def test_a_priority_that_the_ledger_cannot_store_is_refused(
    wrong: str, home: Path, votequeue: Command
) -> None:
    enqueue(home)
    ended = votequeue("priority", "r", wrong)
    assert (ended.code, "Traceback" in ended.err, "Invalid value for" in ended.err) == (2, False, True)
    values: list[Any] = [int(wrong)] if wrong.strip("-").isdigit() else [wrong, True]
    for value in values:
        with pytest.raises(UserError, match="expected a whole number from -1,000,000,000 to 1,000,000,000"):
            Client().priority("r", value)
    assert runs.get_run("r").priority == 0


def test_a_priority_may_be_negative(home: Path, votequeue: Command) -> None:
    enqueue(home)
    assert "run r has priority -5" in votequeue("priority", "r", "-5").out
    assert votequeue("priority", "r", "-1000000000", "--json").code == 0
    assert runs.get_run("r").priority == -1_000_000_000


def test_a_message_that_is_sent_anew_keeps_its_age(home: Path) -> None:
    enqueue(home, "waits", 3)
    with engine.writing() as connection:
        connection.execute(schema.items.update().values(sent_at=schema.items.c.sent_at - 5000))
    for change in (
        lambda: enqueue(home, "new", 2),
        lambda: controls.set_priority("new", 1),
        lambda: controls.pause("new"),
        lambda: controls.cancel("new"),
    ):
        change()
        assert list(outbox.to_rearrange()) == ["infer"]
        sweep()
        assert outbox.oldest_messages() == {"infer": pytest.approx(5000, abs=300)}
    run_fixtures.claim("waits", 0, 1, 2)
    assert outbox.oldest_messages() == {}


def test_a_small_run_behind_a_full_queue_gets_its_turn_at_the_next_sweep(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_WINDOW", "20")
    from shared import settings

    settings.load.cache_clear()
    enqueue(home, "big", 50)
    assert broker.waiting("infer") == 20
    enqueue(home, "small", 3)
    sweep()
    assert broker.waiting("infer") == 20
    # Item numbers alternate between the runs until the small one has no more.
    assert items_in_turn()[:7] == [0, 0, 1, 1, 2, 2, 3]
    controls.set_priority("small", 1)
    sweep()
    assert items_in_turn()[:5] == [0, 1, 2, 0, 1]
    assert outbox.to_rearrange() == {}


def test_a_later_request_to_send_anew_is_not_lost(home: Path) -> None:
    outbox.rearrange("infer")
    (request,) = outbox.to_rearrange().values()
    time.sleep(0.002)
    outbox.rearrange("infer")
    outbox.rearranged("infer", request)
    assert list(outbox.to_rearrange()) == ["infer"]


# Retention


def test_retention_drops_texts_and_keeps_figures(home: Path, votequeue: Command) -> None:
    enqueue(home)
    enqueue(home, "open")
    run_fixtures.answer_all("r", 4)
    assert "0.0 MB would be freed in 0 runs" in votequeue("retention", "--older-than", "1d").out
    with engine.writing() as connection:
        connection.execute(schema.items.update().values(settled_at=schema.items.c.settled_at - 2 * 86_400))
    before = Client().report("r")
    (planned,) = Client().retention("1d", dry_run=True)
    assert (planned.run, planned.votes) == ("r", 20)
    assert planned.bytes == 20 * len("因为如此，\n答案是：A".encode())
    assert runs.get_run("r").texts_dropped_at is None
    assert "run r: 20 votes" in votequeue("retention", "--older-than", "1d").out
    with engine.reading() as connection:
        kept = connection.execute(sa.select(schema.votes.c.text, schema.votes.c.letter)).all()
    assert {tuple(row) for row in kept} == {("", "A")}
    report = Client().report("r")
    assert report.texts_dropped_at is not None
    assert replace(report, texts_dropped_at=None) == before
    assert "texts of votes dropped" in votequeue("report", "r").out
    assert Client().retention("1d") == []
    assert Client().retention("1d", run="r") == []


def long_ago(run: str = "r") -> None:
    """Make all results of a run two days old."""
    ours = schema.items.c.run == run
    with engine.writing() as connection:
        older = {"settled_at": schema.items.c.settled_at - 2 * 86_400}
        connection.execute(schema.items.update().where(ours).values(older))


def texts(run: str = "r") -> int:
    """Count the votes of a run that have a text, and the replies of services."""
    with engine.reading() as connection:
        of_votes = sa.select(sa.func.count()).where(schema.votes.c.run == run, schema.votes.c.text != "")
        replies = sa.select(sa.func.count()).where(
            schema.calls.c.run == run, schema.calls.c.reply.is_not(None)
        )
        return (connection.scalar(of_votes) or 0) + (connection.scalar(replies) or 0)


def test_questions_added_to_a_run_without_texts_keep_theirs_until_they_are_old(
    home: Path, votequeue: Command
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    long_ago()
    assert [each.votes for each in Client().retention("1d")] == [20]
    more = run_fixtures.write(home / "more.jsonl", run_fixtures.entry("more", "ABC"))
    Client().enqueue_infer(more, append_to="r")
    (first, _) = run_fixtures.claim("r", 4, 5)
    run_fixtures.vote(first, [run_fixtures.ballot("B")] * 3)
    with engine.writing() as connection:
        calls.put_budget(connection, "r", None)
    calls.finish(calls.begin(CallPurpose("r", 4, "vote 1", "chat", "m"), 0.0), calls.OK, reply="答案是：B")
    # Neither by name nor with all others: it is open.
    ended = votequeue("retention", "--older-than", "0s", "--run", "r")
    assert (ended.code, "run 'r' keeps its texts: it is not finished" in ended.err) == (1, True)
    assert Client().retention("0s") == []
    assert texts() == 4
    controls.cancel("r")
    ended = votequeue("retention", "--older-than", "1d", "--run", "r")
    assert (ended.code, "its last result is too recent" in ended.err) == (1, True)
    assert "texts of votes were dropped by `votequeue retention`" in (
        votequeue("collect", "r", "--votes", "-o", "votes.jsonl").err
    )
    assert "the texts of the votes were dropped on" not in votequeue("trace", "r", "4").out
    assert texts() == 4
    long_ago()
    with engine.writing() as connection:
        earlier = {"texts_dropped_at": schema.runs.c.texts_dropped_at - 4 * 86_400}
        connection.execute(schema.runs.update().values(earlier))
    assert [each.run for each in Client().retention("1d")] == ["r"]
    assert (texts(), Client().retention("1d")) == (0, [])


def test_an_interrupted_retention_is_completed_by_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    long_ago()
    monkeypatch.setattr(controls, "CHUNK", 2)
    drop_some = ledger_retention._drop_some

    def interrupted(run: ledger_retention.Ended, first: int) -> None:
        if first:
            raise KeyboardInterrupt
        drop_some(run, first)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_retention, "_drop_some", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Client().retention("1d")
    assert texts() == 10
    with pytest.raises(UserError, match="dropped those of run 'r'"):
        Client().enqueue_infer("r")
    assert [each.votes for each in Client().retention("1d")] == [20]
    assert (texts(), Client().retention("1d")) == (0, [])


def test_results_that_come_while_texts_are_dropped_keep_theirs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    long_ago()
    size = ledger_retention.size

    def meanwhile(run: str) -> ledger_retention.Dropped:
        more = run_fixtures.write(home / "more.jsonl", run_fixtures.entry("more", "AB"))
        Client().enqueue_infer(more, append_to="r")
        for held in run_fixtures.claim("r", 4):
            run_fixtures.vote(held, [run_fixtures.ballot("A")] * 3)
        return size(run)

    with monkeypatch.context() as patch:
        patch.setattr(ledger_retention, "size", meanwhile)
        Client().retention("1d")
    assert texts() == 3


def test_retention_says_why_a_run_keeps_its_texts_and_lists_none_without(home: Path) -> None:
    enqueue(home)
    enqueue(home, "user")
    enqueue(home, "none")
    controls.cancel("none")
    run_fixtures.answer_all("r", 4)
    Client().enqueue_infer("r", run="again", reader="reference")
    for name in ("r", "none"):
        long_ago(name)
    for name, reason in {
        "user": "it is not finished",
        "r": "run again, which is open, takes its votes",
    }.items():
        with pytest.raises(UserError, match=f"run '{name}' keeps its texts: {reason}"):
            Client().retention("1d", run=name)
    with pytest.raises(UserError, match="no run is called 'x'"):
        Client().retention("1d", run="x")
    assert Client().retention("1d") == []
    assert runs.get_run("none").texts_dropped_at is None
    runs.open_single(runs.Run("t", "train", "d", "d", None, {}), "training")
    with pytest.raises(UserError, match="it is a train run"):
        Client().retention("1d", run="t")


def test_what_needs_dropped_texts_says_so(home: Path, votequeue: Command) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 4)
    ended = votequeue("retention", "--older-than", "1d", "--run", "r")
    assert (ended.code, "run 'r' keeps its texts" in ended.err) == (1, True)
    with engine.writing() as connection:
        connection.execute(schema.items.update().values(settled_at=0.0))
    assert votequeue("retention", "--older-than", "30d", "--run", "r").code == 0
    for command in (
        ("enqueue", "infer", "r"),
        ("enqueue", "infer", "r", "r2", "--combine", "plain"),
        ("enqueue", "train", "scorer", "--from", "r"),
    ):
        if "r2" in command:
            enqueue(home, "r2")
            run_fixtures.answer_all("r2", 4)
        ended = votequeue(*command)
        assert (ended.code, "`votequeue retention` dropped those of run 'r'" in ended.err) == (1, True), ended
    assert "the texts of the votes were dropped on" in votequeue("trace", "r", "0").out
    ended = votequeue("collect", "r", "--votes", "-o", "votes.jsonl")
    assert (ended.code, "dropped by `votequeue retention`" in ended.err) == (0, True)


def test_a_bad_time_is_refused(home: Path, votequeue: Command) -> None:
    enqueue(home)
    ended = votequeue("retention", "--older-than", "soon")
    assert (ended.code, "expected a time in s, m, h or d" in ended.err) == (2, True)
    for time_given in ("5s", "2020-01-01", "soon", "2026-13-01", "4"):
        ended = votequeue("enqueue", "infer", "r.jsonl", "--run", "late", "--deadline", time_given)
        assert (ended.code, "--deadline" in ended.err) == (2, True), ended
    assert "or an ISO time such as 2026-12-01T18:00, not '4'" in " ".join(ended.err.split())
    assert runs.find_run("late") is None
