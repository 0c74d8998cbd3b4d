"""The dry run: what a run would cost, at the settings' prices and limits, before anything is sent."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from producers.enqueue import estimate, plan
from producers.enqueue.workload import Amount, Load, Workload
from shared import broker, dataset, prompts, settings, token_bounds
from shared.dataset import Line
from shared.jobs import Reason
from shared.ledger import cache, calls, claims, engine, outbox, runs, schema
from shared.ledger.cache import Route, Wanted
from shared.prompts import PromptQuestion
from tests.conftest import Command
from tests.integration import run_fixtures

REASON = ("--label", "correct", "--provider", "chat", "--model", "m", "--run", "r", "--dry-run")
BACK = ("--strategy", "back-translation", "--provider", "tencent", "--run", "t", "--dry-run")


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "d.jsonl", *(run_fixtures.solved(f"p{n}", "AB") for n in range(5)))


@pytest.fixture
def told(votequeue: Command) -> Any:
    """Give the dry run of a command as JSON."""

    def dry(*arguments: object) -> dict[str, Any]:
        ended = votequeue("enqueue", *arguments, "--json")
        assert ended.code == 0, ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found

    return dry


def give(monkeypatch: pytest.MonkeyPatch, **settings_given: str) -> None:
    for name, value in settings_given.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name.upper()}", value)
    settings.load.cache_clear()


def rows() -> int:
    """Count the ledger's rows, but for the version of its tables."""
    with engine.reading() as connection:
        tables = [table for table in schema.metadata.sorted_tables if table.name != "facts"]
        return sum(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables)


@pytest.mark.parametrize("command", [("reason", *REASON), ("translate", *BACK)])
def test_a_dry_run_writes_nothing_and_sends_nothing(
    command: tuple[str, ...], data: Path, on_broker: str, votequeue: Command
) -> None:
    ended = votequeue("enqueue", command[0], data, *command[1:])
    assert ended.code == 0
    assert "would be enqueued" in ended.out
    assert rows() == 0
    assert broker.client().dbsize() == 0


def test_a_dry_run_needs_no_broker(data: Path, votequeue: Command) -> None:
    assert votequeue("enqueue", "reason", data, *REASON).code == 0


def test_a_dry_run_is_refused_where_the_run_would_be(data: Path, on_broker: str, votequeue: Command) -> None:
    assert votequeue("enqueue", "reason", data, *REASON[:-1]).code == 0
    ended = votequeue("enqueue", "reason", data, *REASON, "--asks", 7)
    assert (ended.code, "its asks is 3, not 7" in ended.err) == (1, True)
    assert "run r would be continued" in votequeue("enqueue", "reason", data, *REASON).out


def test_a_dry_run_says_what_it_rests_on(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = votequeue("enqueue", "reason", data, *REASON).out
    assert "no price is set for chat/m: VOTEQUEUE_PRICES" in said
    assert (
        "limits of chat/m: per_minute 300, max_concurrency 16; the time is bound by the length of a call"
        in said
    )
    assert "assumed: 9 of 10 replies agree with the letter and have 400 tokens" in said
    give(monkeypatch, prices='{"chat": {"input": 1, "output": 2}}', currency="EUR")
    said = votequeue("enqueue", "reason", data, *REASON).out
    assert "no price" not in said
    assert "cost (EUR)" in said


def test_an_enqueue_says_its_estimate_in_a_line(data: Path, on_broker: str, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, *REASON[:-1])
    assert "estimate: 12 calls (at most 30), no price is set, about" in ended.err


# Reasonings


def test_one_ask_of_each_letter_is_exactly_known(
    data: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, prices='{"chat/m": {"input": 2000, "output": 1000}}')
    found = told("reason", data, *REASON, "--asks", 1, "--max-tokens", 100)["estimate"]
    asked = PromptQuestion("甲比乙高，乙比丙高。(p0)", "谁高？", ("甲", "乙", "丙"))
    prompt = prompts.explaining(asked, "A")
    tokens, most = 10 * prompts.tokens(prompt), 10 * token_bounds.message(prompt)
    assert found["calls"] == {"expected": 10, "most": 10}
    assert found["input_tokens"] == {"expected": tokens, "most": most}
    assert found["output_tokens"] == {"expected": 1000, "most": 1000}
    assert found["cost"]["expected"] == pytest.approx((tokens * 2000 + 1000 * 1000) / 1e6)
    assert found["cost"]["most"] == pytest.approx((most * 2000 + 1000 * 1000) / 1e6)
    assert found["services"][0]["call_cost"] == pytest.approx(found["cost"]["most"] / 10)


def test_a_dry_run_tells_the_bound_that_a_budget_counts_with(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, prices='{"chat/m": {"input": 2000, "output": 1000}}')
    prompt = prompts.explaining(PromptQuestion("甲比乙高，乙比丙高。(p0)", "谁高？", ("甲", "乙", "丙")), "A")
    told = f"{(2000 * token_bounds.message(prompt) + 1000 * 1024) / 1e6:.2f} CNY"
    said = votequeue("enqueue", "reason", data, *REASON)
    assert f"a budget counts a call to chat/m as up to {told}, one token per byte of its prompt" in said.out
    said = votequeue("enqueue", "reason", data, *REASON, "--budget", 2)
    assert f"a call to chat/m: it counts as up to {told} until its reply reports" in said.err


def test_at_the_most_every_model_is_asked_every_time(data: Path, told: Any) -> None:
    found = told("reason", data, *REASON, "--model", "n", "--asks", 2, "--max-tokens", 500)["estimate"]
    assert [one["calls"]["most"] for one in found["services"]] == [20, 20]
    assert [one["calls"]["expected"] for one in found["services"]] == [11, 1]
    assert found["output_tokens"]["most"] == 40 * 500


def test_without_chance_each_model_is_asked_once(data: Path, told: Any) -> None:
    assert told("reason", data, *REASON, "--temperature", 0)["estimate"]["calls"]["most"] == 10


def test_every_wrong_letter_is_a_reasoning_of_its_own(home: Path, told: Any) -> None:
    same = run_fixtures.entry("p2")
    same["questions"][0]["options"] = ["是", "是 ", "否"]
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "B-"), same)
    wrong = ("--label", "wrong", "--provider", "local", "--asks", 1, "--dry-run")
    assert told("reason", data, *wrong)["estimate"]["calls"]["most"] == 2
    assert told("reason", data, *wrong, "--letters", "every")["estimate"]["calls"]["most"] == 3


def test_a_reasoning_on_record_costs_nothing(data: Path, told: Any) -> None:
    wanted = Wanted(
        PromptQuestion("甲比乙高，乙比丙高。(p3)", "谁高？", ("甲", "乙", "丙")),
        "B",
        "correct",
        "chat",
        prompts.version("explaining"),
    )
    with engine.writing() as connection:
        cache.keep_reasoning(connection, wanted, "m", "……答案是：B")
    found = told("reason", data, *REASON, "--asks", 1)["estimate"]
    assert (found["on_record"], found["calls"]["most"]) == (1, 9)
    assert told("reason", data, *REASON, "--asks", 1, "--label", "wrong")["estimate"]["on_record"] == 0


def test_any_ledger_knows_what_it_has(any_ledger: str) -> None:
    wanted = [
        Wanted(PromptQuestion("甲高。", "谁？", ("甲", "乙")), letter, "wrong", "chat", "1a")
        for letter in "AB"
    ]
    with engine.writing() as connection:
        cache.keep_reasoning(connection, wanted[1], "m", "……答案是：B")
    assert cache.have_reasonings(wanted, ["l", "m"]) == [False, True]
    assert cache.have_reasonings(wanted, ["l"]) == [False, False]


def test_any_ledger_records_items_with_a_budget_and_revives_by_reason(any_ledger: str, home: Path) -> None:
    data = run_fixtures.write(
        home / "d.jsonl", run_fixtures.entry("p1", "A-B"), run_fixtures.entry("p2", "-")
    )
    lines = [line for line in dataset.scan(data) if isinstance(line, Line)]
    with_budget = functools.partial(calls.put_budget, run="r", budget=2.0)
    run = runs.Run("r", "reason", "x", "d", None, {})
    assert runs.open_run(run, lines, wants=plan.labelled, also=with_budget) == 2
    assert calls.spent("r") == calls.Spending(2.0, 0.0)
    for held, reason in zip(
        claims.claim([Reason(run="r", item=n) for n in (0, 1)], "one", 60), "ab", strict=True
    ):
        claims.bury(held, f"{reason}: for 100 %")
    assert outbox.revive("r", "b: for 100 %") == 1
    assert outbox.revive("r", "%") == 0
    assert outbox.revive("r") == 1


# Translations


def test_a_text_is_translated_once_an_entry_there_and_back(
    home: Path, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, prices='{"tencent": {"characters": 1000000}}')
    entry = {
        "id": "p",
        "problem": "1. 甲比乙高。\n2. 乙比丙高。\nf(x) = 3",
        "questions": [
            {"question": "选择题 1：谁最高？", "options": ["甲", "3"], "reasoning": "甲比乙高。\n答案是：A"},
            {"question": "选择题 2：谁最高？", "options": ["甲", "乙"]},
        ],
    }
    found = told("translate", run_fixtures.write(home / "d.jsonl", entry), *BACK, "--pivot", "ja")["estimate"]
    characters = len("甲比乙高。" + "乙比丙高。" + "谁最高？" + "甲" + "乙")
    assert found["characters"]["expected"] == pytest.approx(characters * 2.4, abs=1)
    assert found["calls"] == {"expected": 2, "most": 2}
    assert found["cost"]["expected"] == found["characters"]["expected"]


def test_texts_of_many_entries_share_calls(home: Path, told: Any) -> None:
    entries = [run_fixtures.entry(f"p{n}", "A", problem=f"{n}号" * 40) for n in range(30)]
    data = run_fixtures.write(home / "d.jsonl", *entries)
    assert told("translate", data, *BACK)["estimate"]["calls"] == {"expected": 5, "most": 60}


@pytest.mark.parametrize(
    ("there", "back", "on_record", "ways"), [(True, True, 2, 0), (True, False, 1, 1), (False, False, 0, 2)]
)
def test_a_translation_on_record_costs_nothing(
    there: bool, back: bool, on_record: int, ways: int, home: Path, told: Any
) -> None:
    entry = {"id": "p", "problem": "甲比乙高。", "questions": [{"question": "x?", "options": ["1", "2"]}]}
    data = run_fixtures.write(home / "d.jsonl", entry)
    route = Route("zh", "ja", "tencent", "TextTranslateBatch")
    way_back = Route("ja", "zh", "tencent", "TextTranslateBatch")
    for known, text, result, way in [
        (there, "甲比乙高。", "甲は高い。", route),
        (back, "甲は高い。", "甲高。", way_back),
    ]:
        if known:
            cache.reserve([text], way, "one", 60)
            with engine.writing() as connection:
                cache.keep_translations(connection, {text: result}, way)
    found = told("translate", data, *BACK)["estimate"]
    assert (found["on_record"], found["calls"]["most"]) == (on_record, ways)


def test_a_prompted_translator_is_paid_by_tokens(data: Path, told: Any) -> None:
    chat = ("--strategy", "back-translation", "--provider", "chat", "--model", "m", "--dry-run")
    found = told("translate", data, *chat)["estimate"]
    assert found["characters"]["most"] == 0
    assert found["input_tokens"]["expected"] > 0
    assert found["output_tokens"]["expected"] < found["output_tokens"]["most"]
    hunyuan = told("translate", data, *BACK, "--model", "hunyuan-translation")["estimate"]
    assert hunyuan["input_tokens"]["expected"] > 0


def test_a_variant_is_written_and_then_answered(data: Path, told: Any) -> None:
    variant = ("--strategy", "variant", "--provider", "chat", "--model", "m", "--dry-run")
    found = told("translate", data, *variant, "--samples", 3, "--agree", 2)["estimate"]
    assert found["calls"] == {"expected": 70, "most": 120}
    found = told("translate", data, *variant, "--samples", 3, "--agree", 2, "--temperature", 0)["estimate"]
    assert found["calls"] == {"expected": 40, "most": 40}


def test_synonyms_cost_nothing(data: Path, told: Any) -> None:
    found = told("translate", data, "--strategy", "synonym", "--dry-run")
    assert found["items"] == 5
    assert found["estimate"]["calls"] == found["estimate"]["cost"] == {"expected": 0, "most": 0}


# Time


def bound(amount: Amount, monkeypatch: pytest.MonkeyPatch, **limits: float) -> tuple[str, float]:
    open_wide = {"per_minute": None, "max_concurrency": None}
    give(monkeypatch, limits=json.dumps({"chat": {**open_wide, **limits}}))
    found = estimate.of(Workload([Load("chat", "m", amount, amount)]))
    return found.bound_by, found.seconds.expected


@pytest.mark.parametrize(
    ("limits", "name", "seconds"),
    [
        ({"per_second": 2}, "per_second", 9500 / 1.9),
        ({"per_minute": 60}, "per_minute", 9500 / 0.95),
        ({"per_second": 2, "per_minute": 60}, "per_minute", 9500 / 0.95),
        ({"tokens_per_minute": 6000}, "tokens_per_minute", 19000 / 95),
        ({"max_concurrency": 2}, "max_concurrency", 9500 * (estimate.LATENCY + 1 / estimate.SPEED) / 2),
        ({"per_day": 3000}, "per_day", 3 * 86_400),
    ],
)
def test_the_limit_that_lasts_longest_tells_the_time(
    limits: dict[str, float], name: str, seconds: float, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, calls_in_flight="1000")
    found = bound(Amount(9500, 9500, 9500), monkeypatch, **limits)
    assert found == (name, pytest.approx(seconds))


def test_where_no_limit_is_known_one_workers_tasks_tell_the_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, seconds = bound(Amount(1600, 0, 1600 * 40), monkeypatch)
    assert (name, seconds) == (estimate.WORKER, pytest.approx(100 * (1 + 40 / estimate.SPEED)))


def test_a_workload_of_nothing_takes_no_time(home: Path) -> None:
    assert estimate.of(Workload()).seconds == estimate.Between(0, 0)
    nothing = estimate.of(Workload([Load("local", "m", Amount(), Amount())]))
    assert (nothing.seconds.most, nothing.bound_by) == (0, "nothing")
    assert nothing.cost == estimate.Between(0, 0)
