"""Comparing runs: the same questions, paired, with what flips and where."""

import json
from pathlib import Path
from typing import Any

import pytest

from producers.reports import paired_comparison
from producers.reports.paired_comparison import Flip
from shared import dataset
from shared.errors import UserError
from shared.ledger import runs
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")


def enqueue(home: Path, run: str, *entries: dict[str, Any]) -> None:
    run_fixtures.infer(run_fixtures.write(home / f"{run}.jsonl", *entries), SAMPLING, run)


def answer(run: str, letters: str) -> None:
    """Answer a run's questions: "A" by five votes of five, "a" by three of five, "-" not at all."""
    for number, letter in enumerate(letters):
        if letter == "-":
            continue
        others = 2 if letter.islower() else 0
        ballots = [ballot(letter.upper())] * (5 - others) + [ballot(None)] * others
        run_fixtures.vote(run_fixtures.claim(run, number)[0], ballots)


ENTRIES = [run_fixtures.entry("p1", "AAA"), run_fixtures.entry("p2", "BB"), run_fixtures.entry("p3", "C-")]


@pytest.fixture
def pair(home: Path) -> tuple[str, str]:
    """Answer seven questions of three entries twice; the right answers are A A A B B C and unknown.

    Base gets 1, 2 and 4 right; chat 1, 2, 3, 4 and 6.
    """
    enqueue(home, "base", *ENTRIES)
    enqueue(home, "chat", *ENTRIES)
    answer("base", "AabBCaB")
    answer("chat", "AAABACC")
    return "base", "chat"


@pytest.mark.usefixtures("any_ledger")
def test_accuracies_are_compared_on_the_same_labelled_questions(pair: tuple[str, str]) -> None:
    found = paired_comparison.compare(pair)
    base, chat = found.runs
    assert (found.shared, found.questions, found.entries, found.unlabelled) == (7, 6, 3, 1)
    assert [(run.right.right, run.right.of) for run in found.runs] == [(3, 6), (5, 6)]
    assert (chat.same.right, chat.same.of, base.same.right) == (3, 7, 7)
    assert base.agreement == pytest.approx((4 * 1 + 3 * 0.6) / 7)
    assert (base.tokens, chat.letters) == (50.0, {"A": 4, "B": 1, "C": 2})
    difference = chat.difference
    assert base.difference is None
    assert difference is not None
    assert difference.gain == pytest.approx(2 / 6)
    assert difference.p == 0.5
    assert difference.won == [Flip("p1#3", "A", "B", "A"), Flip("p3#1", "C", "A", "C")]
    assert difference.lost == []
    assert difference.both_wrong == [Flip("p2#2", "B", "C", "A")]
    # Gains by entry: 1 of 3, 0 of 2, 1 of 1.
    assert difference.interval == (0.0, 1.0)


def test_groups_say_where_the_runs_differ(pair: tuple[str, str]) -> None:
    difference = paired_comparison.compare(pair).runs[1].difference
    assert difference is not None
    rows = [
        (group.by, group.value, group.before.right, group.after.right, group.after.of, group.won, group.lost)
        for group in difference.groups
    ]
    assert rows == [
        ("right letter", "A", 2, 3, 3, 1, 0),
        ("right letter", "B", 1, 1, 2, 0, 0),
        ("right letter", "C", 0, 1, 1, 1, 0),
        ("options", "3", 3, 5, 6, 2, 0),
        ("agreement", "60 to under 80 %", 1, 3, 3, 2, 0),
        ("agreement", "100 %", 2, 2, 3, 0, 0),
    ]


def test_an_unanswered_question_is_compared_by_no_run(home: Path, pair: tuple[str, str]) -> None:
    enqueue(home, "third", *ENTRIES)
    answer("third", "AA-BB")
    found = paired_comparison.compare([*pair, "third"])
    assert (found.questions, found.unanswered) == (4, 3)
    assert [run.unanswered for run in found.runs] == [0, 0, 3]
    assert [run.right.right for run in found.runs] == [3, 3, 4]


def test_questions_are_the_same_by_key_text_and_options(home: Path, pair: tuple[str, str]) -> None:
    changed = json.loads(json.dumps(ENTRIES))
    changed[0]["questions"][0]["options"].reverse()
    changed[1]["problem"] += "！"
    changed[2]["id"] = "p4"
    enqueue(home, "other", *changed)
    answer("other", "AAABBCC")
    found = paired_comparison.compare(["base", "other"])
    assert (found.shared, found.questions) == (2, 2)
    enqueue(home, "none", run_fixtures.entry("x"))
    with pytest.raises(UserError, match=r"share no question.*base has 7, none has 1"):
        paired_comparison.compare(["base", "none"])


def test_a_question_whose_label_is_disputed_is_left_out(home: Path, pair: tuple[str, str]) -> None:
    enqueue(home, "other", run_fixtures.entry("p1", "ABA"), run_fixtures.entry("p3", "CB"))
    answer("other", "AAACB")
    found = paired_comparison.compare(["base", "other"])
    assert (found.shared, found.contradictory, found.unlabelled, found.questions) == (5, 1, 0, 4)


def test_questions_that_a_scorer_was_trained_on_are_left_out(pair: tuple[str, str]) -> None:
    problem = runs.load_entry("base", 0).problem
    model_fixtures.put("s1", problems=[dataset.identity(problem)])
    found = paired_comparison.compare(pair)
    assert (found.learned, found.questions) == (3, 3)


def test_without_right_letters_only_answers_are_compared(home: Path, votequeue: Command) -> None:
    for name, letters in (("one", "AB"), ("two", "AA")):
        enqueue(home, name, run_fixtures.entry("p1", "--"))
        answer(name, letters)
    ended = votequeue("compare", "one", "two")
    assert ended.code == 0, ended.err
    assert "2 shared questions, 0 compared, in 0 entries, 2 left out (no right letter)" in ended.out
    assert "1/2  50.0 %" in ended.out
    assert "no right letters: only the answers are compared" in ended.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["base"], "at least two different runs"),
        (["base", "base"], "at least two different runs"),
        (["base", "nope"], "no run is called 'nope'"),
        (["base", "empty"], "no question is answered in all runs (base, empty)"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    words: list[str], message: str, home: Path, pair: tuple[str, str], votequeue: Command
) -> None:
    enqueue(home, "empty", *ENTRIES)
    ended = votequeue("compare", *words, "-o", "out")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert message in ended.err
    assert not (home / "out").exists()


def test_the_comparison_is_printed_and_written(pair: tuple[str, str], home: Path, votequeue: Command) -> None:
    ended = votequeue("compare", *pair, "-o", "out")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == (
        "runs base, chat: 7 shared questions, 6 compared, in 3 entries, 1 left out (no right letter)"
    )
    row = next(line for line in lines if line.startswith("chat "))
    assert "5/6  83.3 %" in row
    assert "+33.3 (0.0 to 100.0)" in row
    assert " 0.5 " in row
    page = (home / "out" / "report.md").read_text("utf-8")
    assert "## chat (after) over base (before)" in page
    assert "| p3#1 | C | A | C |" in page
    assert "### lost: none" in page
    saved = json.loads((home / "out" / "report.json").read_text("utf-8"))
    said = json.loads(votequeue("compare", *pair, "--json").out)
    assert {**saved, "files": []} == said
    assert said["runs"][1]["difference"]["won"][0] == {
        "key": "p1#3",
        "gold": "A",
        "before": "B",
        "after": "A",
    }
