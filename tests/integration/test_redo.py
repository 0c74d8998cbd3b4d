"""Asking some questions of a run again, and what its answers then are."""

import json
from pathlib import Path

import pytest

from producers.reports import paired_comparison
from shared.ledger import claims, runs, votes
from shared.ledger.claims import Settled, VoteRecord
from shared.voting import Answer, Outcome
from tests.conftest import Command
from tests.integration import run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")


def settle(run: str, number: int, letters: str, *, cut: int = 0, how: Outcome = Outcome.MAJORITY) -> None:
    """Answer with the first letter of some votes; "-" has none, and the last ``cut`` votes are cut off."""
    (held,) = run_fixtures.claim(run, number)
    ballots = [
        VoteRecord(
            "因为", None if letter == "-" else letter, None, letter != "-", 10, "length" if late else "stop"
        )
        for letter, late in zip(letters, [False] * (len(letters) - cut) + [True] * cut, strict=True)
    ]
    letter = "A" if how is Outcome.DEFAULT else letters[0]
    answer = Answer(letter, how, letters.count(letter))
    claims.settle([Settled(held, ballots, answer, "done")])


@pytest.fixture
def run(home: Path) -> str:
    """Answer five questions of three entries: well, cut off, by default, in disagreement, with one unread."""
    entries = run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C"), run_fixtures.entry("p3", "BA")
    data = run_fixtures.write(home / "data.jsonl", *entries)
    examples = run_fixtures.write(home / "solved.jsonl", run_fixtures.solved("s1"))
    run_fixtures.infer(data, SAMPLING, "r", str(examples))
    settle("r", 0, "AAAAA")
    settle("r", 1, "BBBAA", cut=1)
    settle("r", 2, "-----", cut=5, how=Outcome.DEFAULT)
    settle("r", 3, "BBACC")
    settle("r", 4, "AAAA-")
    return "r"


def redo(votequeue: Command, run: str, only: str, *words: object) -> list[str]:
    """Ask again; give the keys of the new run `again`."""
    ended = votequeue("enqueue", "infer", run, "--only", only, "--run", "again", *words)
    assert ended.code == 0, ended.err
    return [result.key for result in votes.of_run("again")]


@pytest.mark.usefixtures("any_ledger")
def test_only_the_chosen_questions_are_asked_again_as_before(run: str, votequeue: Command) -> None:
    assert redo(votequeue, run, "truncated,below-agreement=0.6", "--max-tokens", 2048) == [
        "p1#2",
        "p2#1",
        "p3#1",
    ]
    origin, again = runs.get_run(run), runs.get_run("again")
    assert (again.digest, again.examples, again.source) == (origin.digest, origin.examples, "questions of r")
    changed = {
        name
        for name, value in again.options.items()
        if value != origin.options.get(name) and value is not None
    }
    assert changed == {"max_tokens", "only", "redo_of"}
    assert again.options["max_tokens"] == 2048
    assert list(runs.load_entries("again")) == list(runs.load_entries(run))
    assert "run again continued: 3 questions, 0 messages sent" in (
        votequeue(
            "enqueue", "infer", run, "--only", "truncated,below-agreement=0.6", "--max-tokens", 2048,
            "--run", "again",
        ).out
    )  # fmt: skip


@pytest.mark.parametrize(
    ("only", "keys"),
    [
        ("truncated", ["p1#2", "p2#1"]),
        ("truncated=0.5", ["p2#1"]),
        ("unread", ["p2#1", "p3#2"]),
        ("unread=0.2", ["p2#1", "p3#2"]),
        ("unread=0.21", ["p2#1"]),
        ("default", ["p2#1"]),
        ("below-agreement=0.6", ["p2#1", "p3#1"]),
        ("below-agreement=1", ["p1#2", "p2#1", "p3#1", "p3#2"]),
    ],
)
def test_each_selection_has_its_questions(run: str, only: str, keys: list[str], votequeue: Command) -> None:
    assert redo(votequeue, run, only) == keys


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("best", "--only best: no such selection; there are: truncated, unread, default, below-agreement"),
        ("below-agreement", "give a share from 0 to 1, as in below-agreement=0.6"),
        ("unread=2", "give a share from 0 to 1"),
        ("unread=much", "give a share from 0 to 1"),
        ("default=0.5", "default takes no share"),
        ("below-agreement=0", "run 'r' has no question to ask again: none is below-agreement=0"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(
    run: str, only: str, message: str, votequeue: Command
) -> None:
    ended = votequeue("enqueue", "infer", run, "--only", only, "--run", "again")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert message in ended.err
    assert runs.find_run("again") is None


def test_what_is_not_a_finished_run_is_not_asked_again(run: str, votequeue: Command) -> None:
    ended = votequeue("enqueue", "infer", "data.jsonl", "--only", "unread")
    assert (ended.code, "it needs a run, not a data set" in ended.err) == (2, True)
    ended = votequeue("enqueue", "infer", run, "--only", "unread", "--examples", "solved.jsonl")
    assert (ended.code, "those of r are used" in ended.err) == (2, True)
    redo(votequeue, run, "unread")
    ended = votequeue("enqueue", "infer", "again", "--only", "unread")
    assert (ended.code, "run 'again' is not finished" in ended.err) == (1, True)


def letters(path: str) -> list[list[str]]:
    return [[question["answer"] for question in one["questions"]] for one in run_fixtures.read(Path(path))]


@pytest.mark.usefixtures("any_ledger")
def test_the_new_answers_are_collected_in_place_of_the_former(run: str, votequeue: Command) -> None:
    redo(votequeue, run, "truncated,unread")
    settle("again", 0, "CCC")
    settle("again", 1, "BB-")
    ended = votequeue("collect", "again", "-o", "out.jsonl")
    assert ended.code == 1
    assert "1 of 5 questions have no answer (1 still open: use `--wait`)" in ended.err
    assert letters("out.jsonl") == [["A", "C"], ["B"], ["B", "A"]]
    settle("again", 2, "CCC")
    ended = votequeue("collect", "again", "-o", "out.jsonl", "--fields", "outcome,confidence,support")
    assert (ended.code, ended.out) == (0, "out.jsonl: 5 of 5 questions answered\n")
    questions = [question for one in run_fixtures.read(Path("out.jsonl")) for question in one["questions"]]
    assert [question["answer"] for question in questions] == ["A", "C", "B", "B", "C"]
    assert [question["support"] for question in questions] == [5, 3, 2, 2, 3]
    assert [question["confidence"] for question in questions] == pytest.approx([1, 1, 2 / 3, 0.4, 1])
    assert {question["outcome"] for question in questions} == {"majority"}
    assert letters_of_origin(votequeue, run) == [["A", "B"], ["A"], ["B", "A"]]


def letters_of_origin(votequeue: Command, run: str) -> list[list[str]]:
    assert votequeue("collect", run, "-o", "before.jsonl").code == 0
    return letters("before.jsonl")


def test_a_default_does_not_replace_an_answer_with_votes(run: str, votequeue: Command) -> None:
    redo(votequeue, run, "truncated")
    settle("again", 0, "---", how=Outcome.DEFAULT)
    settle("again", 1, "---", how=Outcome.DEFAULT)
    assert votequeue("collect", "again", "-o", "out.jsonl").code == 0
    assert letters("out.jsonl") == [["A", "B"], ["A"], ["B", "A"]]


def test_a_dead_question_keeps_its_former_answer_and_is_named(run: str, votequeue: Command) -> None:
    redo(votequeue, run, "truncated")
    settle("again", 1, "CCC")
    claims.bury(run_fixtures.claim("again", 0)[0], "too long")
    ended = votequeue("collect", "again", "-o", "out.jsonl")
    assert ended.code == 1
    assert "p1#2 is dead: too long" in ended.err
    assert "1 given up: see `votequeue failed again`" in ended.err
    assert letters("out.jsonl") == [["A", "B"], ["C"], ["B", "A"]]


def test_questions_are_asked_a_third_time_and_scored_again(run: str, votequeue: Command) -> None:
    redo(votequeue, run, "truncated")
    settle("again", 0, "CCC")
    settle("again", 1, "--C", cut=1, how=Outcome.DEFAULT)
    ended = votequeue("enqueue", "infer", "again", "--only", "default", "--run", "third")
    assert ended.code == 0, ended.err
    settle("third", 0, "BBB")
    assert votequeue("collect", "third", "-o", "out.jsonl").code == 0
    assert letters("out.jsonl") == [["A", "C"], ["B"], ["B", "A"]]
    ended = votequeue("enqueue", "infer", "again", "--reader", "reference", "--run", "read")
    assert ended.out == "run read enqueued: 2 questions, 2 messages sent\n", ended.err
    assert [result.number for result in votes.of_run("read")] == [0, 1]
    assert [result.key for result in votes.of_run("read")] == ["p1#2", "p2#1"]


def test_a_run_and_its_repetition_are_compared_on_what_was_asked_again(run: str, votequeue: Command) -> None:
    redo(votequeue, run, "truncated")
    settle("again", 0, "BBB")
    settle("again", 1, "CCC")
    found = paired_comparison.compare([run, "again"])
    assert (found.shared, [each.questions for each in found.runs]) == (2, [5, 2])
    assert [each.right.right for each in found.runs] == [1, 2]
    ended = votequeue("compare", run, "again")
    assert "2 shared questions (of 5 and 2), 2 compared, in 2 entries" in ended.out


# More questions


@pytest.mark.usefixtures("any_ledger")
def test_questions_are_added_to_a_run_under_way_once(run: str, home: Path, votequeue: Command) -> None:
    more = run_fixtures.write(
        home / "more.jsonl",
        run_fixtures.entry("p2", "C"),
        run_fixtures.entry("p4", "CC"),
        run_fixtures.entry("p5"),
    )
    ended = votequeue("enqueue", "infer", more, "--append-to", run)
    assert (ended.code, ended.out) == (0, "run r: 3 questions added, 3 messages sent\n"), ended.err
    again = votequeue("enqueue", "infer", more, "--append-to", run, "--json")
    assert (json.loads(again.out)["items"], json.loads(again.out)["sent"]) == (0, 0)
    assert [(result.number, result.key) for result in votes.of_run(run)][4:] == [
        (4, "p3#2"), (5, "p4#1"), (6, "p4#2"), (7, "p5#1"),
    ]  # fmt: skip
    for number in (5, 6, 7):
        settle(run, number, "CCC")
    assert votequeue("collect", run, "-o", "out.jsonl").code == 0
    assert letters("out.jsonl") == [["A", "B"], ["A"], ["B", "A"], ["C", "C"], ["C"]]
    files = {home / name for name in ("data.jsonl", "more.jsonl", "solved.jsonl")}
    assert set(runs.input_files()[run]) == files
    first = votequeue("enqueue", "infer", run, "--reader", "reference")
    assert "8 questions, 8 messages sent" in first.out, first.err


def test_questions_that_a_run_cannot_take_are_refused(run: str, home: Path, votequeue: Command) -> None:
    other = run_fixtures.write(home / "o.jsonl", run_fixtures.entry("p9"), run_fixtures.entry("p1", "C"))
    ended = votequeue("enqueue", "infer", other, "--append-to", run)
    assert (ended.code, "line 2: run 'r' has another entry with the id 'p1'" in ended.err) == (1, True)
    redo(votequeue, run, "unread")
    ended = votequeue("enqueue", "infer", other, "--append-to", "again")
    assert (ended.code, "run 'again' is over the questions of r" in ended.err) == (1, True)
    for words in (["--votes", 3], ["--run", "x"], ["--dry-run"]):
        assert votequeue("enqueue", "infer", other, "--append-to", run, *words).code == 2
    assert votequeue("enqueue", "infer", run, "--append-to", run).code == 2
    assert len(list(votes.of_run(run))) == 5


# A dry run


def test_a_dry_run_estimates_and_writes_nothing(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "AB"))
    long = {**run_fixtures.entry("p2"), "problem": "长" * 9000}
    data.write_text(data.read_text("utf-8") + json.dumps(long) + "\n", encoding="utf-8")
    run_fixtures.write(home / "solved.jsonl", run_fixtures.solved("s1", "AB"))
    words = ["enqueue", "infer", "d.jsonl", "--votes", 3, "--max-tokens", 100, "--run", "r", "--dry-run"]
    ended = votequeue(*words, "--examples", "solved.jsonl")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("run r would be enqueued: 3 questions; nothing was written or sent\n")
    assert "may be refused: 1 question (p2#1)" in ended.out
    assert runs.find_run("r") is None
    said = json.loads(votequeue(*words, "--examples", "solved.jsonl", "--json").out)
    bare = json.loads(votequeue(*words, "--json").out)
    assert (said["questions"], said["examples"], said["vote_tokens"]) == (3, 2, 900)
    assert (said["long_keys"], said["continued"]) == (["p2#1"], False)
    # Examples are shown to the two short questions only.
    assert 0 < (said["prompt_tokens"] - bare["prompt_tokens"]) // 2 < 200
    assert bare["prompt_tokens"] > 9000


def test_a_dry_run_names_bad_lines_and_other_runs_of_the_name(
    run: str, home: Path, votequeue: Command
) -> None:
    (home / "bad.jsonl").write_text((home / "data.jsonl").read_text("utf-8") + "{}\n", encoding="utf-8")
    ended = votequeue("enqueue", "infer", "bad.jsonl", "--dry-run")
    assert (ended.code, "bad.jsonl line 4, id:" in ended.err) == (1, True), ended.err
    said = json.loads(votequeue("enqueue", "infer", "bad.jsonl", "--dry-run", "--skip-bad", "--json").out)
    assert (said["questions"], said["bad"]) == (5, 1)
    ended = votequeue("enqueue", "infer", "bad.jsonl", "--skip-bad", "--run", run, "--dry-run")
    assert (ended.code, "its data is not the same" in ended.err) == (1, True)
    ended = votequeue("enqueue", "infer", run, "--dry-run")
    assert (ended.code, "the recorded votes of r are reused" in ended.err) == (2, True)
    ended = votequeue("enqueue", "infer", run, "--only", "unread", "--dry-run", "--json")
    assert json.loads(ended.out)["questions"] == 2
    assert [each.name for each in runs.list_runs()] == [run]


# Votes and fields


@pytest.mark.usefixtures("any_ledger")
def test_every_vote_is_a_row(run: str, home: Path, votequeue: Command) -> None:
    ended = votequeue("collect", run, "--votes", "-o", "votes.jsonl")
    assert ended.out == "votes.jsonl: 25 votes, 5 of 5 questions answered\n"
    rows = run_fixtures.read(home / "votes.jsonl")
    assert len(rows) == 25
    assert rows[9] == {
        "key": "p1#2", "gold": "B", "answer": "B", "number": 1, "attempt": 1, "place": 4, "letter": "A",
        "score": None, "accepted": True, "tokens": 10, "scorer": None, "text": "因为",
        "finish_reason": "length", "mean_logprob": None, "letter_source": None, "thinking": None,
        "voice": "reasoning",
        **dict.fromkeys(("outcome", "output", "detail", "first_text", "first_outcome", "order")),
    }  # fmt: skip


def test_votes_go_into_a_table_with_their_types(run: str, home: Path, votequeue: Command) -> None:
    from pyarrow import parquet

    assert votequeue("collect", run, "--votes", "-o", "votes.parquet").code == 0
    table = parquet.read_table(home / "votes.parquet")
    assert table.num_rows == 25
    assert table.column("key").to_pylist()[:6] == ["p1#1"] * 5 + ["p1#2"]
    types = {name: str(table.schema.field(name).type) for name in ("tokens", "score", "accepted", "letter")}
    assert types == {"tokens": "int64", "score": "double", "accepted": "bool", "letter": "string"}


def test_votes_of_an_unfinished_run_are_written_and_exit_is_1(home: Path, votequeue: Command) -> None:
    run_fixtures.infer(run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "AB")), SAMPLING, "open")
    run_fixtures.vote(run_fixtures.claim("open", 0)[0], [ballot("A")] * 5)
    ended = votequeue("collect", "open", "--votes", "-o", "votes.jsonl")
    assert (ended.code, len(run_fixtures.read(home / "votes.jsonl"))) == (1, 5)
    assert "1 of 2 questions have no answer" in ended.err


def test_fields_stand_beside_answers_in_tables_too(run: str, home: Path, votequeue: Command) -> None:
    from pyarrow import parquet

    assert votequeue("collect", run, "-o", "out.parquet", "--fields", "confidence,support").code == 0
    (first, *_) = parquet.read_table(home / "out.parquet").to_pylist()
    assert [(question["confidence"], question["support"]) for question in first["questions"]] == [
        (1.0, 5),
        (0.6, 3),
    ]


def test_unknown_fields_and_fields_of_votes_are_refused(run: str, home: Path, votequeue: Command) -> None:
    ended = votequeue("collect", run, "-o", "out.jsonl", "--fields", "score")
    assert (ended.code, "no 'score' here" in ended.err) == (
        2,
        True,
    )
    ended = votequeue("collect", run, "-o", "out.jsonl", "--fields", "support", "--votes")
    assert (ended.code, "does not apply to --votes" in ended.err) == (2, True)
    own = run_fixtures.entry("p1")
    own["questions"][0]["support"] = "mine"
    run_fixtures.infer(run_fixtures.write(home / "own.jsonl", own), SAMPLING, "own")
    ended = votequeue("collect", "own", "-o", "out.jsonl", "--fields", "support")
    assert (ended.code, "p1#1 has a field 'support' of its own" in ended.err) == (1, True)
    assert not (home / "out.jsonl").exists()
