"""The record of calls: replies kept, budgets never passed, quotas and pauses that all workers see."""

import threading

import pytest
import sqlalchemy as sa

from shared.errors import Held, OverBudget
from shared.ledger import calls, engine, schema
from shared.ledger.calls import CallPurpose
from shared.providers import Usage

pytestmark = pytest.mark.usefixtures("any_ledger")
ERRAND = CallPurpose("r", 0, "B:1", "chat", "m")


@pytest.fixture(autouse=True)
def _run(any_ledger: str) -> None:
    calls.set_budget("r", None)


def test_a_reply_is_on_record_once_its_call_is_finished() -> None:
    call = calls.begin(ERRAND, 0.5)
    assert calls.reply("r", 0, "B:1") is None
    calls.finish(call, calls.OK, reply="答案是：B\0", usage=Usage(10, 5), cost=0.2)
    assert calls.reply("r", 0, "B:1") == "答案是：B\N{REPLACEMENT CHARACTER}"
    assert calls.reply("r", 0, "B:2") is None
    assert calls.reply("r", 1, "B:1") is None


def test_a_failed_call_has_no_reply() -> None:
    calls.finish(calls.begin(ERRAND, 0.5), "failed", detail="a reset")
    assert calls.reply("r", 0, "B:1") is None
    assert calls.spent("r").spent == 0


def test_what_a_call_cost_replaces_its_estimate() -> None:
    first = calls.begin(ERRAND, 0.5)
    assert calls.spent("r").spent == 0.5
    calls.finish(first, calls.OK, reply="", cost=0.125)
    assert calls.spent("r").spent == 0.125


def test_a_call_whose_worker_died_stays_at_its_estimate() -> None:
    calls.begin(ERRAND, 0.5)
    calls.finish(calls.begin(ERRAND, 0.5), calls.OK, reply="", cost=0.25)
    assert calls.spent("r").spent == 0.75


def test_a_call_over_budget_is_not_recorded() -> None:
    calls.set_budget("r", 1.0)
    calls.finish(calls.begin(ERRAND, 0.75), calls.OK, reply="", cost=0.75)
    with pytest.raises(OverBudget, match=r"budget of 1 would be exceeded: 0\.75 is spent.*may cost 0\.5"):
        calls.begin(ERRAND, 0.5)
    assert calls.spent("r").spent == 0.75
    with engine.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.calls)) == 1


def test_a_call_waits_while_others_under_way_may_leave_it_enough() -> None:
    calls.set_budget("r", 1.0)
    first = calls.begin(ERRAND, 0.75)
    with pytest.raises(Held, match=r"unless calls under way cost less") as held:
        calls.begin(ERRAND, 0.5)
    assert held.value.delay == calls.A_CALL
    calls.finish(first, calls.OK, reply="", cost=0.25)
    calls.begin(ERRAND, 0.5)
    assert calls.spent("r").spent == 0.75


def test_what_is_spent_is_told_without_what_calls_under_way_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.set_budget("r", 10.0)
    calls.set_budget("other", None)
    first = calls.begin(ERRAND, 0.75)
    calls.begin(ERRAND, 4.0)
    assert calls.every_spending() == {"r": calls.Spending(10.0, 0.0), "other": calls.Spending(None, 0.0)}
    calls.finish(first, calls.OK, reply="", cost=0.25)
    assert calls.every_spending()["r"].spent == 0.25
    # The other one's worker has died: it may have been charged.
    monkeypatch.setattr(calls, "UNDER_WAY", 0.0)
    assert calls.every_spending()["r"].spent == 4.25


def test_another_budget_keeps_what_was_spent() -> None:
    calls.set_budget("r", 1.0)
    calls.begin(ERRAND, 1.0)
    calls.set_budget("r", 2.0)
    assert calls.spent("r") == calls.Spending(2.0, 1.0)
    calls.begin(ERRAND, 1.0)


def test_eight_at_once_never_pass_the_budget() -> None:
    calls.set_budget("r", 10.0)
    made: list[int] = []

    def work() -> None:
        try:
            while True:
                made.append(calls.begin(ERRAND, 1.0))
        except Held:
            return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 10
    assert calls.spent("r").spent == 10.0


def test_what_belongs_to_a_call_is_written_with_it_or_not_at_all() -> None:
    call = calls.begin(ERRAND, 0.5)

    def fail(_: sa.Connection) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        calls.finish(call, calls.OK, reply="答案是：B", cost=0.1, also=fail)
    assert calls.reply("r", 0, "B:1") is None
    assert calls.spent("r").spent == 0.5


def test_a_day_has_so_many_calls_and_the_next_as_many() -> None:
    assert [calls.use_quota("chat/m@1", "2026-11-22", 2) for _ in range(3)] == [True, True, False]
    assert calls.use_quota("chat/m@1", "2026-11-23", 2)
    assert calls.use_quota("chat/n@1", "2026-11-22", 2)


def test_a_pause_holds_its_service_and_no_other() -> None:
    calls.pause("chat/m@1", "the day's quota is used up", _in(60.0))
    found = calls.paused(["chat/m@1", "chat@1"])
    assert found is not None
    assert found.reason == "the day's quota is used up"
    assert calls.paused(["chat/n@1", "chat@1"]) is None


def test_a_pause_is_over_when_its_time_is() -> None:
    calls.pause("chat/m@1", "later", _in(-1.0))
    assert calls.paused(["chat/m@1"]) is None
    calls.pause("chat/m@1", "for a person", None)
    assert calls.paused(["chat/m@1"]) is not None


def test_lifting_ends_the_pauses_of_one_provider() -> None:
    for service in ("chat@1", "chat/m@1", "chatter@1"):
        calls.pause(service, "for a person", None)
    assert [pause.service for pause in calls.pauses("chat")] == ["chat/m@1", "chat@1"]
    assert calls.lift("chat") == 2
    assert calls.pauses("chat") == []
    assert calls.paused(["chatter@1"]) is not None


def _in(seconds: float) -> float:
    with engine.reading() as connection:
        return engine.now(connection) + seconds


# The first calls to a service


def test_with_a_budget_few_calls_are_under_way_while_nobody_knows_what_they_cost() -> None:
    calls.set_budget("r", 100.0)
    first = calls.begin(ERRAND, 1.0, others=0)
    with pytest.raises(Held, match="the first calls to chat/m must show what a call costs"):
        calls.begin(ERRAND, 1.0, others=0)
    assert calls.spent("r").spent == 1.0
    calls.begin(ERRAND, 1.0, others=1)
    calls.finish(first, calls.OK, reply="", cost=0.5)
    calls.begin(ERRAND, 1.0, others=1)


def test_without_a_budget_without_a_price_and_for_other_models_nobody_waits() -> None:
    for _ in range(2):
        calls.begin(ERRAND, 1.0, others=0)
    calls.set_budget("r", 100.0)
    calls.begin(ERRAND, 0.0, others=0)
    calls.begin(CallPurpose("r", 0, "B:1", "chat", "n"), 1.0, others=0)


def test_a_first_call_whose_worker_died_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.set_budget("r", 100.0)
    calls.begin(ERRAND, 1.0, others=0)
    monkeypatch.setattr(calls, "SHOWING", 0.0)
    calls.begin(ERRAND, 1.0, others=0)


# Calls under way that may cost more than they were bounded by


def test_calls_under_way_count_as_more_once_a_reply_shows_what_they_may_cost() -> None:
    calls.set_budget("r", 10.0)
    calls.set_budget("s", None)
    first = calls.begin(ERRAND, 1.0)
    calls.finish(calls.begin(ERRAND, 1.0), calls.OK, reply="", cost=1.5)
    calls.begin(CallPurpose("s", 0, "B:1", "chat", "m"), 2.0)
    calls.begin(CallPurpose("r", 0, "B:1", "chat", "n"), 0.25)
    calls.raise_under_way("chat", "m", 3.0)
    assert (calls.spent("r").spent, calls.spent("s").spent) == (3.0 + 1.5 + 0.25, 6.0)
    calls.finish(first, calls.OK, reply="", cost=0.75)
    assert calls.spent("r").spent == 0.75 + 1.5 + 0.25


def test_the_most_that_a_call_may_cost_stands_where_nobody_knows_what_it_cost() -> None:
    call = calls.begin(ERRAND, 1.0)
    calls.raise_under_way("chat", "m", 2.0)
    for _ in range(2):  # recorded twice, it is the same as once
        calls.finish(call, "no reply", cost=None)
        assert calls.spent("r").spent == 2.0


# What Redis may have forgotten


def test_the_last_minutes_calls_are_known_with_what_they_used() -> None:
    assert not calls.recent("chat", "m", 60.0)
    calls.finish(calls.begin(ERRAND, 0.5), calls.OK, reply="", usage=Usage(100, 20))
    calls.finish(calls.begin(ERRAND, 0.5), "throttled")
    calls.finish(calls.begin(ERRAND, 0.5), "no reply")
    calls.finish(calls.begin(ERRAND, 0.5), "not made")
    calls.begin(ERRAND, 0.5)
    calls.begin(CallPurpose("r", 0, "B:1", "chat", "n"), 0.5)
    found = calls.recent("chat", "m", 60.0)
    assert (found.under_way, found.unknown) == (1, 2)
    assert sorted(tokens for _, tokens in found.used) == [0, 120]
    assert all(0 <= age < 30 for age, _ in found.used)
    assert found.now == pytest.approx(_in(0.0), abs=30)
    assert calls.recent("chat", "m", -60.0).used == []


def test_calls_that_began_before_a_moment_are_told_until_they_end() -> None:
    first, second = calls.begin(ERRAND, 0.5), calls.begin(ERRAND, 0.5)
    moment = _in(0.0)
    calls.begin(ERRAND, 0.5)
    assert calls.begun_before("chat", "m", moment, 60.0) == {first, second}
    calls.finish(first, calls.OK, reply="")
    assert calls.begun_before("chat", "m", moment, 60.0) == {second}
    assert calls.begun_before("chat", "n", moment, 60.0) == set()
    assert calls.begun_before("chat", "m", moment, -60.0) == set()
