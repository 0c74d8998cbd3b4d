"""Reports and explanations: what the figures say of a run whose every vote is known here."""

import json
import sys
import time
from pathlib import Path

import pytest

from producers.reports import inference_plots, inference_report, report_files
from producers.reports.inference_report import Verdict
from shared import metrics
from shared.ledger import claims, votes
from tests.conftest import Command
from tests.integration import run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")


@pytest.fixture
def run(home: Path) -> str:
    """Enqueue four questions, whose right answers are A, B, C and not known."""
    data = run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C-")
    )
    run_fixtures.infer(data, SAMPLING, "r")
    return "r"


@pytest.fixture
def answered(run: str) -> str:
    """Answer all: the first at once, the second in its second round, the third wrong, one lost on the way."""
    first, second, third, fourth = run_fixtures.claim(run, 0, 1, 2, 3)
    run_fixtures.vote(first, [ballot("A", 0.9), ballot("A", 0.8), ballot("B", 0.1, accepted=False)])
    run_fixtures.vote(
        second, [ballot("B", 0.4, accepted=False), ballot(None, 0.2), ballot("A", 0.3, accepted=False)]
    )
    run_fixtures.vote(third, [ballot("A", 0.7), ballot("B", 0.6), ballot("A", 0.5)])
    claims.lose([fourth], "the engine died", 5, alone=False)
    time.sleep(0.02)
    run_fixtures.vote(run_fixtures.claim(run, 3, worker="two")[0], [ballot("B")])
    run_fixtures.vote(run_fixtures.claim(run, 1, worker="two")[0], [ballot("B", 0.9)])
    return run


@pytest.mark.usefixtures("any_ledger")
def test_accuracy_is_of_one_vote_of_the_majority_and_of_the_answer(answered: str) -> None:
    found = inference_report.figures(answered)
    assert (found.questions, found.answered, found.open, found.dead) == (4, 4, 0, 0)
    # First rounds: A A B of A; B - A of B; A B A of C.
    assert (found.one_vote.right, found.one_vote.of) == (3, 9)
    assert (found.majority.right, found.majority.of) == (2, 3)
    assert (found.final.right, found.final.of) == (2, 3)
    assert (found.some_vote_right.right, found.some_vote_right.of) == (2, 3)


def test_votes_rounds_and_tokens_are_counted(answered: str) -> None:
    found = inference_report.figures(answered)
    assert found.how == {"majority": 3, "unscored majority": 1}
    assert found.rounds == {1: 3, 2: 1}
    assert (found.unreadable.right, found.unreadable.of) == (1, 11)
    assert found.accepted.right == 7
    assert found.tokens == 110
    assert found.agreement == pytest.approx((2 / 3 + 1 / 3 + 2 / 3 + 1) / 4)
    assert found.wall_seconds is not None
    assert found.wall_seconds >= 0.02
    assert found.tokens_per_second == pytest.approx(110 / found.wall_seconds)


def test_the_scorer_is_held_against_the_truth(answered: str) -> None:
    judged = inference_report.figures(answered).scorer
    assert (judged.accepted_right, judged.accepted_wrong) == (3, 3)
    assert (judged.void_right, judged.void_wrong) == (1, 2)
    # Right: .9 .8 .4 .9; wrong: .1 .3 .7 .6 .5
    assert judged.auc == pytest.approx((5 + 5 + 2 + 5) / 20)


@pytest.mark.usefixtures("any_ledger")
def test_lost_claims_and_who_took_them_again_are_counted(answered: str) -> None:
    found = inference_report.figures(answered)
    assert (found.losses.lost, found.losses.taken_again) == (1, 1)
    assert found.losses.longest_seconds is not None
    assert 0.02 <= found.losses.longest_seconds < 5
    assert found.workers["one"] == inference_report.Worker(claims=4, ended=3, lost=1)
    assert found.workers["two"] == inference_report.Worker(claims=2, ended=2, lost=0)


def test_a_run_without_answers_has_a_report_too(run: str, votequeue: Command) -> None:
    ended = votequeue("report", run)
    assert ended.code == 0
    assert "4: 0 answered, 0 dead, 4 open" in ended.out
    assert "no question is answered yet" in ended.out


def test_a_run_without_labels_has_no_accuracy(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "--"))
    run_fixtures.infer(data, SAMPLING, "r")
    assert "no gold answers" in votequeue("report", "r").out


def test_the_report_is_a_table_a_page_data_and_pictures(
    answered: str, home: Path, votequeue: Command
) -> None:
    ended = votequeue("report", answered, "-o", "out")
    assert ended.code == 0
    assert "accuracy of the final answer" in ended.out
    names = sorted(path.name for path in (home / "out").iterdir())
    assert names == ["agreement.png", "letters.png", "outcomes.png", "report.json", "report.md"]
    assert (home / "out" / "letters.png").read_bytes().startswith(b"\x89PNG")
    assert "| accuracy of one vote | 3/9  33.3 % |" in (home / "out" / "report.md").read_text("utf-8")
    data = json.loads((home / "out" / "report.json").read_text("utf-8"))
    assert data["majority"] == {"right": 2, "of": 3, "share": 2 / 3}
    assert not {"answer_times", "first_rounds", "vote_letters"} & data.keys()
    assert json.loads(votequeue("report", answered, "--json").out)["rounds"] == {"1": 3, "2": 1}


def drawn(run: str, folder: Path) -> set[str]:
    return {
        file.stem
        for file in report_files.save(inference_report.figures(run), folder)
        if file.suffix == ".png"
    }


def test_questions_that_count_the_same_are_counted_together(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [run_fixtures.entry(f"p{at}", "AB") for at in range(3)]
    run_fixtures.infer(run_fixtures.write(home / "data.jsonl", *entries), SAMPLING, "same")
    for at, held in enumerate(run_fixtures.claim("same", *range(6))):
        run_fixtures.vote(held, [ballot("A", 0.9 - at / 10), ballot("B", 0.3), ballot("A", 0.6)])
    figures = inference_report.figures("same")
    counted = figures.questions, figures.answered, figures.votes, figures.tokens
    assert counted == (6, 6, 18, sum(vote.tokens for each in votes.of_run("same") for vote in each.votes))
    assert [(share.right, share.of) for share in (figures.one_vote, figures.majority)] == [(9, 18), (3, 6)]
    assert [(first.agreeing, times) for first, times in figures.first_rounds.items()] == [(2, 3), (2, 3)]
    assert figures.vote_letters == {"A": 12, "B": 6}
    assert (len(figures.scorer.right_scores), figures.sources[0].votes) == (9, 18)
    assert (figures.scorer.accepted_right, figures.scorer.accepted_wrong) == (9, 9)
    # However few kinds of questions are kept in memory.
    monkeypatch.setattr(inference_report, "_MOST_KINDS", 1)
    assert inference_report.figures("same") == figures


def test_agreement_is_set_against_what_is_right(answered: str) -> None:
    firsts = inference_report.figures(answered).first_rounds
    assert [(first.votes, first.agreeing, first.verdict) for first in firsts] == [
        (3, 2, Verdict.RIGHT),
        (3, 1, Verdict.RIGHT),
        (3, 2, Verdict.WRONG),
        (1, 1, Verdict.UNKNOWN),
    ]


def test_questions_are_counted_by_how_they_ended(answered: str, home: Path) -> None:
    found = inference_report.figures(answered)
    assert found.outcomes == {
        "majority": {Verdict.RIGHT: 2, Verdict.WRONG: 1},
        "unscored majority": {Verdict.UNKNOWN: 1},
    }
    run_fixtures.infer(home / "data.jsonl", SAMPLING, "other")
    claims.bury(run_fixtures.claim("other", 0)[0], "too long")
    assert inference_report.figures("other").outcomes == {
        "given up": {Verdict.UNANSWERED: 1},
        "still open": {Verdict.UNANSWERED: 3},
    }


def test_letters_are_counted_in_votes_answers_and_what_is_right(answered: str) -> None:
    found = inference_report.figures(answered)
    assert found.vote_letters == {"A": 5, "B": 5, inference_report.NO_LETTER: 1}
    assert found.answer_letters == {"A": 2, "B": 2}
    assert found.right_letters == {"A": 1, "B": 1, "C": 1}


def test_only_pictures_that_say_something_are_drawn(run: str, home: Path) -> None:
    assert drawn(run, home / "out") == set()
    for held in run_fixtures.claim(run, 0, 1, 2, 3):
        run_fixtures.vote(held, [ballot("A", 0.9)] * 5)
    # All agree, and all end the same way: only the letters are worth a look. An older picture goes.
    (home / "out" / "outcomes.png").write_bytes(b"old")
    assert drawn(run, home / "out") == {"letters"}
    assert not (home / "out" / "outcomes.png").exists()


def test_an_unlabelled_run_has_pictures_too(home: Path) -> None:
    data = run_fixtures.write(
        home / "unlabelled.jsonl", run_fixtures.entry("p1", "--"), run_fixtures.entry("p2", "-")
    )
    run_fixtures.infer(data, SAMPLING, "u")
    for held, letters in zip(run_fixtures.claim("u", 0, 1), ("AAB", "BBB"), strict=True):
        run_fixtures.vote(held, [ballot(letter) for letter in letters])
    assert drawn("u", home / "out") == {"agreement", "outcomes", "letters"}
    firsts = inference_report.figures("u").first_rounds
    assert {first.verdict for first in firsts} == {Verdict.UNKNOWN}


def test_a_scorer_s_calibration_is_drawn_once_enough_votes_tell(run: str, home: Path) -> None:
    for number in range(3):
        votes = [ballot("A", 0.9), ballot("B", 0.3), ballot("C", 0.2), ballot("A", 0.6)] * 5
        run_fixtures.vote(run_fixtures.claim(run, number)[0], votes)
    assert "calibration" in drawn(run, home / "out")


def test_scores_are_binned_by_width() -> None:
    assert inference_plots.reliability([0.95, 1.0], [0.91, 0.05]) == [
        [0.05, 0.0, 1],
        [pytest.approx(0.953, abs=0.001), pytest.approx(2 / 3), 3],
    ]


def test_without_matplotlib_there_are_no_pictures_and_a_line_says_so(
    answered: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    files = report_files.save(inference_report.figures(answered), home / "out")
    assert [file.name for file in files] == ["report.md", "report.json"]
    assert "matplotlib is not installed" in capsys.readouterr().err


def test_auc_counts_a_tie_half() -> None:
    assert metrics.auc([0.5, 0.9], [0.5, 0.1]) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert metrics.auc([0.5], []) is None


# One question


def test_explain_tells_claims_votes_and_answer(answered: str, votequeue: Command) -> None:
    shown = votequeue("trace", answered, "p1#2").out
    assert "甲比乙高，乙比丙高。(p1)" in shown
    assert "B. 乙   (right)" in shown
    assert "attempt 1 by one" in shown
    assert "again: no vote was accepted" in shown
    assert "vote 1.2: no letter, score 0.200, void, 10 tokens" in shown
    assert "  | 答案是：B" in shown
    assert "answer B: majority, 1 vote for it, in round 2" in shown


@pytest.mark.usefixtures("any_ledger")
def test_explain_speaks_json(answered: str, votequeue: Command) -> None:
    said = json.loads(votequeue("trace", answered, "3", "--json").out)
    assert (said["key"], said["gold"], said["answer"]["letter"]) == ("p2#2", None, "B")
    assert [claim["outcome"] for claim in said["claims"]] == [
        "lost: the engine died, in play together",
        "B: unscored majority",
    ]
    assert said["claims"][0]["claimed_at"].endswith("+00:00")


def test_explain_shows_a_dead_question_and_one_nobody_touched(run: str, votequeue: Command) -> None:
    claims.bury(run_fixtures.claim(run, 0)[0], "too long")
    assert "no answer: too long" in votequeue("trace", run, "0").out
    assert "not claimed yet" in votequeue("trace", run, "1").out


@pytest.mark.usefixtures("any_ledger")
def test_an_unknown_question_names_those_like_it(run: str, votequeue: Command) -> None:
    for asked, hint in [("p1", "did you mean p1#1, p1#2?"), ("p1#3", "did you mean p1#"), ("99", "'99'")]:
        ended = votequeue("trace", run, asked)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert hint in ended.err


def test_a_votes_text_cannot_steer_the_terminal(run: str, votequeue: Command) -> None:
    run_fixtures.vote(
        run_fixtures.claim(run, 0)[0], [claims.VoteRecord("\x1b[2J[bold]答案是：A", "A", None, True, 3)]
    )
    shown = votequeue("trace", run, "0").out
    assert "\x1b" not in shown
    assert "[bold]答案是：A" in shown


@pytest.mark.usefixtures("any_ledger")
def test_all_questions_are_read_in_order_with_their_votes(answered: str) -> None:
    told = list(votes.of_run(answered, texts=True))
    assert [(one.entry.id, one.question, len(one.votes)) for one in told] == [
        ("p1", 0, 3),
        ("p1", 1, 4),
        ("p2", 0, 3),
        ("p2", 1, 1),
    ]
    assert told[0].votes[0].text.endswith("答案是：A")
