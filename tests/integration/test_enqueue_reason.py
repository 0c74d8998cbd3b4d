"""`enqueue reason`: checked, then recorded with its budget, then sent; the same command continues."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from producers.enqueue import publish
from shared import broker, prompts, service_pauses, settings
from shared.errors import OverBudget, ServiceUnreachable
from shared.jobs import Job, Reason
from shared.ledger import calls, claims, engine, progress, runs, schema
from shared.ledger.schema import State
from tests.conftest import Command
from tests.integration import run_fixtures
from workers.gateway.backoff import Backoff, Backoffs

pytestmark = pytest.mark.usefixtures("on_broker")
CHAT = ("--label", "correct", "--provider", "chat", "--model", "m", "--run", "r")


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(
        home / "测试.jsonl", run_fixtures.entry("p1", "A-"), run_fixtures.entry("p2", "CB")
    )


@pytest.fixture(autouse=True)
def _prices(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat": {"input": 1, "output": 2}}')
    settings.load.cache_clear()


def keys() -> list[tuple[int, str, int, int]]:
    """Read the items: number, key, entry's position, question's index."""
    columns = schema.items.c
    query = sa.select(columns.number, columns.key, columns.entry, columns.question).order_by(columns.number)
    with engine.reading() as connection:
        return [tuple(row) for row in connection.execute(query)]


def bury(number: int, reason: str) -> None:
    held = claims.claim([Reason(run="r", item=number)], "one", 60)
    claims.bury(held[0], reason)


def options(**changes: Any) -> dict[str, Any]:
    return {
        "label": "correct",
        "letters": "next",
        "provider": "chat",
        "models": ["m"],
        "asks": 3,
        "max_tokens": 1024,
        "temperature": 0.7,
        "prompt": prompts.version("explaining"),
        "reader": "conclusion",
        **changes,
    }


def test_every_labelled_question_gets_one_item_and_one_message(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, *CHAT)
    assert ended.out == "run r enqueued: 3 questions, 3 messages sent\n"
    assert keys() == [(0, "p1#1", 0, 0), (1, "p2#1", 1, 0), (2, "p2#2", 1, 1)]
    assert broker.waiting("reason") == 3
    assert runs.get_run("r").options == options()
    assert runs.get_run("r").source == str(data)


def test_entries_without_any_answer_stay_in_the_data_and_have_no_item(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(
        home / "d.jsonl", *(run_fixtures.entry(f"p{n}", "-") for n in range(700)), run_fixtures.entry("q")
    )
    assert votequeue("enqueue", "reason", data, *CHAT).code == 0
    assert keys() == [(0, "q#1", 700, 0)]
    assert runs.load_entry("r", 700).id == "q"


def test_questions_without_an_answer_are_said_to_be_left_out(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, *CHAT, "--json")
    assert "left out (no answer): 1 question\n" in ended.err
    assert json.loads(ended.out) == {
        "run": "r",
        "items": 3,
        "unit": "question",
        "sent": 3,
        "bad": 0,
        "continued": False,
        "left_out": {"unlabelled": 1, "augmented": 0, "translation_tasks": []},
    }


def test_data_without_any_answer_are_refused(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "--"))
    ended = votequeue("enqueue", "reason", data, *CHAT)
    assert ended.code == 1
    assert "it has no labelled question" in ended.err
    assert runs.list_runs() == []


def test_all_options_of_a_run_are_on_record(data: Path, votequeue: Command) -> None:
    told = "--label wrong --letters every --provider qianfan --model a --model b --model a --asks 2"
    more = "--max-tokens 64 --temperature 0.2 --reader reference --run r"
    assert votequeue("enqueue", "reason", data, *told.split(), *more.split()).code == 0
    assert runs.get_run("r").options == options(
        label="wrong",
        letters="every",
        provider="qianfan",
        models=["a", "b"],
        asks=2,
        max_tokens=64,
        temperature=0.2,
        reader="reference",
    )


@pytest.mark.parametrize(("provider", "model"), [("qianfan", "Yi-34B-Chat"), ("local", "tiny")])
def test_a_provider_with_a_model_of_its_own_needs_none_named(
    provider: str, model: str, data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MODEL", "tiny")
    settings.load.cache_clear()
    assert votequeue("enqueue", "reason", data, "--label", "correct", "--provider", provider).code == 0
    assert runs.list_runs()[0].options["models"] == [model]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("--label correct --provider baidu", "does not exist; choose one of: local, chat, qianfan"),
        ("--label correct --provider tencent", "does not support chat; choose one of: local, chat, qianfan"),
        ("--label correct --provider chat", "has no default model: name one"),
        ("--label right --provider local", "Input should be 'correct' or 'wrong'"),
        ("--label wrong --letters all --provider local", "Input should be 'next' or 'every'"),
        ("--label correct --letters every --provider local", "only applies to --label wrong"),
        ("--label correct --provider local --asks 0", "should be greater than or equal to 1"),
        ("--label correct --provider local --budget -1", "expected an amount of money"),
        ("--label correct --provider local --budget nan", "expected an amount of money"),
        ("--provider local", "Missing option '--label'"),
        ("--label correct", "Missing option '--provider'"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(
    told: str, said: str, data: Path, votequeue: Command
) -> None:
    ended = votequeue("enqueue", "reason", data, *told.split())
    assert ended.code == 2
    # The frame that usage errors are printed in breaks their lines.
    assert said in re.sub(r"[\s│]+", " ", ended.err)


def test_a_bad_line_stops_everything_unless_it_is_skipped(data: Path, votequeue: Command) -> None:
    with data.open("a", encoding="utf-8") as file:
        file.write("{\n")
    ended = votequeue("enqueue", "reason", data, *CHAT)
    assert (ended.code, "1 bad line, nothing was enqueued" in ended.err) == (1, True)
    assert runs.list_runs() == []
    ended = votequeue("enqueue", "reason", data, *CHAT, "--skip-bad", "--json")
    assert (json.loads(ended.out)["items"], json.loads(ended.out)["bad"]) == (3, 1)


# Continuing


def test_the_same_command_continues_its_run(data: Path, votequeue: Command) -> None:
    told = CHAT[:-2]
    first = votequeue("enqueue", "reason", data, *told)
    second = votequeue("enqueue", "reason", data, *told)
    name = runs.list_runs()[0].name
    assert name.startswith("测试-")
    assert first.out == f"run {name} enqueued: 3 questions, 3 messages sent\n"
    assert second.out == f"run {name} continued: 3 questions, 0 messages sent\n"
    assert broker.waiting("reason") == 3


def test_other_options_under_the_same_name_are_named(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT)
    ended = votequeue("enqueue", "reason", data, *CHAT, "--model", "n", "--asks", 1)
    assert ended.code == 1
    assert "its asks is 3, not 1; its models is m, not m, n: choose another name with --run" in ended.err
    assert broker.waiting("reason") == 3


def test_with_no_broker_nothing_is_written(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise ServiceUnreachable("the broker does not answer")

    monkeypatch.setattr(broker, "ping", gone)
    assert votequeue("enqueue", "reason", data, *CHAT, "--budget", 5).code == 1
    assert runs.list_runs() == []
    assert calls.spent("r").budget is None


def test_data_that_change_while_they_are_read_leave_nothing_behind(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow() -> None:
        with data.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run_fixtures.entry("p3")) + "\n")

    monkeypatch.setattr(broker, "ping", grow)
    ended = votequeue("enqueue", "reason", data, *CHAT, "--budget", 5)
    assert "changed while it was being read" in ended.err
    assert runs.list_runs() == []
    assert calls.spent("r").budget is None


# Budgets


def test_the_budget_is_on_record_before_a_message_is_sent(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float | None] = []
    real = broker.send

    def looking(jobs: Sequence[Job]) -> int:
        found.extend(calls.spent(job.run).budget for job in jobs)
        return real(jobs)

    monkeypatch.setattr(broker, "send", looking)
    assert votequeue("enqueue", "reason", data, *CHAT, "--budget", 2.5).code == 0
    assert found == [2.5] * 3


def test_a_run_without_a_budget_may_make_calls(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT)
    assert calls.begin(calls.CallPurpose("r", 0, "A:1:m", "chat", "m"), 1e6) > 0


@pytest.mark.parametrize("more", [("--budget", 30), ()])
def test_more_money_revives_what_the_budget_stopped_and_nothing_else(
    more: tuple[object, ...], data: Path, votequeue: Command
) -> None:
    votequeue("enqueue", "reason", data, *CHAT, "--budget", 20)
    with pytest.raises(OverBudget) as stopped:
        calls.begin(calls.CallPurpose("r", 0, "A:1:m", "chat", "m"), 21)
    bury(0, str(stopped.value))
    bury(1, "no reasoning for C: chat/m said A, A, A")
    ended = votequeue("enqueue", "reason", data, *CHAT, *more)
    assert ended.out == "run r continued: 3 questions, 1 message sent\n"
    assert [one.number for one in progress.dead("r")] == [1]
    assert calls.spent("r").budget == (more[1] if more else None)


@pytest.mark.parametrize("budget", [20, 10])
def test_no_more_money_revives_nothing(budget: int, data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT, "--budget", 20)
    bury(0, "the budget of 20 would be exceeded: 19.9 is spent, and the next call may cost 0.5")
    assert "0 messages sent" in votequeue("enqueue", "reason", data, *CHAT, "--budget", budget).out
    assert runs.count_states("r")[State.DEAD] == 1
    assert calls.spent("r").budget == budget


def test_a_budget_that_nothing_counts_against_is_refused(data: Path, votequeue: Command) -> None:
    told = ("--label", "correct", "--provider", "qianfan", "--run", "r", "--budget", 5)
    ended = votequeue("enqueue", "reason", data, *told)
    assert ended.code == 1
    assert "--budget 5 needs a price for qianfan/Yi-34B-Chat" in ended.err
    assert runs.list_runs() == []


def test_a_budget_that_will_not_do_is_said_to_be_so(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, *CHAT, "--budget", 0.0001)
    assert ended.code == 0
    said = r"the budget of 0\.0001 is too small: 0\.00\d+ CNY expected, 0 spent already"
    assert re.search(said, ended.err)
    assert "is too small" not in votequeue("enqueue", "reason", data, *CHAT, "--budget", 5).err


# Notes on this machine


def test_missing_credentials_are_a_note_only(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = votequeue("enqueue", "reason", data, *CHAT)
    assert ended.code == 0
    assert (
        "provider chat: VOTEQUEUE_CHAT_BASE_URL and VOTEQUEUE_CHAT_API_KEY are not set here, "
        "but the workers need them"
    ) in ended.err
    monkeypatch.setenv("VOTEQUEUE_CHAT_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("VOTEQUEUE_CHAT_API_KEY", "sk-very-secret")
    settings.load.cache_clear()
    ended = votequeue("enqueue", "reason", data, *CHAT)
    assert "not set here" not in ended.err
    assert "sk-very-secret" not in ended.out + ended.err


def test_either_of_two_kinds_of_credentials_will_do(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("--label", "correct", "--provider", "qianfan")
    said = (
        "provider qianfan: VOTEQUEUE_QIANFAN_AK and VOTEQUEUE_QIANFAN_SK, or VOTEQUEUE_QIANFAN_ACCESS_KEY "
        "and VOTEQUEUE_QIANFAN_SECRET_KEY are not set here"
    )
    assert said in votequeue("enqueue", "reason", data, *told).err
    monkeypatch.setenv("VOTEQUEUE_QIANFAN_ACCESS_KEY", "x")
    monkeypatch.setenv("VOTEQUEUE_QIANFAN_SECRET_KEY", "y")
    settings.load.cache_clear()
    assert "not set here" not in votequeue("enqueue", "reason", data, *told).err


def test_a_local_server_that_does_not_answer_is_a_note_only(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch, on_broker: str
) -> None:
    told = ("--label", "correct", "--provider", "local")
    monkeypatch.setenv("VOTEQUEUE_LOCAL_URL", "http://127.0.0.1:1/v1")
    settings.load.cache_clear()
    ended = votequeue("enqueue", "reason", data, *told)
    assert ended.code == 0
    assert "nothing answers at http://127.0.0.1:1/v1: start it with `votequeue serve`" in ended.err
    monkeypatch.setenv("VOTEQUEUE_LOCAL_URL", on_broker.replace("redis", "http"))
    settings.load.cache_clear()
    assert "nothing answers" not in votequeue("enqueue", "reason", data, *told).err


# Sending again


def test_resume_lifts_the_providers_pauses_and_lets_nothing_wait(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT)
    claims.release(claims.claim([Reason(run="r", item=1)], "one", 60), "paused", delay=1e6)
    calls.pause("chat@1f0c22aa", "the key is not accepted: set VOTEQUEUE_CHAT_API_KEY", None)
    calls.pause("chat/m@1f0c22aa", "the day's quota is used up", 4e9)
    calls.pause("qianfan@1f0c22aa", "arrears", None)
    broker.client().flushall()
    ended = votequeue("resume", "r")
    assert ended.out == "run r: 3 messages sent\n"
    assert "chat@1f0c22aa is called again; it was paused: the key is not accepted" in ended.err
    assert calls.pauses("chat") == []
    assert len(calls.pauses("qianfan")) == 1
    assert len(claims.claim([Reason(run="r", item=number) for number in range(3)], "one", 60)) == 3


def test_resume_lifts_what_redis_keeps_of_a_pause_too(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT)
    backoffs = Backoffs(broker.client())
    for name, delay in (("chat/m@1f0c22aa", 3600.0), ("chat/n@1f0c22aa", 60.0), ("qianfan/m@1f0c22aa", 60.0)):
        backoffs.slow_down(service_pauses.key(name), None, delay, f"{name} says 429")
    calls.pause("chat/m@1f0c22aa", "chat/m asked for a pause: 429", time.time() + 3600)
    ended = votequeue("resume", "r")
    assert ended.code == 0
    assert "chat/m@1f0c22aa is called again; it was paused: chat/m asked for a pause: 429" in ended.err
    assert "chat/n@1f0c22aa is called again; it was paused: chat/n@1f0c22aa says 429" in ended.err
    assert service_pauses.of("chat") == calls.pauses("chat") == []
    assert backoffs.read(service_pauses.key("chat/m@1f0c22aa")).backoff == Backoff()
    assert [one.service for one in service_pauses.of("qianfan")] == ["qianfan/m@1f0c22aa"]
    assert "called again" not in votequeue("resume", "r").err


def test_resume_says_that_a_quota_of_ours_will_pause_again(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, *CHAT)
    calls.pause("chat/m@1f0c22aa", f"{calls.OWN_QUOTA}the day's 2 calls are made", time.time() + 3600)
    told = "calls stopped by per_day pause again unless the workers' VOTEQUEUE_LIMITS is raised"
    assert told in votequeue("resume", "r").err


def test_resume_of_another_run_lifts_no_pause(data: Path) -> None:
    publish.begin(
        runs.Run("i", "infer", "x", "d", None, {}),
        lambda: runs.open_run(runs.Run("i", "infer", "x", "d", None, {}), []),
    )
    calls.pause("chat@1f0c22aa", "arrears", None)
    publish.resume("i")
    assert len(calls.pauses("chat")) == 1


def test_the_package_is_a_script_too(data: Path) -> None:
    command = [sys.executable, "-m", "producers.enqueue", "reason", str(data), *CHAT]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "run r enqueued: 3 questions, 3 messages sent\n"
