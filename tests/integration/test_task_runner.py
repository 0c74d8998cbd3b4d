"""Errands over a real ledger and broker: what becomes of an item, whatever becomes of its work."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import broker, dataset, settings
from shared.errors import (
    Barred,
    Exhausted,
    Held,
    NoReply,
    OverBudget,
    Refused,
    ServiceUnreachable,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
)
from shared.jobs import Reason
from shared.ledger import claims, engine, outbox, runs, schema
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from shared.ledger.schema import State
from tests.integration import run_fixtures
from workers import lifecycle, retries, settlement, task_runner
from workers.outcomes import NOTHING_TO_DO
from workers.ports import Interrupted
from workers.task_runner import ItemResult

JOB = Reason(run="r", item=0)
DONE = ItemResult({"texts": ["……"], "dropped": []}, "B: agreed, asked once")
YEAR = 365 * 86_400.0


@pytest.fixture(autouse=True)
def _stage(on_broker: str, tmp_path: Path) -> None:
    open_run(tmp_path)


def open_run(folder: Path) -> None:
    """Open a run `r` of three items."""
    path = run_fixtures.write(folder / "data.jsonl", run_fixtures.entry("p1", "BBB"))
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    runs.open_run(Run("r", "reason", "data.jsonl", "d", None, {}), lines)


def raising(error: Exception) -> Callable[[Claim], ItemResult]:
    """Make work that fails."""

    def work(_: Claim) -> ItemResult:
        raise error

    return work


def item(number: int = 0) -> dict[str, Any]:
    """Read an item's row."""
    columns = schema.items.c
    query = sa.select(schema.items).where(columns.run == "r", columns.number == number)
    with engine.reading() as connection:
        return dict(connection.execute(query).mappings().one())


def standing() -> tuple[str, int, int]:
    """Give the item's state, attempts charged, and losses."""
    row = item()
    return row["state"], row["attempt"], row["losses"]


def waits() -> float:
    """Give the seconds from the end of the last claim until the item is due."""
    ended = schema.attempts.c.ended_at
    with engine.reading() as connection:
        return float(item()["not_before"]) - float(connection.scalar(sa.select(sa.func.max(ended))) or 0.0)


def ends() -> list[str]:
    """Read how the item's claims ended, first to last."""
    query = sa.select(schema.attempts.c.outcome).order_by(schema.attempts.c.fence)
    with engine.reading() as connection:
        return list(connection.scalars(query))


def results() -> list[dict[str, Any]]:
    with engine.reading() as connection:
        return list(connection.scalars(sa.select(schema.results.c.value)))


def choose(monkeypatch: pytest.MonkeyPatch, **chosen: object) -> None:
    for name, value in chosen.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name.upper()}", str(value))
    settings.load.cache_clear()


# Work that ends well


def test_the_result_of_the_work_is_recorded_and_its_line_given() -> None:
    claimed: list[Claim] = []

    def work(claim: Claim) -> ItemResult:
        claimed.append(claim)
        return DONE

    assert task_runner.run(JOB, work) == DONE.line
    assert (claimed[0].key, claimed[0].attempt) == ("p1#1", 1)
    assert (standing(), ends(), results()) == ((State.DONE, 1, 0), [DONE.line], [DONE.value])


def test_what_is_done_claimed_or_not_due_is_left_alone() -> None:
    def work(_: Claim) -> ItemResult:
        raise AssertionError("there was nothing to do")

    task_runner.run(JOB, lambda _: DONE)
    claims.claim([Reason(run="r", item=1)], "another", 60)
    claims.release(claims.claim([Reason(run="r", item=2)], "another", 60), "later", delay=60)
    for number in range(3):
        assert task_runner.run(Reason(run="r", item=number), work) == NOTHING_TO_DO


def test_who_lost_the_claim_on_the_way_writes_nothing() -> None:
    def lose_it(_: Claim) -> ItemResult:
        claims.release_all(lifecycle.WORKER, "its lease ran out")
        (other,) = claims.claim([JOB], "another", 60)
        claims.complete(other, {"texts": ["the other's"]}, "B: on record already")
        return DONE

    assert (
        task_runner.run(JOB, lose_it)
        == "too late: another worker has it, or its run was cancelled or reached its deadline"
    )
    assert results() == [{"texts": ["the other's"]}]


@pytest.mark.parametrize("error", [Refused("no"), Held("paused", 9.0), Unavailable("500"), Interrupted()])
def test_who_lost_the_claim_and_fails_then_changes_nothing(error: Exception) -> None:
    def lose_it(_: Claim) -> ItemResult:
        claims.release_all(lifecycle.WORKER, "its lease ran out")
        claims.claim([JOB], "another", 60)
        raise error

    task_runner.run(JOB, lose_it)
    assert (item()["state"], item()["holder"]) == (State.LEASED, "another")


# Work that was not done, and no item to blame


def test_the_item_of_a_worker_that_stops_is_given_back_at_once() -> None:
    assert task_runner.run(JOB, raising(Interrupted())) == "given back: the worker was stopped"
    assert (standing(), waits()) == ((State.PENDING, 0, 0), 0)
    assert broker.waiting("reason") == 1
    assert task_runner.run(JOB, lambda _: DONE) == DONE.line


@pytest.mark.parametrize("error", [Held("it is paused", 60.0), Exhausted("the quota is used up", 60.0)])
def test_an_item_held_waits_as_long_as_it_is_told_and_nothing_is_charged(error: Held) -> None:
    assert task_runner.run(JOB, raising(error)) == f"waits: {error}"
    assert standing() == (State.PENDING, 0, 0)
    assert waits() == pytest.approx(60)
    assert ends() == [f"released: {error}"]
    assert (broker.waiting("reason"), JOB in outbox.unsent(10)) == (0, False)


@pytest.mark.parametrize("error", [Held("it is barred"), Barred("the key is wrong: mend it")])
def test_an_item_held_until_a_person_has_mended_something_waits_for_resume(error: Held) -> None:
    task_runner.run(JOB, raising(error))
    assert (standing(), waits() > YEAR) == ((State.PENDING, 0, 0), True)
    assert outbox.make_due("r") == 1
    assert task_runner.run(JOB, lambda _: DONE) == DONE.line


@pytest.mark.parametrize(
    "error", [UserError("VOTEQUEUE_CHAT_API_KEY is not set"), ServiceUnreachable("no broker answers")]
)
def test_an_item_that_cannot_be_worked_on_here_is_left_to_others(
    error: UserError, caplog: pytest.LogCaptureFixture
) -> None:
    assert task_runner.run(JOB, raising(error)) == f"given back: {error}"
    assert standing() == (State.PENDING, 0, 0)
    assert waits() == pytest.approx(settlement.PATIENCE)
    assert str(error) in caplog.text


# Calls that failed


@pytest.mark.parametrize(
    "error",
    [Unavailable("error 500"), Unreadable("half a reply"), NoReply("a time-out"), Throttled("429", 5)],
)
def test_an_item_whose_call_failed_goes_again_later_and_its_round_is_not_counted(error: Unavailable) -> None:
    said = task_runner.run(JOB, raising(error))
    assert said.startswith("again in ")
    assert said.endswith(f" s: {error}")
    assert (standing(), ends()) == ((State.PENDING, 0, 0), [f"again: {error}"])
    assert settlement.FIRST_DELAY / 2 <= waits() <= settlement.FIRST_DELAY
    assert broker.waiting("reason") == 0


def test_the_time_between_failed_rounds_doubles_up_to_a_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, max_failures=100)
    for attempt in range(12):
        task_runner.run(JOB, raising(Unavailable("error 500")))
        longest = min(2.0**attempt, settlement.LONGEST_DELAY)
        assert waits() == pytest.approx(longest * 0.75, rel=0.34)
        outbox.make_due("r")


def test_rounds_that_fail_for_ever_have_a_delay_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, max_failures=10_000)
    monkeypatch.setattr(claims, "failures", lambda _: 5_000)
    assert "again in " in task_runner.run(JOB, raising(Unavailable("error 500")))


def test_what_failed_too_often_is_dead_with_the_last_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, max_failures=3)
    for status in (500, 502):
        task_runner.run(JOB, raising(Unavailable(f"error {status}")))
        outbox.make_due("r")
    # Waiting for a quota, or for another worker, is no failure.
    task_runner.run(JOB, raising(Held("paused", 60.0)))
    outbox.make_due("r")
    assert task_runner.run(JOB, raising(Unavailable("error 503"))) == "dead: error 503"
    assert (item()["state"], item()["reason"]) == (
        State.DEAD,
        "3 failed calls in a row, last: error 503",
    )


@pytest.mark.parametrize(
    "error", [Refused("content filtered"), OverBudget("the budget of 20 would be exceeded")]
)
def test_what_another_try_would_not_change_is_dead_with_its_reason(error: Exception) -> None:
    assert task_runner.run(JOB, raising(error)) == f"dead: {error}"
    assert (item()["state"], item()["reason"]) == (State.DEAD, str(error))
    assert (results(), broker.waiting("reason")) == ([], 0)


def test_a_reason_that_no_ledger_can_store_is_stored_without_what_cannot_be(
    any_ledger: str, home: Path
) -> None:
    if any_ledger == "postgresql":
        open_run(home)
    assert task_runner.run(JOB, raising(Unavailable("it said \0\ud83d"))).endswith(": it said ��")
    outbox.make_due("r")
    task_runner.run(JOB, raising(Refused("it said \0\ud83d")))
    assert item()["reason"] == "it said ��"


# Our own mistakes, and the world's


def test_an_unexplained_error_is_a_loss_that_is_tried_again_and_shown_to_celery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ZeroDivisionError):
        task_runner.run(JOB, raising(ZeroDivisionError("a bug")))
    assert (standing(), broker.waiting("reason")) == ((State.PENDING, 0, 1), 1)
    assert "item 0 of r failed" in caplog.text


def test_an_item_that_is_lost_too_often_in_a_row_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, max_losses=2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            task_runner.run(JOB, raising(ZeroDivisionError("a bug")))
    assert item()["state"] == State.DEAD


def test_a_result_that_cannot_be_stored_does_not_keep_its_item_claimed() -> None:
    with pytest.raises(sa.exc.StatementError):
        task_runner.run(JOB, lambda _: ItemResult({"texts": object()}, "B: agreed"))
    assert standing() == (State.PENDING, 0, 1)


def test_a_ledger_that_is_away_when_the_work_is_done_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    complete, away = claims.complete, itertools.chain([True, True], itertools.repeat(False))

    def completes(*end: Any) -> bool:
        if next(away):
            raise ServiceUnreachable("the ledger does not answer")
        return complete(*end)

    monkeypatch.setattr(claims, "complete", completes)
    monkeypatch.setattr(retries, "PAUSE", 0.01)
    assert task_runner.run(JOB, lambda _: DONE) == DONE.line
    assert (standing(), results()) == ((State.DONE, 1, 0), [DONE.value])


def test_a_ledger_that_was_away_during_the_work_gets_the_item_back(monkeypatch: pytest.MonkeyPatch) -> None:
    release, away = claims.release, itertools.chain([True, True], itertools.repeat(False))

    def releases(*held: Any) -> object:
        if next(away):
            raise ServiceUnreachable("the ledger does not answer")
        return release(*held)

    monkeypatch.setattr(claims, "release", releases)
    monkeypatch.setattr(retries, "PAUSE", 0.01)
    gone = ServiceUnreachable("the ledger does not answer")
    assert task_runner.run(JOB, raising(gone)) == f"given back: {gone}"
    assert standing() == (State.PENDING, 0, 0)
