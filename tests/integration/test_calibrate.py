"""Calibrated answers: what they are learned on, what is refused, and abstaining in every reader of a run.

`own` is a labelled run whose answers with more votes are more often right; `mine` has no right letters.
"""

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from producers import Client
from producers.calibrated_answers import CalibratedAnswers
from producers.enqueue import calibrate
from producers.reports import calibration_report, inference_report, report_files, summaries
from producers.reports.inference_report import Figures
from shared import dataset, vote_weights
from shared.errors import InvalidOption, UserError
from shared.ledger import claims, runs
from shared.ledger.claims import RoundRecord, Settled
from shared.options import Calibration
from shared.vote_weights import UNLABELLED
from shared.voting import Answer, Outcome
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")
ENTRIES = 60
RIGHT = {3: 0.2, 4: 0.6, 5: 1.0}  # the share of right answers by the votes behind them
RNG = random.Random(5)
GOLD = ["A" if RNG.random() < RIGHT[3 + at % 3] else "B" for at in range(ENTRIES)]


def agreeing(at: int) -> int:
    return 3 + at % 3


def open_run(home: Path, name: str, letters: list[str], **options: Any) -> None:
    entries = (run_fixtures.entry(f"{name}{at}", letter) for at, letter in enumerate(letters))
    data = run_fixtures.write(home / f"{name}.jsonl", *entries)
    run_fixtures.infer(data, SAMPLING.model_copy(update=options), name)


def settle(name: str, count: int = ENTRIES, unfinished: int = 0, scorer: str = "s1") -> None:
    """Answer A, by 3, 4 or 5 of five votes in turn."""
    for held in run_fixtures.claim(name, *range(count)):
        votes = agreeing(held.job.item)
        cast = [ballot("A", 0.8)] * votes + [ballot("B", 0.6)] * (0 if unfinished else 5 - votes)
        sampled = RoundRecord(None, None, "0" * 64, 9, [], 7, 0.0, 1.0, None, "reasoning", unfinished, 0)
        answer = Answer("A", Outcome.MAJORITY, votes)
        claims.settle([Settled(held, cast, answer, "done", scorer, [sampled])])


@pytest.fixture
def own(home: Path) -> str:
    open_run(home, "own", GOLD)
    settle("own")
    return "own"


@pytest.fixture
def mine(home: Path) -> str:
    open_run(home, "mine", ["-"] * 6)
    settle("mine", 6)
    return "mine"


def probabilities(run: str) -> list[float]:
    found = [answer.probability for answer in Client().collect(run)]
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.usefixtures("any_ledger")
def test_an_answer_carries_the_probability_that_it_is_right(own: str, mine: str) -> None:
    assert [answer.probability for answer in Client().collect(mine)] == [None] * 6
    learned = Client().calibrate(mine, [own])
    assert (learned.runs, learned.questions, learned.entries, learned.threshold) == (("own",), 60, 60, 0.0)
    low, middle, high, *same = probabilities(mine)
    assert same == [low, middle, high]
    golds = [GOLD[at::3].count("A") / 20 for at in range(3)]
    assert [low, middle, high] == pytest.approx(golds, abs=0.12)
    # Nothing abstains.
    assert [answer.letter for answer in Client().collect(mine)] == ["A"] * 6


def test_a_labelled_question_gets_a_probability_learned_without_its_fold(own: str) -> None:
    learned = Client().calibrate(own, [own])
    cases = list(CalibratedAnswers(runs.get_run(own)).cases())
    assert {case.fold for case in cases} == set(range(UNLABELLED))
    for fold in range(UNLABELLED):
        rest, _ = calibrate.learn([case for case in cases if case.fold != fold])
        assert learned.parameters[fold] == rest[UNLABELLED]
    given = [case.probability(learned) for case in cases]
    assert probabilities(own) == given
    entry = dataset.entry_of(next(iter(runs.load_entries(own))))
    assert cases[0].fold == vote_weights.fold(dataset.unit(entry), labelled=True)


def test_folds_that_learn_thresholds_do_not_test_them(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(CalibratedAnswers(runs.get_run(own)).cases())
    tested: list[set[int]] = []

    def passed(scored: Any, threshold: float, max_error: float) -> float:
        tested.append({case.fold for _, case in scored})
        return 0.0

    monkeypatch.setattr(calibrate, "p_value", passed)
    parameters, threshold = calibrate.learn(cases, 0.2)
    assert threshold == 0
    *chosen, last = tested
    assert last == {2, 3, 4}
    assert all(folds == {0, 1} for folds in chosen)
    # The others, and questions without a right letter, get what was learned on the first two folds.
    learned_on_two, _ = calibrate.learn([case for case in cases if case.fold in calibrate.LEARNING])
    assert parameters[2:] == (learned_on_two[UNLABELLED],) * 4
    assert len({parameters[0], parameters[1], parameters[2]}) == 3


# Abstaining


def test_a_question_that_abstains_is_no_failure(own: str, mine: str, home: Path, votequeue: Command) -> None:
    made = votequeue("calibrate", mine, "--from", own, "--abstain-below", "0.5")
    assert made.code == 0, made.err
    assert "below probability 0.50" in made.out
    ended = votequeue("collect", mine, "-o", "out.jsonl", "--fields", "outcome,probability")
    assert (ended.code, "4 of 6 questions answered, 2 abstained" in ended.out) == (0, True)
    questions = [entry["questions"][0] for entry in run_fixtures.read(home / "out.jsonl")]
    assert [question.get("answer") for question in questions] == [None, "A", "A"] * 2
    assert [question["outcome"] for question in questions] == ["abstained", "majority", "majority"] * 2
    assert [question["probability"] < 0.5 for question in questions] == [True, False, False] * 2
    counted = json.loads(votequeue("collect", mine, "-o", "out.jsonl", "--json").out)
    assert (counted["answered"], counted["abstained"], counted["open"]) == (4, 2, 0)


def test_a_text_can_stand_for_the_answer(own: str, mine: str, home: Path, votequeue: Command) -> None:
    words = ("calibrate", mine, "--from", own, "--abstain-below", "0.5", "--abstain-as", "不知道")
    assert votequeue(*words).code == 0
    assert votequeue("collect", mine, "-o", "out.jsonl").code == 0
    questions = [entry["questions"][0] for entry in run_fixtures.read(home / "out.jsonl")]
    assert [question["answer"] for question in questions] == ["不知道", "A", "A"] * 2
    assert [answer.outcome for answer in Client().collect(mine)][:2] == ["abstained", "majority"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_row_in_another_layout_has_the_text_too(
    suffix: str, own: str, home: Path, votequeue: Command
) -> None:
    rows = [{"stem": f"谁高？({at})", "one": "甲", "two": "乙", "three": "丙", "label": 2} for at in range(3)]
    data = home / f"in{suffix}"
    with data.open("w", newline="", encoding="utf-8") as file:
        if suffix == ".csv":
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    places = ["question=stem", "options=one,two,three", "answer=label"]
    Client().enqueue_infer(data, run="rows", map=places, answers="index-0")
    settle("rows", 3)
    for name, value in runs.get_run(own).options.items():
        runs.set_option("rows", name, value)
    Client().calibrate("rows", [own], abstain_below=0.5, abstain_as="unknown")
    assert votequeue("collect", "rows", "-o", f"out{suffix}").code == 0
    text = (home / f"out{suffix}").read_text("utf-8").splitlines()
    written = list(csv.DictReader(text)) if suffix == ".csv" else [json.loads(line) for line in text]
    assert [str(row["label"]) for row in written] == ["unknown", "0", "0"]


def test_a_new_calibration_replaces_the_old_one(own: str, mine: str) -> None:
    Client().calibrate(mine, [own], abstain_below=0.99)
    assert {answer.letter for answer in Client().collect(mine)} == {None}
    Client().calibrate(mine, [own])
    assert {answer.letter for answer in Client().collect(mine)} == {"A"}
    # The ledger kept the answers all the time, and the run can be continued.
    assert run_fixtures.infer(Path("mine.jsonl"), SAMPLING, "mine").continued


def test_a_bound_on_the_share_of_errors_chooses_the_threshold(
    own: str, mine: str, votequeue: Command
) -> None:
    ended = votequeue("calibrate", mine, "--from", own, "--max-error", "0.6")
    assert ended.code == 0, ended.err
    assert "at most 60 % of the answers wrong, with 95 % confidence" in " ".join(ended.out.split())
    options = runs.get_run(mine).options["calibration"]
    assert 0 <= options["threshold"] < 1
    letters = [answer.letter for answer in Client().collect(mine)]
    assert letters[2::3] == ["A", "A"]


def test_if_no_threshold_passes_nothing_is_answered_and_the_command_says_so(
    own: str, mine: str, home: Path, votequeue: Command
) -> None:
    ended = votequeue("calibrate", mine, "--from", own, "--max-error", "0.001")
    assert (ended.code, "no threshold passes the test, so nothing is answered" in ended.err) == (0, True)
    assert "always" in ended.out
    ended = votequeue("collect", mine, "-o", "out.jsonl")
    assert (ended.code, "0 of 6 questions answered, 6 abstained" in ended.out) == (0, True)
    assert "6: 0 answered, 6 abstained, 0 dead, 0 open" in votequeue("report", mine).out


def test_an_answer_that_is_asked_again_replaces_an_abstention(own: str, mine: str) -> None:
    Client().calibrate(mine, [own], abstain_below=0.5)
    Client().enqueue_infer(mine, only="below-agreement=0.7", run="again")
    assert "calibration" not in runs.get_run("again").options
    assert [answer.outcome for answer in Client().collect("again")] == [
        *["abstained", "majority", "majority"] * 2
    ]
    run_fixtures.answer_all("again", 1, "B")
    assert [answer.letter for answer in Client().collect("again")] == ["B", "A", "A", None, "A", "A"]
    Client().enqueue_infer(mine, run="scored", fallback="constant")
    assert "calibration" not in runs.get_run("scored").options


# What is refused


def refused(votequeue: Command, *words: str) -> str:
    ended = votequeue("calibrate", *words)
    assert ended.code in (1, 2), ended.out
    assert "calibration" not in runs.get_run("mine").options
    return " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("temperature", 1.0, "its temperature is 1.0, not 0.7"),
        ("votes", 7, "its votes is 7, not 5"),
        ("stop", "exact", 'its stop is "exact", not "never"'),
        ("use", "weighted", 'its use is "weighted", not "auto"'),
        ("threshold", 0.5, "its threshold is 0.5, not null"),
        ("prompt_style", "chat", 'its prompt-style is "chat", not "completion"'),
        ("scorer", "s2", 'its scorer is "s2", not "none"'),
        ("lora", "l2", 'its lora is "l2", not "none"'),
        ("voices", "reasoning=5", 'its voices is "reasoning=5", not null'),
        ("kind_weights", {"reasoning": [1.0] * 6}, 'its kind-weights is {"reasoning": [1.0'),
        ("prompt", "3f" * 32, 'its prompt is "3f3f'),
    ],
)
def test_a_run_that_was_answered_in_another_way_is_refused(
    option: str, value: object, said: str, own: str, mine: str, votequeue: Command
) -> None:
    runs.set_option(own, option, value)
    message = refused(votequeue, mine, "--from", own)
    assert said in message
    assert "--from own: it was answered in another way than 'mine': " in message


def test_other_batches_and_seeds_make_no_difference(own: str, mine: str) -> None:
    runs.set_option(own, "batch", 4)
    runs.set_option(own, "seed", 7)
    assert Client().calibrate(mine, [own]).questions == 60


def test_votes_of_other_models_or_other_runs_are_another_way(
    home: Path, own: str, mine: str, votequeue: Command
) -> None:
    open_run(home, "other", ["A"] * 2)
    settle("other", 2, scorer="s9")
    assert 'its models is ["s9"], not ["s1"]' in refused(votequeue, mine, "--from", "other")
    runs.set_option(own, "votes_of", "other")
    message = refused(votequeue, mine, "--from", own)
    assert 'its voting run 1: generator is "vllm", not null' in message
    # Both score votes of runs that were answered in the same way.
    open_run(home, "source", ["A"])
    settle("source", 1, scorer="s9")
    runs.set_option(mine, "votes_of", "source")
    assert Client().calibrate(mine, [own]).questions == ENTRIES


def test_a_few_labelled_entries_are_not_enough(home: Path, mine: str, votequeue: Command) -> None:
    open_run(home, "few", ["A"] * 19 + ["-"] * 5)
    settle("few", 24)
    message = refused(votequeue, mine, "--from", "few")
    assert "right letters are needed in at least 20 entries, and there are 19" in message


def test_a_run_must_be_finished_and_its_questions_not_selected(
    home: Path, own: str, mine: str, votequeue: Command
) -> None:
    open_run(home, "late", ["A"])
    assert "run 'late' is not finished" in refused(votequeue, "late", "--from", own)
    assert "run 'late' is not finished" in refused(votequeue, mine, "--from", "late")
    Client().enqueue_infer(mine, only="below-agreement=0.7", run="again")
    run_fixtures.answer_all("again", 2)
    assert "asks selected questions again" in refused(votequeue, "again", "--from", own)
    assert "no run is called 'nobody'" in refused(votequeue, mine, "--from", "nobody")


def test_problems_that_the_scorer_was_trained_on_do_not_count(own: str, mine: str) -> None:
    problems = [dataset.identity(dataset.entry_of(text).problem) for text in runs.load_entries(own)]
    model_fixtures.put("s1", promoted=False, problems=problems[:20])
    assert Client().calibrate(mine, [own]).entries == 40
    model_fixtures.put("s2", promoted=False, problems=problems)
    assert Client().calibrate(mine, [own]).entries == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--abstain-below", "nan"), "not nan"),
        (("--abstain-below", "1"), "less than 1"),
        (("--abstain-below", "-0.1"), "greater than 0"),
        (("--max-error", "0"), "greater than 0"),
        (("--max-error", "inf"), "less than 1"),
        (("--max-error", "much"), "a valid number"),
        (("--max-error", "0.2", "--abstain-below", "0.6"), "cannot be given with --abstain-below"),
        (("--abstain-below", "0.6", "--abstain-as", "b"), "would be read as an answer"),
        (("--abstain-below", "0.6", "--abstain-as", "a\nb"), "printable"),
    ],
)
def test_invalid_options_are_refused(
    words: tuple[str, ...], said: str, own: str, mine: str, votequeue: Command
) -> None:
    assert said in refused(votequeue, mine, "--from", own, *words)


def test_the_api_refuses_what_the_command_refuses(own: str, mine: str) -> None:
    with pytest.raises(InvalidOption, match="less than 1"):
        Client().calibrate(mine, [own], max_error=2.0)
    with pytest.raises(UserError, match="Extra inputs"):
        Client().calibrate(mine, [own], below=0.5)


# Reports and traces


def test_a_trace_shows_the_probability_and_the_abstention(own: str, mine: str, votequeue: Command) -> None:
    assert "probability" not in votequeue("trace", mine, "0").out
    Client().calibrate(mine, [own], abstain_below=0.5)
    first, second = probabilities(mine)[:2]
    shown = votequeue("trace", mine, "0").out
    assert "answer A: majority, 3 votes for it" in shown
    assert f"right with probability {first:.2f}; the question abstained" in shown
    answer = json.loads(votequeue("trace", mine, "1", "--json").out)["answer"]
    assert (answer["letter"], answer["probability"], answer["abstained"]) == (
        "A",
        pytest.approx(second),
        False,
    )


def test_a_report_counts_abstentions_as_an_outcome(own: str) -> None:
    Client().calibrate(own, [own], abstain_below=0.5)
    figures = Client().report(own)
    assert isinstance(figures, Figures)
    abstained = [each < 0.5 for each in probabilities(own)]
    given = [gold for gold, withheld in zip(GOLD, abstained, strict=True) if not withheld]
    assert 0 < figures.abstained == sum(abstained) < ENTRIES
    assert (figures.answered, figures.open, figures.dead) == (len(given), 0, 0)
    assert figures.how == Counter({"majority": len(given)})
    assert (figures.final.right, figures.final.of) == (given.count("A"), len(given))
    assert figures.outcomes["abstained"].total() == figures.abstained
    # Whole rounds are described as before.
    assert (figures.majority.right, figures.majority.of) == (GOLD.count("A"), ENTRIES)


def test_reliability_and_risk_are_those_of_the_labelled_questions(own: str, mine: str) -> None:
    learned = Client().calibrate(own, [own], abstain_below=0.5)
    report = calibration_report.of_run(runs.get_run(own))
    assert report is not None
    assert (report.calibration, report.labelled) == (learned, ("own",))
    assert sum(part.share.of for part in report.bins) == ENTRIES
    assert sum(part.share.right for part in report.bins) == GOLD.count("A")
    everything = report.surest[-1]
    assert (everything.coverage, everything.share.right) == (1.0, GOLD.count("B"))
    risks = [part.share.value for part in report.surest]
    assert risks[0] == min(risks)
    assert all(part.interval for part in report.surest)
    # Of so many entries without an error, resampling would say that there can be none.
    surest = report.surest[0]
    assert surest.share.right == 0
    assert surest.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / surest.share.of)))
    answered = [(gold, p) for gold, p in zip(GOLD, probabilities(own), strict=True) if p >= 0.5]
    assert report.given is not None
    wrong = sum(gold == "B" for gold, _ in answered)
    assert (report.given.share.right, report.given.share.of) == (wrong, len(answered))
    # Without right letters of its own, a run shows those that it was calibrated on.
    Client().calibrate(mine, [own])
    other = calibration_report.of_run(runs.get_run(mine))
    assert other is not None
    assert (other.labelled, other.surest, other.given) == (("own",), report.surest, None)


def test_a_report_draws_and_prints_them(own: str, home: Path, votequeue: Command) -> None:
    assert calibration_report.of_run(runs.get_run(own)) is None
    Client().calibrate(own, [own], abstain_below=0.5)
    shown = votequeue("report", own, "-o", "out")
    assert shown.code == 0, shown.err
    for row in ("probabilities learned on", "right with mean probability", "wrong of the surest 100 %"):
        assert row in shown.out
    assert "accuracy of the answers given" in shown.out
    assert {"reliability.png", "risk.png", "outcomes.png"} <= {path.name for path in (home / "out").iterdir()}
    data = json.loads((home / "out" / "report.json").read_text("utf-8"))
    assert data["calibration"]["surest"][-1]["coverage"] == 1
    page = (home / "out" / "report.md").read_text("utf-8")
    assert "| wrong of the answers given |" in page
    # A report without a calibration removes the plots of an older one.
    report_files.save(inference_report.figures(own), home / "out")
    assert not (home / "out" / "risk.png").exists()
    assert isinstance(summaries.of_run(own), Figures)


@pytest.mark.usefixtures("any_ledger")
def test_runs_that_stop_early_are_calibrated_on_runs_that_do(home: Path, mine: str) -> None:
    open_run(home, "stopped", GOLD, stop="exact")
    settle("stopped", unfinished=2)
    open_run(home, "new", ["-"] * 3, stop="exact")
    settle("new", 3, unfinished=2)
    with pytest.raises(UserError, match="its stop is"):
        Client().calibrate(mine, ["stopped"])
    assert isinstance(Client().calibrate("new", ["stopped"]), Calibration)
    low, _, high = probabilities("new")
    assert low < high
    # The share of the votes is no confidence here, the probability is.
    assert [answer.confidence for answer in Client().collect("new")] == [None] * 3
