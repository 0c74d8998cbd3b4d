"""The gateway over a real ledger: which calls are made, what each costs, and what is on record afterwards."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import providers, token_bounds
from shared.errors import (
    Barred,
    Exhausted,
    Held,
    NoReply,
    NotServedHere,
    OverBudget,
    Refused,
    ServiceUnreachable,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
)
from shared.jobs import Reason
from shared.ledger import calls, engine, schema, token_charges
from shared.ledger.calls import CallPurpose
from shared.providers import Price, Usage
from tests import fakes
from tests.fakes import FakeChat, FakeLimiter, FakeTranslator, Translating
from workers import retries
from workers.gateway.gateway import THROTTLED_AT_MOST, Gateway
from workers.ports import Interrupted, Needs, Prompt, Reply, Service
from workers.providers import openai

on_both = pytest.mark.usefixtures("run_on_any_ledger")
JOB = Reason(run="r", item=7)
# 100 tokens in, 50 out at the most: a call costs 1.5 at the most, and that exactly unless it uses less.
PROMPT = Prompt("题" * 100, 50, 0.7)
PRICED = fakes.service(price=Price(input=10_000, output=10_000))
MOST = 1.5


def exact(limiter: FakeLimiter) -> Gateway:
    """Have a gateway that knows how many tokens a prompt has: one a character."""
    return Gateway(limiter, lambda _: len)


def proven(service: Service) -> None:
    """Let a service have shown what its calls use: nothing unexpected."""
    with engine.writing() as connection:
        for _ in range(token_charges.PROVEN):
            token_charges.learn(connection, service.name, Usage(1, 1), Usage(1, 1))


@pytest.fixture(autouse=True)
def _run(home: Path) -> None:
    calls.set_budget("r", None)


@pytest.fixture
def run_on_any_ledger(any_ledger: str) -> None:
    """Have the run on SQLite, then on PostgreSQL: for what databases may do differently."""
    calls.set_budget("r", None)


def made() -> list[dict[str, Any]]:
    """Read the calls on record, first to last."""
    with engine.reading() as connection:
        rows = connection.execute(sa.select(schema.calls).order_by(schema.calls.c.id))
        return [dict(row) for row in rows.mappings()]


def outcomes() -> list[tuple[str | None, float]]:
    return [(call["outcome"], call["cost"]) for call in made()]


def spent() -> float:
    return calls.spent("r").spent


def fail(gateway: Gateway, model: FakeChat) -> None:
    """Ask with a model that fails."""
    with pytest.raises(Exception):  # noqa: B017, PT011  (which one is the caller's business)
        gateway.chat(JOB, "B:1:m", model, PROMPT)


# What is on record


@on_both
def test_a_reply_is_asked_for_once_however_often_it_is_wanted() -> None:
    model = FakeChat(otherwise="甲最高。\n答案是：B")
    gateway = exact(FakeLimiter())
    replies = {gateway.chat(JOB, "B:1:m", model, PROMPT) for _ in range(3)}
    replies.add(exact(FakeLimiter()).chat(JOB, "B:1:m", model, PROMPT))
    assert replies == {"甲最高。\n答案是：B"}
    assert model.prompts == [PROMPT]


@pytest.mark.parametrize(
    ("job", "step"), [(JOB, "B:2:m"), (Reason(run="r", item=8), "B:1:m"), (Reason(run="s", item=7), "B:1:m")]
)
def test_another_step_item_or_run_is_asked_for_anew(job: Reason, step: str) -> None:
    calls.set_budget("s", None)
    model, gateway = FakeChat(), exact(FakeLimiter())
    gateway.chat(JOB, "B:1:m", model, PROMPT)
    gateway.chat(job, step, model, PROMPT)
    assert len(model.prompts) == 2


@on_both
def test_a_call_is_recorded_with_what_it_was_for_used_and_cost() -> None:
    model = FakeChat(service=PRICED, usage=Usage(90, 20))
    exact(FakeLimiter()).chat(JOB, "B:1:m", model, PROMPT)
    (call,) = made()
    assert call["ended_at"] >= call["begun_at"]
    expected = {
        "run": "r",
        "number": 7,
        "step": "B:1:m",
        "provider": "chat",
        "model": "m",
        "outcome": "ok",
        "detail": None,
        "reply": "因为如此。\n答案是：A",
        "input_tokens": 90,
        "output_tokens": 20,
        "characters": 0,
        "cost": pytest.approx(1.1),
    }
    assert {name: call[name] for name in expected} == expected
    assert spent() == pytest.approx(1.1)


@on_both
def test_what_no_ledger_can_store_is_replaced_in_replies_and_in_reasons() -> None:
    model = FakeChat({"": ["甲\0乙\ud83d。", Refused("no \0 here")]})
    gateway = exact(FakeLimiter())
    assert gateway.chat(JOB, "1", model, PROMPT) == "甲�乙�。"
    assert gateway.chat(JOB, "1", model, PROMPT) == "甲�乙�。"
    with pytest.raises(Refused):
        gateway.chat(JOB, "2", model, PROMPT)
    assert made()[1]["detail"] == "no � here"
    translator = FakeTranslator(lambda text, *_: text + "\0\udc00")
    assert gateway.translate("r", translator, ["甲"], ("zh", "ja"), lambda *_: None) == ["甲��"]


def test_a_call_whose_worker_died_is_made_again_and_its_estimate_stays_charged() -> None:
    calls.begin(CallPurpose("r", 7, "B:1:m", "chat", "m"), MOST)
    model = FakeChat(service=PRICED)
    exact(FakeLimiter()).chat(JOB, "B:1:m", model, PROMPT)
    assert len(model.prompts) == 1
    assert outcomes() == [(None, MOST), ("ok", MOST)]
    assert spent() == 2 * MOST


# How calls end


@pytest.mark.parametrize(
    ("error", "outcome", "cost"),
    [
        (NoReply("it timed out"), "no reply", MOST),
        (Unreadable("half a JSON object"), "unreadable", MOST),
        (Unavailable("error 500"), "failed", 0.0),
        (Refused("the prompt was filtered"), "refused", 0.0),
        (Exhausted("the day's quota is used up", 60.0), "exhausted", 0.0),
        (Barred("the key is wrong: mend it"), "barred", 0.0),
        (ZeroDivisionError("a bug"), "error", 0.0),
    ],
)
def test_a_failed_call_costs_nothing_unless_it_may_have_been_charged(
    error: Exception, outcome: str, cost: float
) -> None:
    limiter = FakeLimiter()
    model = FakeChat(otherwise=error, service=PRICED)
    with pytest.raises(type(error), match=str(error)):
        exact(limiter).chat(JOB, "B:1:m", model, PROMPT)
    assert outcomes() == [(outcome, cost)]
    assert made()[0]["detail"] == str(error)
    assert (spent(), len(model.prompts)) == (cost, 1)
    assert (limiter.inside, limiter.slow_downs, limiter.corrections) == (0, [], [])


def test_a_failed_call_leaves_no_reply_behind_and_is_made_again() -> None:
    model = FakeChat({"": [NoReply("it timed out"), "答案是：B"]})
    gateway = exact(FakeLimiter())
    fail(gateway, model)
    assert gateway.chat(JOB, "B:1:m", model, PROMPT) == "答案是：B"


def test_who_is_told_to_slow_down_tells_the_limiter_and_asks_again() -> None:
    limiter = FakeLimiter()
    model = FakeChat({"": [Throttled("429"), Throttled("429", 2.5), "答案是：B"]}, service=PRICED)
    assert exact(limiter).chat(JOB, "B:1:m", model, PROMPT) == "答案是：B"
    assert limiter.slow_downs == [(PRICED.name, None), (PRICED.name, 2.5)]
    assert outcomes() == [("throttled", 0.0), ("throttled", 0.0), ("ok", MOST)]
    assert len(limiter.admits) == 3
    assert spent() == MOST


def test_who_is_told_to_slow_down_for_ever_gives_up_for_now() -> None:
    limiter = FakeLimiter()
    model = FakeChat(otherwise=Throttled("too many requests", 1.0))
    with pytest.raises(Unavailable, match="30 times to slow down, last: too many requests") as raised:
        exact(limiter).chat(JOB, "B:1:m", model, PROMPT)
    assert not isinstance(raised.value, Throttled)
    assert len(model.prompts) == len(limiter.slow_downs) == THROTTLED_AT_MOST == 30


# The limiter


def test_the_limiter_hears_what_a_call_may_use_and_then_what_it_used() -> None:
    limiter = FakeLimiter()
    Gateway(limiter).chat(JOB, "B:1:m", FakeChat(usage=Usage(80, 20)), PROMPT)
    needs = Needs(Usage(100, 50), Usage(300 + token_bounds.TEMPLATE, 50))
    assert limiter.admits == [("chat/m@0a1b2c3d", needs)]
    assert limiter.corrections == [("chat/m@0a1b2c3d", Usage(80, 20))]
    assert limiter.inside == 0


def test_a_call_is_made_inside_its_turn() -> None:
    limiter = FakeLimiter()
    inside: list[int] = []

    def reply(_: Prompt) -> str:
        inside.append(limiter.inside)
        return "答案是：A"

    model = FakeChat(otherwise=reply)
    exact(limiter).chat(JOB, "B:1:m", model, PROMPT)
    assert inside == [1]


def test_who_is_stopped_while_waiting_has_made_no_call() -> None:
    model = FakeChat(service=PRICED)
    with pytest.raises(Interrupted):
        exact(FakeLimiter([Interrupted()])).chat(JOB, "B:1:m", model, PROMPT)
    assert (made(), model.prompts, spent()) == ([], [], 0.0)


def test_who_is_stopped_at_the_last_moment_has_made_no_call_and_pays_nothing() -> None:
    def stop() -> None:
        raise Interrupted

    limiter, model = FakeLimiter(moment=stop), FakeChat(service=PRICED)
    with pytest.raises(Interrupted):
        exact(limiter).chat(JOB, "B:1:m", model, PROMPT)
    assert (outcomes(), model.prompts, spent()) == ([("not made", 0.0)], [], 0.0)
    assert limiter.inside == 0


# Pauses


@on_both
def test_a_quota_used_up_pauses_its_service_until_it_is_back() -> None:
    model = FakeChat(otherwise=Exhausted("the day's quota is used up", 60.0))
    gateway = exact(FakeLimiter())
    fail(gateway, model)
    with pytest.raises(Held, match="the day's quota is used up") as raised:
        gateway.chat(JOB, "B:1:m", model, PROMPT)
    assert raised.value.delay == pytest.approx(60, abs=5)
    assert len(model.prompts) == 1
    (pause,) = calls.pauses("chat")
    assert pause.service == "chat/m@0a1b2c3d"


def test_a_quota_that_the_limiter_keeps_pauses_its_service_too() -> None:
    gateway, model = exact(FakeLimiter([Exhausted("1000 calls a day are made", 60.0)])), FakeChat()
    fail(gateway, model)
    with pytest.raises(Held, match="1000 calls a day are made"):
        gateway.chat(JOB, "B:1:m", model, PROMPT)
    assert (made(), model.prompts) == ([], [])


def test_a_quota_whose_return_nobody_knows_pauses_until_a_person_has_looked() -> None:
    gateway, model = exact(FakeLimiter()), FakeChat(otherwise=Exhausted("no free calls are left"))
    fail(gateway, model)
    with pytest.raises(Held) as raised:
        gateway.chat(JOB, "B:1:m", model, PROMPT)
    assert raised.value.delay is None
    assert len(model.prompts) == 1


@on_both
def test_a_barred_account_is_paused_with_all_its_models_until_a_person_has_mended_it() -> None:
    gateway, other = exact(FakeLimiter()), FakeChat(service=fakes.service(model="n"))
    fail(gateway, FakeChat(otherwise=Barred("the account is in arrears: top it up")))
    with pytest.raises(Held, match="top it up") as raised:
        gateway.chat(JOB, "B:1:n", other, PROMPT)
    assert raised.value.delay is None
    assert other.prompts == []
    assert calls.lift("chat") == 1
    gateway.chat(JOB, "B:1:n", other, PROMPT)
    assert len(other.prompts) == 1


def test_a_pause_is_nothing_to_other_models_and_other_providers() -> None:
    gateway = exact(FakeLimiter())
    fail(gateway, FakeChat(otherwise=Exhausted("used up", 60.0)))
    for service in (fakes.service(model="n"), fakes.service("qianfan")):
        model = FakeChat(service=service)
        gateway.chat(JOB, f"B:1:{service.name}", model, PROMPT)
        assert len(model.prompts) == 1


def test_a_pause_that_is_over_holds_nobody() -> None:
    calls.pause(PRICED.name, "used up", until=1.0)
    assert exact(FakeLimiter()).chat(JOB, "B:1:m", FakeChat(), PROMPT)


def test_a_pause_that_begins_while_one_waits_is_heeded() -> None:
    limiter = FakeLimiter(waiting=lambda: calls.pause(PRICED.whole, "in arrears: top it up", None))
    model = FakeChat(service=PRICED)
    with pytest.raises(Held, match="in arrears"):
        exact(limiter).chat(JOB, "B:1:m", model, PROMPT)
    assert (model.prompts, outcomes(), spent()) == ([], [("not made", 0.0)], 0.0)


def test_what_is_on_record_is_given_even_by_a_paused_service() -> None:
    gateway, model = exact(FakeLimiter()), FakeChat()
    said = gateway.chat(JOB, "B:1:m", model, PROMPT)
    calls.pause(model.service.whole, "in arrears", None)
    assert gateway.chat(JOB, "B:1:m", model, PROMPT) == said


# Budgets


@on_both
def test_a_budget_is_used_up_to_its_last_call_and_never_passed() -> None:
    calls.set_budget("r", 4 * MOST)
    gateway, model = exact(FakeLimiter()), FakeChat(service=PRICED)
    for ask in range(4):
        gateway.chat(JOB, f"B:{ask}:m", model, PROMPT)
    with pytest.raises(OverBudget, match=r"the budget of 6 would be exceeded: 6 is spent"):
        gateway.chat(JOB, "B:5:m", model, PROMPT)
    assert len(model.prompts) == len(made()) == 4
    assert spent() == 4 * MOST
    calls.set_budget("r", 5 * MOST)
    gateway.chat(JOB, "B:5:m", model, PROMPT)
    assert spent() == 5 * MOST


def test_a_worker_that_knows_no_price_makes_no_calls_of_a_run_with_a_budget() -> None:
    gateway, model = exact(FakeLimiter()), FakeChat(service=replace(PRICED, price=Price(), priced=False))
    gateway.chat(JOB, "B:0:m", model, PROMPT)
    calls.set_budget("r", 100.0)
    with pytest.raises(NotServedHere, match="VOTEQUEUE_PRICES where the workers run"):
        gateway.chat(JOB, "B:1:m", model, PROMPT)
    assert len(model.prompts) == len(made()) == 1


def test_what_calls_did_not_use_of_their_estimates_is_there_for_others() -> None:
    calls.set_budget("r", 2 * MOST)
    gateway, model = exact(FakeLimiter()), FakeChat(service=PRICED, usage=Usage(50, 0))
    for ask in range(4):
        gateway.chat(JOB, f"B:{ask}:m", model, PROMPT)
    with pytest.raises(OverBudget):
        gateway.chat(JOB, "B:5:m", model, PROMPT)
    assert spent() == 2.0


@on_both
def test_a_budget_is_for_one_run() -> None:
    calls.set_budget("r", 0.0)
    calls.set_budget("s", None)
    gateway, model = exact(FakeLimiter()), FakeChat(service=PRICED)
    fail(gateway, model)
    gateway.chat(Reason(run="s", item=0), "B:1:m", model, PROMPT)
    assert calls.spent("s").spent == MOST


def test_what_costs_nothing_is_within_any_budget() -> None:
    calls.set_budget("r", 0.0)
    assert exact(FakeLimiter()).chat(JOB, "B:1:m", FakeChat(), PROMPT)


def at_once(count: int, work: Callable[[int], object]) -> None:
    """Do some work in as many threads."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@on_both
def test_eight_who_spend_one_budget_together_never_pass_it() -> None:
    calls.set_budget("r", 20 * MOST)
    proven(PRICED)
    seen: list[float] = []
    refused: list[Exception] = []

    def reply(_: Prompt) -> str:
        seen.append(spent())
        return "答案是：A"

    gateway, model = exact(FakeLimiter()), FakeChat(otherwise=reply, service=PRICED)

    def ask(number: int) -> None:
        for at in range(4):
            try:
                gateway.chat(Reason(run="r", item=number), f"A:{at}:m", model, PROMPT)
            except (Held, OverBudget) as error:
                refused.append(error)

    at_once(8, ask)
    assert (len(model.prompts), len(refused)) == (20, 12)
    assert max(seen) == spent() == 20 * MOST
    assert outcomes() == [("ok", MOST)] * 20


class Charging:
    """A chat model that charges tokens as it counts them, and keeps its own account."""

    def __init__(self, count: Callable[[Prompt], Usage]) -> None:
        self.service = fakes.service(price=Price(input=100, output=400))
        self.usages: list[Usage] = []
        self._count = count

    @property
    def charged(self) -> float:
        return sum(providers.cost(self.service.price, usage) for usage in self.usages)

    def complete(self, prompt: Prompt) -> Reply:
        usage = self._count(prompt)
        # One in ten is slow, so that replies show what calls may cost while others are under way.
        time.sleep(random.uniform(0.0, 0.02) if random.random() < 0.9 else 0.3)
        self.usages.append(usage)
        return Reply("答案是：A", usage)


def spend_all(model: Charging, texts: Sequence[str], max_tokens: int = 100) -> None:
    """Work as 16 threads do, until each meets a budget that is used up."""
    gateway, steps = Gateway(FakeLimiter()), itertools.count()

    def work(number: int) -> None:
        while True:
            text = texts[next(steps) % len(texts)]
            try:
                gateway.chat(JOB, f"{number}:{next(steps)}", model, Prompt(text, max_tokens, 0.7))
            except Held:
                continue
            except OverBudget:
                return

    at_once(16, work)


DENSE = ["1234567890" * 20, "∧∨¬→↔∀∃" * 20, "|---|---|\n" * 20, "🙂👩‍👩‍👧‍👦" * 10, "龘𠮷𡈽" * 30]


def _bytes(prompt: Prompt) -> int:
    return len(prompt.text.encode()) + 40


@on_both
def test_a_service_that_charges_every_byte_does_not_pass_the_budget() -> None:
    calls.set_budget("r", 8.0)
    model = Charging(lambda prompt: Usage(_bytes(prompt), prompt.max_tokens))
    spend_all(model, DENSE)
    assert 7.2 < model.charged <= 8.0
    assert spent() == pytest.approx(model.charged)


@on_both
def test_a_budget_that_is_large_beside_a_call_is_spent_though_calls_cost_less_than_they_may() -> None:
    calls.set_budget("r", 4.0)
    # A third of its bytes are a Chinese text's tokens, and its reply is short.
    model = Charging(lambda prompt: Usage(_bytes(prompt) // 3, prompt.max_tokens // 5))
    spend_all(model, ["甲比乙高，乙比丙高。" * 20])
    assert 0.95 * 4.0 < model.charged <= 4.0
    assert spent() == pytest.approx(model.charged)


def test_a_model_that_thinks_beyond_max_tokens_does_not_pass_the_budget_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls.set_budget("r", 8.0)
    model = Charging(lambda prompt: Usage(_bytes(prompt), random.randint(100, 600)))
    spend_all(model, ["甲比乙高，乙比丙高。" * 20])
    assert 7.0 < model.charged <= 8.0
    assert spent() == pytest.approx(model.charged)
    assert "budgets reserve more for its calls from now on" in caplog.text


@on_both
@pytest.mark.parametrize("kind", [Unreadable, Refused])
def test_a_failed_call_that_tells_what_it_used_is_charged_that_and_taught_from(kind: type[Exception]) -> None:
    error = kind("all tokens were used up before it began")
    error.used = (90, 400)  # type: ignore[attr-defined]
    model = FakeChat(otherwise=error, service=PRICED)
    fail(exact(FakeLimiter()), model)
    assert spent() == pytest.approx(4.9)
    assert (made()[0]["input_tokens"], made()[0]["output_tokens"]) == (90, 400)
    assert token_charges.of(PRICED.name).output_share == 8.0


def test_a_service_that_does_not_tell_what_it_used_is_charged_the_most() -> None:
    calls.set_budget("r", 8.0)
    told = openai.usage(None, "甲" * 100, "答案是：A")
    assert told.input_tokens >= 300
    model = FakeChat(service=PRICED, usage=told)
    Gateway(FakeLimiter()).chat(JOB, "B:1:m", model, Prompt("甲" * 100, 50, 0.7))
    assert spent() == pytest.approx(providers.cost(PRICED.price, told))


# Translations


@on_both
def test_translations_are_kept_with_the_call_that_made_them() -> None:
    kept: list[list[str]] = []
    translator = FakeTranslator(
        lambda text, *way: "→".join((*way, text)),
        price=Price(characters=1_000_000),
        script=[Throttled("429")],
    )
    limiter = FakeLimiter()
    texts = exact(limiter).translate(
        "r", translator, ["甲", "乙丙"], ("zh", "ja"), lambda _, made: kept.append(made)
    )
    assert texts == ["zh→ja→甲", "zh→ja→乙丙"]
    assert kept == [texts]
    assert translator.calls == [Translating(["甲", "乙丙"], "zh", "ja")] * 2
    assert outcomes() == [("throttled", 0.0), ("ok", 3.0)]
    assert (made()[1]["number"], made()[1]["step"], made()[1]["characters"]) == (None, "zh>ja", 3)


@on_both
def test_translations_that_cannot_be_kept_take_the_record_of_their_call_back_with_them() -> None:
    def keep(connection: sa.Connection, made: list[str]) -> None:
        connection.execute(schema.facts.insert().values(name="half", value=made[0]))
        raise ZeroDivisionError

    translator = FakeTranslator(price=Price(characters=1_000_000))
    with pytest.raises(ZeroDivisionError):
        exact(FakeLimiter()).translate("r", translator, ["甲乙"], ("zh", "ja"), keep)
    with engine.reading() as connection:
        assert connection.scalar(sa.select(schema.facts).where(schema.facts.c.name == "half")) is None
    # It was made, so it is charged.
    assert outcomes() == [(None, 2.0)]
    assert spent() == 2.0


def test_a_translation_that_fails_keeps_nothing() -> None:
    kept: list[list[str]] = []
    translator = FakeTranslator(script=[Unreadable("3 translations of 2 texts")])
    with pytest.raises(Unreadable):
        exact(FakeLimiter()).translate(
            "r", translator, ["甲"], ("zh", "ja"), lambda _, made: kept.append(made)
        )
    assert (kept, outcomes()) == ([], [("unreadable", 0.0)])


# A ledger that is away


class Away:
    """A ledger that does not answer the first ``times`` writes of one kind."""

    def __init__(self, times: int, write: Callable[..., None]) -> None:
        self.left, self._write = times, write

    def __call__(self, *given: Any, **named: Any) -> None:
        if self.left:
            self.left -= 1
            raise ServiceUnreachable("the ledger does not answer")
        self._write(*given, **named)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE", 0.001)


@pytest.mark.usefixtures("impatient")
def test_a_reply_that_is_paid_for_is_recorded_however_long_the_ledger_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "finish", away := Away(20, calls.finish))
    model = FakeChat(otherwise="答案是：B", service=PRICED)
    gateway = Gateway(FakeLimiter())
    assert gateway.chat(JOB, "B:1:m", model, PROMPT) == "答案是：B"
    assert gateway.chat(JOB, "B:1:m", model, PROMPT) == "答案是：B"
    assert (away.left, len(model.prompts), outcomes(), spent()) == (0, 1, [("ok", MOST)], MOST)


@pytest.mark.usefixtures("impatient")
def test_what_a_failed_call_costs_is_recorded_however_long_the_ledger_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "finish", away := Away(20, calls.finish))
    model = FakeChat(otherwise=NoReply("it timed out"), service=PRICED)
    fail(Gateway(FakeLimiter()), model)
    ((outcome, cost),) = outcomes()
    assert (away.left, outcome) == (0, "no reply")
    assert spent() == cost >= MOST


@pytest.mark.usefixtures("impatient")
def test_translations_that_are_paid_for_are_kept_however_long_the_ledger_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[list[str]] = []
    monkeypatch.setattr(calls, "finish", Away(20, calls.finish))
    translator = FakeTranslator()
    Gateway(FakeLimiter()).translate(
        "r", translator, ["甲"], ("zh", "ja"), lambda _, texts: kept.append(texts)
    )
    assert (kept, len(translator.calls)) == ([["甲"]], 1)


@pytest.mark.usefixtures("impatient")
def test_a_service_is_paused_however_long_the_ledger_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "pause", away := Away(20, calls.pause))
    fail(Gateway(FakeLimiter()), FakeChat(otherwise=Barred("the key is wrong: mend it")))
    assert away.left == 0
    assert [pause.reason for pause in calls.pauses("chat")] == ["the key is wrong: mend it"]


@on_both
def test_an_end_that_is_recorded_twice_is_recorded_once() -> None:
    number = calls.begin(CallPurpose("r", 7, "B:1:m", "chat", "m"), MOST)
    for _ in range(2):
        calls.finish(number, calls.OK, reply="答案是：B", usage=Usage(90, 20), cost=1.1)
    assert (outcomes(), spent()) == ([("ok", 1.1)], pytest.approx(1.1))


def test_a_call_that_this_machine_cannot_make_costs_nothing() -> None:
    fail(Gateway(FakeLimiter()), FakeChat(otherwise=UserError("no proxy"), service=PRICED))
    assert (outcomes(), spent()) == ([("not made", 0.0)], 0.0)
