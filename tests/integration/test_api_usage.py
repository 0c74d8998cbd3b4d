"""Looking at runs that call outside services: how far, at what cost, what stops them, one item's story."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from producers import run_progress
from producers.reports import api_usage, generation_report, report_files
from shared import broker, service_pauses, settings
from shared.errors import LONGEST_DAY, OverBudget
from shared.ledger import calls, claims, engine, leases, runs, token_charges
from shared.ledger.calls import CallPurpose
from shared.ledger.runs import Run
from shared.providers import Usage
from tests.conftest import Command
from tests.integration import call_fixtures, run_fixtures
from tests.integration.call_fixtures import drop, text
from workers.gateway.backoff import Backoffs

pytestmark = pytest.mark.usefixtures("home")
MIDNIGHT = 1_795_363_200.0  # 2026-11-23 00:00 in Shanghai


@pytest.fixture
def run(home: Path) -> Run:
    """Record five questions of two entries, on a budget of 1."""
    made = call_fixtures.reason_run(home, run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "CAB"))
    calls.set_budget(made.name, 1.0)
    return made


@pytest.fixture
def worked(run: Run) -> Run:
    """Work on it: one agrees at once, one at the third ask, one is known, one never agrees, one is open."""
    usage = Usage(100, 50)
    call_fixtures.call(run, 0, "A:1:m1", reply="答案是：A", usage=usage, cost=0.1)
    call_fixtures.explain(run, 0, text("A"))
    for ask, reply in enumerate(["答案是：C", "不知道", "答案是：B"], start=1):
        call_fixtures.call(run, 1, f"B:{ask}:m1", reply=reply, usage=usage, cost=0.1)
    call_fixtures.explain(run, 1, text("B"))
    call_fixtures.explain(run, 2, text("C", reused=True))
    call_fixtures.call(run, 3, "A:1:m2", "no reply", detail="timed out", cost=0.05, model="m2")
    call_fixtures.call(run, 3, "A:1:m2", "not made", detail="it is paused", model="m2")
    call_fixtures.call(run, 3, "A:1:m2", reply="我认为是C", usage=usage, cost=0.02, model="m2")
    claims.bury(
        call_fixtures.claim(run, 3), "no reasoning for A: chat/m1 said C, C, C; chat/m2 said no letter"
    )
    return run


def status(votequeue: Command, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(votequeue("status", run, "--json").out)
    return found


# status


@pytest.mark.usefixtures("any_ledger")
def test_status_tells_what_was_spent_and_called(worked: Run, votequeue: Command) -> None:
    shown = votequeue("status", "r").out
    assert "spent: 0.47 of 1 CNY" in shown
    assert "calls: 6 (5 ok, 1 no reply, 1 not made)" in shown
    assert "used: 500 tokens in, 250 tokens out" in shown
    said = status(votequeue, "r")
    assert (said["services"]["spent"], said["services"]["budget"]) == (pytest.approx(0.47), 1.0)
    assert said["services"]["tallies"][0] == {
        "provider": "chat",
        "model": "m1",
        "outcome": "ok",
        "calls": 4,
        "input_tokens": 400,
        "output_tokens": 200,
        "characters": 0,
        "cost": pytest.approx(0.4),
    }
    assert said["result"] is None


def test_a_run_that_has_called_nobody_says_so(run: Run, votequeue: Command) -> None:
    calls.set_budget("r", None)
    call_fixtures.translate_run(
        Path(), run_fixtures.entry("p1"), how=call_fixtures.BACK.model_copy(update={"provider": None})
    )
    for name in ("r", "t"):
        assert "spent: 0 CNY\ncalls: none yet\n" in votequeue("status", name).out


@pytest.mark.usefixtures("any_ledger")
def test_a_call_under_way_is_told_and_has_spent_nothing_yet(run: Run, votequeue: Command) -> None:
    call_fixtures.call(run, 0, "A:1:m1", None, cost=0.25)
    assert "spent: 0 of 1 CNY\ncalls: 1 (1 under way)\n" in votequeue("status", "r").out


@pytest.mark.usefixtures("any_ledger")
def test_pauses_of_the_runs_own_services_are_told_by_the_providers_clock(
    run: Run, votequeue: Command
) -> None:
    today = datetime.now(ZoneInfo("Asia/Shanghai")).date()
    midnight = datetime.combine(today + timedelta(days=1), datetime.min.time(), ZoneInfo("Asia/Shanghai"))
    until = midnight.timestamp()
    calls.pause("chat/m2@1f0c22aa", "the day's calls are used up", until)
    calls.pause("chat/other@1f0c22aa", "not ours", until)
    calls.pause("chatter@1f0c22aa", "nor this", until)
    shown = votequeue("status", "r").out
    told = (
        f"provider chat pauses until {midnight:%Y-%m-%d} 00:00 (Asia/Shanghai): the day's calls are used up\n"
    )
    assert told in shown
    assert "not ours" not in shown
    assert "nor this" not in shown
    (halt,) = status(votequeue, "r")["services"]["halts"]
    assert halt["until_at"] == f"{midnight.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000+00:00"


@pytest.mark.usefixtures("any_ledger")
@pytest.mark.parametrize("until", [4e9, 253402300799.0, 1e300, float("inf")])
def test_a_pause_that_an_older_version_put_down_for_years_lasts_a_day(
    run: Run, votequeue: Command, until: float
) -> None:
    calls.pause("chat/m1@1f0c22aa", "slow down", until)
    (pause,) = calls.pauses("chat")
    assert pause.until == pause.since + LONGEST_DAY
    assert "provider chat pauses until 20" in votequeue("status", "r").out
    assert status(votequeue, "r")["services"]["halts"][0]["until_at"].startswith("20")


@pytest.mark.usefixtures("any_ledger")
@pytest.mark.parametrize("until", [253402300799.0, 1e300])
def test_an_item_that_an_older_version_put_off_for_years_is_shown(
    run: Run, votequeue: Command, until: float
) -> None:
    claims.release([call_fixtures.claim(run, 0)], "slow down", until)
    for command in (["status", "r"], ["status", "r", "--json"], ["trace", "r", "0"]):
        assert votequeue(*command).code == 0


def test_a_pause_that_workers_wait_for_is_told_with_what_the_service_said(
    run: Run, votequeue: Command, on_broker: str
) -> None:
    for name in ("chat/m1@1f0c22aa", "chat/other@1f0c22aa"):
        Backoffs(broker.client()).slow_down(
            service_pauses.key(name), None, 200.0, "chat (h) says 429: [bold]slowly"
        )
    shown = votequeue("status", "r").out
    assert "chat/m1@1f0c22aa pauses for 3 min: chat (h) says 429: [bold]slowly\n" in shown
    assert "other" not in shown
    (slowdown,) = status(votequeue, "r")["services"]["slowdowns"]
    assert (slowdown["service"], slowdown["left"]) == ("chat/m1@1f0c22aa", pytest.approx(200, abs=10))


@pytest.mark.usefixtures("any_ledger")
def test_a_service_that_uses_more_than_its_calls_allow_is_told(run: Run, votequeue: Command) -> None:
    with engine.writing() as connection:
        token_charges.learn(connection, "chat/m1@1f0c22aa", Usage(100, 50), Usage(90, 155))
    told = "chat/m1@1f0c22aa used 3.1 times the tokens that a call allowed; budgets reserve more\n"
    assert told in votequeue("status", "r").out


@pytest.mark.usefixtures("any_ledger")
def test_what_a_person_must_mend_is_told_with_what_to_do_then(run: Run, votequeue: Command) -> None:
    calls.pause("chat@1f0c22aa", "the account has no credit: top it up.", None)
    told = "is stopped: the account has no credit: top it up; fix it, then run `votequeue resume r`"
    assert told in votequeue("status", "r").out
    assert calls.lift("chat") == 1
    assert "is stopped" not in votequeue("status", "r").out


def test_midnight_is_shown_as_such_half_a_second_off() -> None:
    for off in (-0.5, 0.5):
        halt = api_usage.Halt("qianfan", "qianfan@1", "used up", 0.0, MIDNIGHT + off)
        assert "until 2026-11-23 00:00 (Asia/Shanghai)" in api_usage.describe_halt(halt, "r")


@pytest.mark.usefixtures("any_ledger")
def test_items_put_off_are_counted_and_nobody_is_missed_for_them(
    run: Run, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "IDLE_AFTER", 0.0)
    held = [call_fixtures.claim(run, number) for number in range(5)]
    claims.release(held[:4], "used up", 3600)
    claims.release(held[4:], "used up", 0)
    time.sleep(0.01)
    standing = run_progress.progress_of("r")
    assert (standing.put_off, standing.stalled) == (4, True)
    assert run_progress.summary(standing) == "0/5 settled, 5 waiting (4 of them put off)"
    claims.release([call_fixtures.claim(run, 4)], "used up", 7200)
    standing = run_progress.progress_of("r")
    assert (standing.put_off, standing.stalled) == (5, False)
    assert standing.due_at == pytest.approx(time.time() + 3600, abs=60)
    told = votequeue("status", "r").out
    assert re.search(r"5 questions put off, the first until .* \(released: used up\)\n", told), told


def test_items_that_wait_for_a_person_are_not_given_a_date(run: Run, votequeue: Command) -> None:
    claims.release([call_fixtures.claim(run, 0)], "no credit", 10 * 365 * 86_400)
    told = "1 question put off until the problem below is fixed"
    assert told in votequeue("status", "r").out


@pytest.mark.usefixtures("any_ledger")
def test_a_run_stopped_by_its_budget_says_so_and_what_to_do(run: Run, votequeue: Command) -> None:
    call_fixtures.call(run, 0, "A:1:m1", cost=0.9)
    with pytest.raises(OverBudget) as over:
        calls.begin(CallPurpose("r", 1, "B:1:m1", "chat", "m1"), 0.2)
    claims.bury(call_fixtures.claim(run, 0), str(over.value))
    claims.bury(call_fixtures.claim(run, 1), "no reasoning for B: chat/m1 said C")
    told = "stopped by its budget: 1 question given up; repeat the command with a larger --budget to continue"
    assert told in votequeue("status", "r").out
    assert status(votequeue, "r")["services"]["stopped"] == 1


def test_missing_workers_are_called_by_what_they_would_take(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "IDLE_AFTER", 0.0)
    call_fixtures.reason_run(home, run_fixtures.entry("p1"))
    call_fixtures.translate_run(home, run_fixtures.entry("p1"))
    nobody = run_progress.describe_stall(run_progress.progress_of("r"))
    assert nobody.startswith("no live worker serves the queue reason: start one with `votequeue up` or")
    leases.heartbeat("busy", 60, queues=["reason", "translate"])
    told = "no worker is taking {}: start one with `votequeue up` or `votequeue worker {}`"
    assert run_progress.describe_stall(run_progress.progress_of("r")) == told.format("questions", "reason")
    assert run_progress.describe_stall(run_progress.progress_of("t")) == told.format("entries", "translate")


def test_what_keeps_a_run_is_said_once_while_it_is_watched(
    run: Run, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.pause("chat@1f0c22aa", "no credit", None)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            for number in range(5):
                call_fixtures.explain(run, number, text("A"))

    monkeypatch.setattr("producers.watch.time.sleep", nap)
    ended = votequeue("status", "r", "--watch")
    assert ended.err.count("provider chat is stopped: no credit; fix it") == 1


# report


@pytest.mark.usefixtures("any_ledger")
def test_a_reports_figures_are_those_of_the_record(worked: Run) -> None:
    found = generation_report.figures("r")
    assert (found.items, found.done, found.dead, found.open) == (5, 3, 1, 1)
    assert (found.agreement.right, found.agreement.of) == (3, 4)
    assert (found.asks, found.reused, found.parts.right) == ({1: 1, 3: 1}, 1, 3)
    assert {name: (share.right, share.of) for name, share in found.models.items()} == {
        "chat/m1": (2, 4),
        "chat/m2": (0, 1),
    }
    assert found.given_up == {"no reasoning for X: chat/m1 said X; chat/m2 said no letter": 1}
    assert len(found.call_times) == 6
    assert found.busiest_minute == 6
    assert found.wall_seconds is not None


@pytest.mark.usefixtures("any_ledger")
def test_letters_are_counted_apart_where_every_one_is_asked_for(home: Path) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1", "AA"), label="wrong", letters="every")
    for step in ("B:1:m1", "B:2:m1", "C:1:m1"):
        call_fixtures.call(run, 0, step, reply="答案是：B")
    call_fixtures.explain(run, 0, text("B"), dropped=(drop("C"),))
    call_fixtures.explain(run, 1, text("C"), dropped=(drop("B", "chat/m1 said A, no letter, A"),))
    found = generation_report.figures("r")
    assert (found.parts.right, found.parts.of) == (2, 4)
    assert found.dropped == {"chat/m1 said X, no letter": 1, "chat/m1 said X, no letter, X": 1}
    assert found.asks[2] == 1


@pytest.mark.usefixtures("any_ledger")
def test_the_checks_that_translations_fail_are_counted(home: Path, votequeue: Command) -> None:
    sources = [run_fixtures.solved(name, "ABC") for name in ("p1", "p2", "p3")]
    run = call_fixtures.translate_run(home, *sources)
    call_fixtures.call(
        run, None, "zh>ja", usage=Usage(characters=2000), cost=0.12, model="TextTranslateBatch"
    )
    kept = [call_fixtures.new_entry({**source, "questions": source["questions"][:2]}) for source in sources]
    call_fixtures.translate(run, 0, kept[0], (2, "option B is empty"))
    call_fixtures.translate(run, 1, kept[1], (1, "option C is empty"))
    claims.bury(call_fixtures.claim(run, 2), "the problem lost 3, 12 and “甲”")
    found = generation_report.figures("t")
    assert (found.parts.right, found.parts.of) == (4, 6)
    assert found.dropped == {"option X is empty": 2}
    assert found.given_up == {"the problem lost N and …": 1}
    shown = votequeue("report", "t").out
    assert "entries with a result, of those that ended  2/3  66.7 %" in shown
    assert "2,000 characters" in shown
    assert "questions dropped" in shown


def test_what_the_budget_stopped_is_no_disagreement(run: Run) -> None:
    call_fixtures.explain(run, 0, text("A"))
    claims.bury(call_fixtures.claim(run, 1), "the budget of 1 would be exceeded: 0.9 is spent")
    assert generation_report.figures("r").agreement.value == 1.0


def test_calls_over_some_minutes_are_drawn(worked: Run, home: Path) -> None:
    found = generation_report.figures("r")
    found.call_times = [0.0, 10.0, 70.0, 130.0]
    assert [file.name for file in report_files.save(found, home / "out")] == [
        "report.md",
        "report.json",
        "calls.png",
    ]
    assert (home / "out" / "calls.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_is_tables_a_page_and_data(worked: Run, home: Path, votequeue: Command) -> None:
    ended = votequeue("report", "r", "-o", "out")
    assert ended.code == 0
    assert "replies kept of chat/m1                       2/4  50.0 %" in ended.out
    assert "no reasoning for X: chat/m1 said X; chat/m2 said no letter" in ended.out
    # All calls were made within a minute: a picture of one bar would say nothing.
    assert sorted(path.name for path in (home / "out").iterdir()) == ["report.json", "report.md"]
    page = (home / "out" / "report.md").read_text("utf-8")
    assert "| agreed at ask 3 | 1 |" in page
    assert "| chat/m1: ok | 4 calls, 0.4 |" in page
    data = json.loads((home / "out" / "report.json").read_text("utf-8"))
    assert data["agreement"] == {"right": 3, "of": 4, "share": 0.75}
    assert data["services"]["currency"] == settings.load().currency
    assert json.loads(votequeue("report", "r", "--json").out)["asks"] == {"1": 1, "3": 1}


def test_a_run_on_which_nobody_worked_has_a_report_too(run: Run, home: Path, votequeue: Command) -> None:
    assert "5: 0 done, 0 dead, 5 open" in votequeue("report", "r").out
    assert report_files.save(generation_report.figures("r"), home / "out")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("qwen1.5-0.5b-chat said B, C, A", "qwen1.5-0.5b-chat said X"),
        ("2 of 5 answers say D", "N of N answers say X"),
        ("chat/Yi-34B said nothing ('no' \"way\")", "chat/Yi-34B said nothing (… …)"),
        ("the names “Ann”, “Bo” and 7.5 are lost", "the names … and N are lost"),
    ],
)
def test_reasons_that_differ_in_letters_and_numbers_are_one(reason: str, kind: str) -> None:
    assert generation_report.generalize_reason(reason) == kind


# trace, failed


def test_explain_tells_claims_calls_and_texts(worked: Run, votequeue: Command) -> None:
    shown = votequeue("trace", "r", "p1#2").out
    assert "B. 乙   (right)" in shown
    assert "attempt 1 by one" in shown
    assert "call B:3:m1 to chat/m1, " in shown
    assert ": ok, 100 tokens in, 50 out, cost 0.1\n  | 答案是：B" in shown
    assert "\nreasoning for B by chat/m1, prompt 1a2b3c4d\n  | 因为如此。\n  | 答案是：B" in shown
    assert "1a2b3c4d, reused" in votequeue("trace", "r", "2").out
    failed = votequeue("trace", "r", "p2#2").out
    assert ": no reply, 0 tokens in, 0 out, cost 0.05\n  | timed out" in failed
    assert "no result: no reasoning for A" in failed


@pytest.mark.usefixtures("any_ledger")
def test_explain_speaks_json_of_these_runs_too(worked: Run, votequeue: Command) -> None:
    said = json.loads(votequeue("trace", "r", "1", "--json").out)
    assert (said["key"], said["questions"][0]["answer"], said["unit"]) == ("p1#2", "B", "question")
    assert [call["step"] for call in said["calls"]] == ["B:1:m1", "B:2:m1", "B:3:m1"]
    assert said["calls"][0]["begun_at"].endswith("+00:00")
    assert said["result"]["texts"][0]["letter"] == "B"


@pytest.mark.usefixtures("any_ledger")
def test_explain_shows_the_entry_that_came_of_an_entry(home: Path, votequeue: Command) -> None:
    source = run_fixtures.solved("p1", "AB")
    run = call_fixtures.translate_run(home, source)
    assert "no result yet" in votequeue("trace", "t", "p1").out
    claims.release([call_fixtures.claim(run, 0)], "used up", 0.0)
    call_fixtures.translate(run, 0, call_fixtures.new_entry(source), (2, "option A is empty"))
    shown = votequeue("trace", "t", "0").out
    assert "released: used up" in shown
    assert "no calls for this item alone" in shown
    assert '  |   "id": "p1~back-translation",' in shown
    assert "question 2 dropped: option A is empty" in shown
    ended = votequeue("trace", "t", "p1#2")
    assert (ended.code, ended.err) == (1, "votequeue: run 't' has no entry 'p1#2'; did you mean p1?\n")


def test_an_item_put_off_says_until_when(run: Run, votequeue: Command) -> None:
    claims.release([call_fixtures.claim(run, 0)], "used up", 3600)
    assert "no result yet; put off until " in votequeue("trace", "r", "p1#1").out


def test_what_models_say_cannot_steer_the_terminal(run: Run, votequeue: Command) -> None:
    said = "\x1b[2J[bold]答案是：A"
    call_fixtures.call(run, 0, "A:1:m1", reply=said)
    call_fixtures.explain(run, 0, text("A", said))
    claims.bury(call_fixtures.claim(run, 1), said)
    for command in (["trace", "r", "0"], ["failed", "r"], ["report", "r"], ["trace", "r", "1"]):
        shown = votequeue(*command).out
        assert "\x1b" not in shown
        assert command[0] == "report" or "[bold]答案是：A" in shown


@pytest.mark.usefixtures("any_ledger")
def test_failed_lists_entries_by_their_key(home: Path, votequeue: Command) -> None:
    run = call_fixtures.translate_run(home, run_fixtures.entry("p7"))
    claims.bury(call_fixtures.claim(run, 0), "option A is empty")
    shown = votequeue("failed", "t").out
    assert "p7" in shown
    assert "option A is empty" in shown
    assert runs.count_states("t")["dead"] == 1
