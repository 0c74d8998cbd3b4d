"""The `reason` queue when things go wrong: workers die, calls fail, budgets end, nothing is bought twice."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from shared import settings
from shared.errors import (
    Barred,
    Exhausted,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
)
from shared.jobs import Reason
from shared.ledger import calls, claims, engine, outbox, runs, schema
from shared.ledger.schema import State
from shared.providers import Price
from tests.fakes import FakeLimiter
from tests.integration import provider_fixtures, run_fixtures
from tests.integration.provider_fixtures import (
    Stage,
    agreeing,
    obliging,
    open_run,
    standing,
    steps,
    texts,
    work,
)
from workers import lifecycle, reason
from workers.ports import Interrupted, Prompt


class Killed(BaseException):
    """The worker's process is gone: nothing that it would have written is written."""


@pytest.fixture
def stage(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Have a worker process; over SQLite, unless the test asks for any ledger."""
    with provider_fixtures.staged(monkeypatch) as stage:
        yield stage


# Workers that die, stop, or come late


def dies_at(call: int) -> Callable[[], None]:
    """Kill the worker as it waits to make its nth call."""
    count = itertools.count(1)

    def waiting() -> None:
        if next(count) == call:
            raise Killed

    return waiting


@pytest.mark.usefixtures("any_ledger")
def test_a_reply_on_record_is_not_bought_again_by_who_takes_over(stage: Stage) -> None:
    chat, run = stage.says(agreeing("A"), agreeing("C"), agreeing()), open_run()
    stage.limiter = FakeLimiter(waiting=dies_at(3))
    with pytest.raises(Killed):
        work(run)
    assert claims.release_all(lifecycle.WORKER, "its lease ran out")
    assert work(run) == "B: agreed, asked 3 times"
    assert steps(run) == ["B:1:a", "B:2:a", "B:3:a"]
    assert len(chat.prompts) == 3


def test_a_text_that_was_kept_by_a_worker_that_died_is_still_the_runs_own(stage: Stage) -> None:
    chat = stage.says(obliging)
    run = open_run(label="wrong", letters="every")
    stage.limiter = FakeLimiter(waiting=dies_at(2))
    with pytest.raises(Killed):
        work(run)
    claims.release_all(lifecycle.WORKER, "its lease ran out")
    assert work(run) == "A: agreed, asked once; C: agreed, asked once"
    assert [one[3] for one in texts(run)] == [False, False]
    assert len(chat.prompts) == 2


def test_a_worker_that_is_told_to_stop_gives_its_question_back(stage: Stage) -> None:
    def waiting() -> None:
        reason.service().stop()
        if stage.stopping.is_set():
            raise Interrupted

    chat, run = stage.says(agreeing()), open_run()
    stage.limiter = FakeLimiter(waiting=waiting)
    assert work(run) == "given back: the worker was stopped"
    assert (standing(run), chat.prompts) == ((State.PENDING, 0, None), [])


def test_a_worker_that_lost_its_claim_writes_no_result(stage: Stage) -> None:
    run = open_run()

    def late(_: Prompt) -> str:
        claims.release_all(lifecycle.WORKER, "its lease ran out")
        (other,) = claims.claim([Reason(run=run, item=0)], "another", 60)
        claims.complete(other, {"texts": [], "dropped": []})
        return agreeing()

    stage.says(late)
    assert work(run) == "too late: another worker has it, or its run was cancelled or reached its deadline"
    assert texts(run) == []


# Calls that fail


@pytest.mark.parametrize(
    "error",
    [
        NoReply("it timed out"),
        Unreadable("half a reply"),
        Unavailable("error 500"),
        Exhausted("the quota is used up", 60.0),
        Barred("the key is wrong: mend it"),
        Interrupted(),
        UserError("VOTEQUEUE_CHAT_API_KEY is not set"),
    ],
)
def test_a_failed_call_is_no_answer_and_what_was_heard_before_it_stays(
    stage: Stage, error: Exception
) -> None:
    chat, run = stage.says(agreeing("A"), error, agreeing()), open_run()
    work(run)
    assert standing(run) == (State.PENDING, 0, None)  # no round was lost
    calls.lift("chat")
    outbox.make_due(run)
    assert work(run) == "B: agreed, asked 2 times"
    assert len(chat.prompts) == 3


def test_a_service_that_wants_less_is_asked_again_within_the_round(stage: Stage) -> None:
    stage.says(Throttled("429", 2.0), agreeing())
    assert work(open_run()) == "B: agreed, asked once"
    assert stage.limiter.slow_downs == [("chat/a@0a1b2c3d", 2.0)]


def test_a_question_whose_calls_always_fail_is_dead_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MAX_FAILURES", "3")
    settings.load.cache_clear()
    stage.says(Unavailable("error 500"))
    run = open_run()
    for _ in range(3):
        said = work(run)
        outbox.make_due(run)
    assert said == "dead: error 500"
    assert standing(run) == (State.DEAD, 1, "3 failed calls in a row, last: error 500")


def test_a_barred_account_is_asked_by_nobody_until_it_is_mended(stage: Stage) -> None:
    chat = stage.says(Barred("the account is in arrears: top it up"), agreeing())
    run, other = (
        open_run(*(run_fixtures.entry(f"p{at}", "B") for at in range(3))),
        open_run(run_fixtures.entry("q", "B")),
    )
    said = [work(run, 0), work(run, 1), work(other), work(run, 2)]
    assert said == ["waits: the account is in arrears: top it up"] * 4
    assert len(chat.prompts) == 1
    assert calls.lift("chat") == 1
    assert outbox.make_due(run) == 3
    assert [work(run, item) for item in range(3)] == ["B: agreed, asked once"] * 3


def test_a_run_of_another_votequeue_is_dead_and_says_so(stage: Stage) -> None:
    stage.says(agreeing())
    run = open_run(letters="all")
    assert work(run).startswith("dead: the run's settings are of another votequeue")


# Many at once


@pytest.mark.usefixtures("any_ledger")
def test_a_run_spends_its_budget_and_not_more_with_eight_at_once(stage: Stage) -> None:
    # FakeChat uses 150 tokens a call; the prompts are longer than its 100, so that estimates are too high.
    price = Price(input=10_000, output=10_000)
    seen: list[float] = []

    def reply(_: Prompt) -> str:
        seen.append(calls.spent(run).spent)
        return agreeing()

    chat = stage.says(reply, price=price)
    run = open_run(*(run_fixtures.entry(f"p{at}", "B") for at in range(40)), budget=30.0)
    waiting = iter(range(40))
    lock = threading.Lock()

    def worker() -> None:
        while True:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            work(run, item)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Those that waited for what calls under way would leave of the budget.
    while outbox.make_due(run):
        for job in outbox.unsent(40, run):
            work(run, job.item)
    counts = runs.count_states(run)
    assert counts[State.DONE] == len(chat.prompts) >= 10
    assert counts[State.DONE] + counts[State.DEAD] == 40
    assert max(seen) <= 30.0
    assert calls.spent(run).spent == pytest.approx(1.5 * len(chat.prompts))
    # Whoever is left out would have passed it.
    assert all("the budget of 30 would be exceeded" in str(standing(run, item)[2]) for item in dead(run))
    assert stage.built == ["a"]


def dead(run: str) -> list[int]:
    """List the items that are dead."""
    columns = schema.items.c
    query = sa.select(columns.number).where(columns.run == run, columns.state == State.DEAD)
    with engine.reading() as connection:
        return list(connection.scalars(query))


def test_a_budget_is_no_matter_to_what_is_on_record(stage: Stage) -> None:
    stage.says(agreeing(), price=Price(input=10_000, output=10_000))
    work(open_run())
    assert work(open_run(budget=0.0)) == "B: on record already"
    assert work(open_run(run_fixtures.entry("q", "B"), budget=0.0)).startswith(
        "dead: the budget of 0 would be exceeded"
    )


# Secrets


def test_no_secret_of_the_settings_comes_into_the_ledger(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["CHAT_API_KEY", "QIANFAN_AK", "QIANFAN_SK", "TENCENT_SECRET_ID", "TENCENT_SECRET_KEY"]
    for name in names:
        monkeypatch.setenv(f"VOTEQUEUE_{name}", f"s3cret-{name}")
    settings.load.cache_clear()
    stage.says(agreeing("A"), Unavailable("error 500"), Refused("filtered"), ZeroDivisionError(), agreeing())
    run = open_run(*(run_fixtures.entry(f"p{at}", "B") for at in range(3)))
    for _, item in itertools.product(range(2), range(3)):
        try:
            work(run, item)
        except ZeroDivisionError:
            caplog.clear()
        outbox.make_due(run)
    with engine.reading() as connection:
        tables = schema.metadata.sorted_tables
        dump = repr([connection.execute(sa.select(table)).all() for table in tables])
    assert "error 500" in dump
    assert "s3cret" not in dump + caplog.text
