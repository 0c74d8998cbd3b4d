"""What other uses of the scores would have answered, from the votes on record."""

import json
from pathlib import Path

import pytest

from producers.reports import revote
from producers.reports.revote import Row
from shared import dataset, voting
from shared.errors import UserError
from shared.jobs import Infer
from shared.ledger import claims, runs
from shared.ledger.claims import Settled, VoteRecord
from shared.voting import PLAIN, Rule, Vote, VotingMode
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "data.jsonl", *(run_fixtures.entry(f"p{at}", "A") for at in range(4)))


def settle(run: str, number: int, *rounds: list[tuple[str, float | None]], scorer: str | None = "s1") -> None:
    """Settle a question with rounds of votes, letter and score each; "-" has no letter."""
    for at, told in enumerate(rounds, start=1):
        (held,) = claims.claim([Infer(run=run, item=number)], "one", 60)
        ballots = [
            VoteRecord("因为", None if letter == "-" else letter, score, letter != "-", 10 * at)
            for letter, score in told
        ]
        answer = (
            voting.decide([Vote(b.letter, b.score) for b in ballots], PLAIN) if at == len(rounds) else None
        )
        claims.settle([Settled(held, ballots, answer, "done", scorer)])


@pytest.fixture
def run(data: Path) -> str:
    """Answer four questions whose right answer is A.

    The majority gets 0 and 1 right; weights 0, 1 and 2; a gate from 0.5 those and, in its second round, 3.
    """
    model_fixtures.put("s1", rule=Rule(VotingMode.GATE, 0.5))
    run_fixtures.infer(data, SAMPLING, "r")
    settle("r", 0, [("A", 0.9), ("A", 0.8), ("B", 0.2)])
    settle("r", 1, [("A", 0.6), ("A", 0.6), ("B", 0.65)])
    settle("r", 2, [("A", 0.9), ("B", 0.3), ("B", 0.3)])
    settle("r", 3, [("B", 0.4), ("-", 0.0), ("B", 0.4)], [("A", 0.7), ("B", 0.1), ("B", 0.1)])
    return "r"


def by_name(found: revote.Revote) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


def test_all_uses_are_recomputed_from_the_votes(run: str) -> None:
    found = revote.revote(run)
    rows = by_name(found)
    assert (found.scorer, found.questions) == ("s1", 4)
    assert {name: row.right.right for name, row in rows.items()} == {
        "one vote": 5,
        "majority": 2,
        "gate": 4,
        "weighted": 3,
        "gate-weighted": 4,
        "some vote right": 3,
    }
    assert rows["one vote"].right.of == 12
    assert rows["gate"].over_majority == 0.5
    assert found.auc == pytest.approx(0.958, abs=0.001)


def test_rounds_and_tokens_are_those_that_a_use_takes(run: str) -> None:
    rows = by_name(revote.revote(run))
    assert (rows["majority"].rounds, rows["majority"].tokens) == (1.0, 30.0)
    assert (rows["weighted"].rounds, rows["weighted"].tokens) == (1.0, 30.0)
    assert (rows["gate"].rounds, rows["gate"].tokens) == (1.25, 45.0)


def test_each_use_has_the_threshold_that_suits_it(run: str) -> None:
    model_fixtures.put("s2", rule=Rule(VotingMode.GATE, 0.3), thresholds={"gate": 0.3, "gate-weighted": 0.85})
    run_fixtures.infer(Path("data.jsonl"), SAMPLING, "other")
    settle("other", 0, [("A", 0.9), ("B", 0.4), ("B", 0.4)], scorer="s2")
    rows = by_name(revote.revote("other"))
    assert (rows["gate"].threshold, rows["gate"].right.right) == (0.3, 0)
    assert (rows["gate-weighted"].threshold, rows["gate-weighted"].right.right) == (0.85, 1)
    assert rows["weighted"].threshold is None


def test_intervals_hold_what_they_are_about(run: str) -> None:
    rows = by_name(revote.revote(run))
    assert rows["majority"].interval == (0.0, 1.0)
    assert rows["gate"].interval == (1.0, 1.0)
    low, high = rows["gate"].over_interval or (9, 9)
    assert 0.0 <= low <= 0.5 <= high <= 1.0
    again = by_name(revote.revote(run))
    assert again["one vote"].interval == rows["one vote"].interval


def test_questions_that_the_scorer_has_learned_from_prove_nothing(run: str) -> None:
    entry = runs.load_entry(run, 0)
    model_fixtures.put("s2", problems=[dataset.identity(entry.problem)])
    run_fixtures.infer(Path("data.jsonl"), SAMPLING, "other")
    for number in (0, 1):
        settle("other", number, [("A", 0.9)], scorer="s2")
    found = revote.revote("other")
    assert (found.questions, found.learned) == (1, 1)


def test_votes_of_another_scorer_or_of_none_are_left_out(run: str) -> None:
    model_fixtures.put("s2")
    run_fixtures.infer(Path("data.jsonl"), SAMPLING, "other")
    settle("other", 0, [("A", 0.9)], scorer="s2")
    settle("other", 1, [("A", 0.9)], scorer="s1")
    settle("other", 2, [("B", None)], scorer=None)
    assert (revote.revote("other", "s1").questions, revote.revote("other", "s1").otherwise) == (1, 2)
    assert revote.revote("other", "s2").scorer == "s2"
    with pytest.raises(UserError, match="no scorer is called 's3'"):
        revote.revote("other", "s3")


def test_without_any_score_the_majority_is_still_told(data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    settle("r", 0, [("A", None), ("B", None), ("A", None)], scorer=None)
    found = revote.revote("r")
    assert [row.name for row in found.rows] == ["one vote", "majority", "some vote right"]
    assert (found.scorer, found.auc) == (None, None)
    shown = votequeue("report", "r", "--revote").out
    assert "no scorer has scored these votes: run `votequeue enqueue infer r --scorer NAME`" in shown


def test_a_run_without_votes_or_answers_has_nothing_to_replay(home: Path, data: Path) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    with pytest.raises(UserError, match=r"no labelled question has usable votes$"):
        revote.revote("r")
    unlabelled = run_fixtures.write(home / "u.jsonl", run_fixtures.entry("u1", "-"))
    run_fixtures.infer(unlabelled, SAMPLING, "u")
    settle("u", 0, [("A", None)], scorer=None)
    with pytest.raises(UserError, match=r"usable votes \(1 have no gold answer\)"):
        revote.revote("u")


def test_the_comparison_is_printed_written_and_drawn(run: str, home: Path, votequeue: Command) -> None:
    ended = votequeue("report", run, "--revote", "-o", home / "out")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("run r, scores of s1, AUC 0.958 over readable votes: 4 questions")
    gate = next(line for line in lines if line.startswith("gate from 0.50"))
    assert "4/4  100.0 %" in gate
    assert "+50.0 (" in gate
    assert "1.25" in gate
    assert {path.name for path in (home / "out").iterdir()} == {"report.md", "report.json", "ways.png"}
    told = json.loads(votequeue("report", run, "--revote", "--json").out)
    assert told["rows"][0]["right"] == {"right": 5, "of": 12, "share": 5 / 12}
    assert "gate from 0.50" in (home / "out" / "report.md").read_text()


# Judged again


def test_a_run_is_judged_again_under_its_own_numbers(run: str, votequeue: Command) -> None:
    model_fixtures.put("s2")
    ended = votequeue("enqueue", "infer", run, "--scorer", "s2", "--run", "again")
    assert ended.out == "run again enqueued: 4 questions, 4 messages sent\n"
    known, made = runs.get_run(run), runs.get_run("again")
    assert (made.digest, made.source) == (known.digest, "votes of r")
    assert made.options == {**known.options, "scorer": "s2", "votes_of": "r"}
    assert list(runs.load_entries("again")) == list(runs.load_entries(run))
    assert "continued" in votequeue("enqueue", "infer", run, "--scorer", "s2", "--run", "again").out


def test_only_what_has_come_to_its_end_is_judged_again(data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    ended = votequeue("enqueue", "infer", "r", "--run", "again")
    assert ended.code == 1
    assert "run 'r' is not finished: wait for it" in ended.err


@pytest.mark.parametrize("words", [["--votes", "3"], ["--examples", "x"], ["--lora", "none"], ["--siblings"]])
def test_options_of_sampling_make_no_sense_where_nothing_is_sampled(
    words: list[str], run: str, votequeue: Command
) -> None:
    ended = votequeue("enqueue", "infer", run, *words, "--run", "again")
    assert ended.code == 2
    assert "the recorded votes of r are reused" in ended.err
    assert runs.find_run("again") is None


def test_the_words_of_before_still_work_and_are_not_listed(run: str, votequeue: Command) -> None:
    assert (
        votequeue("report", run, "--replay", "--json").out
        == votequeue("report", run, "--revote", "--json").out
    )
    assert votequeue("explain", run, "0").out == votequeue("trace", run, "0").out
    assert votequeue("failed", run, "--replay").code == 0
    for words in (["--help"], ["report", "--help"], ["failed", "--help"]):
        shown = votequeue(*words).out
        assert "replay" not in shown
        assert "explain" not in shown
