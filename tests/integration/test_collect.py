"""Collecting: the data set as it came, with its answers, all of it or none; and how far a run is."""

import json
import re
import threading
import time
from pathlib import Path

import pytest

from producers import collect, run_progress
from shared.errors import UserError
from shared.jobs import KINDS
from shared.ledger import claims, runs
from tests.conftest import Command
from tests.integration import run_fixtures
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")


@pytest.fixture
def run(home: Path) -> str:
    """Enqueue four questions of two entries, one of them without a known answer."""
    data = run_fixtures.write(
        home / "data.jsonl",
        {"extra": [1.5, None], **run_fixtures.entry("p1", "AB")},
        run_fixtures.entry("p2", "C-"),
    )
    run_fixtures.infer(data, SAMPLING, "r")
    return "r"


def letters(path: Path) -> list[list[str | None]]:
    return [[question.get("answer") for question in one["questions"]] for one in run_fixtures.read(path)]


@pytest.mark.usefixtures("any_ledger")
def test_answers_are_filled_in_and_all_else_is_as_it_came(run: str, home: Path, votequeue: Command) -> None:
    run_fixtures.answer_all(run, 4, "B")
    ended = votequeue("collect", run, "-o", "out.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "out.jsonl: 4 of 4 questions answered\n"
    before, after = run_fixtures.read(home / "data.jsonl"), run_fixtures.read(home / "out.jsonl")
    assert letters(home / "out.jsonl") == [["B", "B"], ["B", "B"]]
    assert [list(one) for one in after] == [list(one) for one in before]
    for one in (*before, *after):
        for question in one["questions"]:
            question.pop("answer", None)
    assert after == before
    assert "甲比乙高" in (home / "out.jsonl").read_text("utf-8")


def test_what_has_no_answer_has_none_in_the_file_and_exit_is_1(
    run: str, home: Path, votequeue: Command
) -> None:
    run_fixtures.answer_all(run, 1, "C")
    ended = votequeue("collect", run, "-o", "out.jsonl")
    assert ended.code == 1
    assert "3 of 4 questions have no answer (3 still open: use `--wait`)" in ended.err
    assert letters(home / "out.jsonl") == [["C", ""], ["", None]]


def test_dead_questions_are_named_and_the_rest_is_written(run: str, home: Path, votequeue: Command) -> None:
    for held in run_fixtures.claim(run, 0, 1, 3):
        run_fixtures.vote(held, [run_fixtures.ballot("A")])
    claims.bury(run_fixtures.claim(run, 2)[0], "too long")
    ended = votequeue("collect", run, "-o", "out.jsonl", "--json")
    assert ended.code == 1
    assert "p2#1 is dead: too long" in ended.err
    said = json.loads(ended.out)
    assert (said["answered"], said["open"], said["dead"][0]["key"]) == (3, 0, "p2#1")
    assert letters(home / "out.jsonl") == [["A", "A"], ["", "A"]]


def test_answers_go_into_a_table_too(run: str, home: Path, votequeue: Command) -> None:
    from pyarrow import parquet

    run_fixtures.answer_all(run, 3, "B")
    ended = votequeue("collect", run, "-o", "out.parquet")
    assert ended.out == "out.parquet: 3 of 4 questions answered\n"
    assert ended.err.startswith("fields dropped (not in the table schema): extra\n")
    rows = parquet.read_table(home / "out.parquet").to_pylist()
    assert [[question["answer"] for question in row["questions"]] for row in rows] == [
        ["B", "B"],
        ["B", None],
    ]


def test_wait_waits_until_nothing_is_open(run: str, home: Path, votequeue: Command) -> None:
    def work() -> None:
        time.sleep(1.2)
        run_fixtures.answer_all(run, 4)

    working = threading.Thread(target=work)
    working.start()
    ended = votequeue("collect", run, "-o", "out.jsonl", "--wait")
    working.join()
    assert ended.code == 0
    told = ended.err.splitlines()
    assert told[0] == "r: 0/4 settled, 4 waiting"
    assert told[-1].startswith("r: 4/4 settled; ")


def test_a_file_that_cannot_be_written_is_said_before_waiting(run: str, home: Path) -> None:
    for place, message in [(home, "is a folder"), (home / "no" / "out.jsonl", "does not exist")]:
        with pytest.raises(UserError, match=message):
            collect.collect(run, place, wait=True)


def test_the_data_set_itself_is_never_overwritten(run: str, home: Path) -> None:
    with pytest.raises(UserError, match="is data of run 'r'"):
        collect.collect(run, home / "data.jsonl")


def test_a_file_from_before_survives_a_failure(run: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    (home / "out.jsonl").write_text("before", encoding="utf-8")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        collect.collect(run, home / "out.jsonl")
    assert (home / "out.jsonl").read_text("utf-8") == "before"
    assert [path.name for path in home.iterdir() if "out" in path.name] == ["out.jsonl"]


def test_a_training_has_nothing_to_collect(run: str, votequeue: Command) -> None:
    runs.open_single(runs.Run("t", "train", "x", "d", None, {}), "scorer")
    ended = votequeue("collect", "t", "-o", "out.jsonl")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "see `votequeue status t`" in ended.err


def test_an_unknown_run_names_those_there_are(run: str, votequeue: Command) -> None:
    ended = votequeue("collect", "x", "-o", "out.jsonl")
    assert ended.err == "votequeue: no run is called 'x'; there are: r\n"
    for name in ("round-1", "round-2", "other", "last"):
        runs.open_run(runs.Run(name, "infer", "d.jsonl", "d", None, {}), [])
    for wanted, listed in (("round-l", "round-2, round-1"), ("x", "round-2, other, last")):
        ended = votequeue("collect", wanted, "-o", "out.jsonl")
        told = f"no run is called {wanted!r}; there are: {listed}, … (`votequeue status`)"
        assert ended.err == f"votequeue: {told}\n"


# How far a run is


@pytest.mark.usefixtures("any_ledger")
def test_status_counts_by_state_and_attempt(run: str, votequeue: Command) -> None:
    run_fixtures.vote(run_fixtures.claim(run, 0)[0], [run_fixtures.ballot("A")])
    run_fixtures.vote(run_fixtures.claim(run, 1)[0], [run_fixtures.ballot(None)])
    run_fixtures.claim(run, 1, 2)
    said = json.loads(votequeue("status", run, "--json").out)
    assert said["states"] == {"pending": 1, "leased": 2, "done": 1, "dead": 0, "cancelled": 0}
    assert said["rounds"]["leased"] == {"1": 1, "2": 1}
    assert (said["open"], said["messages"], said["stalled"]) == (3, 4, False)
    shown = votequeue("status", run).out
    assert re.search(r"1/4 settled, 2 held, 1 waiting; [\d.]+/min, about \d+ s left ", shown)
    assert "(from the 1 question settled so far)" in shown
    assert "messages in the queue: 4" in shown


@pytest.mark.usefixtures("any_ledger")
def test_status_without_a_run_lists_all(run: str, votequeue: Command) -> None:
    assert run in votequeue("status").out
    assert json.loads(votequeue("status", "--json").out)[0]["states"]["pending"] == 4


def test_status_shows_what_a_training_came_to(run: str, votequeue: Command) -> None:
    runs.open_single(runs.Run("t", "train", "x", "d", None, {}), "scorer")
    held = claims.claim([KINDS["train"](run="t", item=0)], "one", 60)[0]
    value = {"version": "s1", "held_out": {"auc": 0.71234}, "letters": ["A", "B"], "promoted": False}
    claims.complete(held, {**value, "calibration": [[0.1, 0.2, 30], [0.8, 0.7, 20]]})
    shown = votequeue("status", "t").out
    assert "A, B" in shown
    assert "calibration" not in shown
    assert not set("[]{}") & set(shown)
    assert "held_out.auc" in shown
    assert "0.7123" in shown
    assert votequeue("report", "t").code == 0


def test_waiting_questions_that_nobody_takes_are_said_to_be_so(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "IDLE_AFTER", 0.0)
    time.sleep(0.01)
    assert run_progress.progress_of(run).stalled
    assert "`votequeue worker infer`" in run_progress.describe_stall(run_progress.progress_of(run))
    held = run_fixtures.claim(run, 0)
    assert not run_progress.progress_of(run).stalled
    claims.release(held, "shutdown")
    assert run_progress.progress_of(run).stalled


@pytest.mark.usefixtures("any_ledger")
def test_a_run_whose_workers_are_busy_with_another_is_not_stalled(
    run: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_progress, "IDLE_AFTER", 0.0)
    run_fixtures.infer(home / "data.jsonl", SAMPLING, "other")
    run_fixtures.claim("other", 0)
    assert not run_progress.progress_of(run).stalled


@pytest.mark.usefixtures("any_ledger")
def test_a_complete_run_is_timed_from_first_claim_to_last_answer(run: str) -> None:
    run_fixtures.answer_all(run, 4)
    standing = run_progress.progress_of(run)
    assert (standing.open, standing.settled, standing.stalled, standing.rate) == (0, 4, False, 240.0)
