"""Lessons into the train queue: which texts, right or wrong, of which questions, and which for tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from producers.enqueue import train
from shared import broker, dataset
from shared.errors import UserError
from shared.ledger import runs
from shared.training_examples import TrainingExample
from tests.conftest import Command
from tests.integration import call_fixtures, run_fixtures
from tests.integration.call_fixtures import text
from tests.integration.test_enqueue import SAMPLING

pytestmark = pytest.mark.usefixtures("on_broker")
READING = ("--input", "question+reasoning")


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "-A")
    )


@pytest.fixture
def voted(data: Path) -> str:
    """Answer two questions of a run: p1#1 (right: A) by votes A, B and none, p2#2 by one for A."""
    run_fixtures.infer(data, SAMPLING, "mine")
    held = run_fixtures.claim("mine", 0, 3)
    run_fixtures.vote(
        held[0], [run_fixtures.ballot("A"), run_fixtures.ballot("B"), run_fixtures.ballot(None)]
    )
    run_fixtures.vote(held[1], [run_fixtures.ballot("A")])
    return "mine"


def lessons(run: str) -> list[TrainingExample]:
    return [TrainingExample.model_validate_json(one) for one in runs.load_entries(run)]


def with_wrong(home: Path, name: str = "s1") -> Path:
    made = run_fixtures.solved(name)
    made["questions"][0]["wrong"] = [{"answer": "B", "reasoning": "乙最高。\n答案是：B"}]
    return run_fixtures.write(home / f"{name}.jsonl", made)


def enqueue_train(*words: Any) -> tuple[Any, ...]:
    return ("enqueue", "train", "scorer", *words, "--run", "t")


def test_votes_become_lessons_right_or_wrong_by_their_letter(voted: str, votequeue: Command) -> None:
    ended = votequeue(*enqueue_train("--from", voted))
    assert ended.out == "run t enqueued: 2 questions with 2 right and 2 wrong texts, 1 message sent\n"
    assert "run mine: 2 items still open; their results are not included" in ended.err
    first, second = lessons("t")
    assert [(one.letter, first.is_right(one)) for one in first.texts] == [
        ("A", True),
        ("B", False),
        (None, False),
    ]
    assert [(one.attempt, one.place) for one in first.texts] == [(1, 0), (1, 1), (1, 2)]
    assert (first.kind, first.answer, first.source) == ("votes", "A", "mine")
    assert first.group == dataset.identity(first.problem) != second.group
    assert runs.get_run("t").source == "votes of mine"
    assert broker.waiting("train") == 1


def test_a_question_whose_answer_is_not_known_has_no_lesson(voted: str, votequeue: Command) -> None:
    votequeue(*enqueue_train("--from", voted))
    assert [one.question for one in lessons("t")] == ["谁高？"] * 2
    run_fixtures.infer(Path("data.jsonl"), SAMPLING, "fresh")
    with pytest.raises(UserError, match="it has no vote on a labelled question"):
        train.sources([], ["fresh"], [], [])


def test_a_file_gives_its_reasonings_and_its_questions(home: Path, votequeue: Command) -> None:
    data = with_wrong(home)
    ended = votequeue(*enqueue_train("--data", data, "--layers", 6))
    assert ended.out == "run t enqueued: 1 question with 1 right and 1 wrong text, 1 message sent\n"
    (lesson,) = lessons("t")
    assert [lesson.is_right(one) for one in lesson.texts] == [True, False]
    assert (lesson.kind, lesson.weight, lesson.augmented) == ("texts", 1.0, False)
    assert runs.get_run("t").options["layers"] == 6
    again = votequeue(*enqueue_train("--data", data, "--layers", 6, "--json"))
    assert json.loads(again.out)["continued"] is True


def test_a_labelled_question_is_enough_where_answers_are_read(data: Path, votequeue: Command) -> None:
    ended = votequeue(*enqueue_train("--data", data))
    assert ended.out == "run t enqueued: 3 questions with 0 right and 0 wrong texts, 1 message sent\n"
    assert [(one.answer, one.texts) for one in lessons("t")] == [("A", ()), ("B", ()), ("A", ())]


def test_what_data_runs_have_made_is_learned_from_and_stays_with_its_original(home: Path) -> None:
    source = run_fixtures.entry("p1", "AB")
    right = call_fixtures.reason_run(home, source, name="right")
    wrong = call_fixtures.reason_run(home, source, name="wrong", label="wrong", letters="every")
    again = call_fixtures.translate_run(home, run_fixtures.solved("p1", "A"), name="again")
    call_fixtures.explain(right, 0, text("A"))
    call_fixtures.explain(wrong, 0, text("B"), text("C"))
    call_fixtures.translate(
        again, 0, call_fixtures.new_entry(run_fixtures.solved("p1", "A"), problem="换了说法的题")
    )
    from producers.commands import training_options

    found = train.sources([], ["right", "wrong", "again"], [], ["wrong=0.5"])
    done = train.scorer(training_options.scorer({"input": "reasoning"}), found, "t")
    assert (done.right, done.wrong, done.sent) == (2, 2, 1)
    assert runs.get_run("t").source == "texts of right, texts of wrong x 0.5, texts of again"
    made = lessons("t")
    assert [(one.source, one.weight, one.augmented) for one in made] == [
        ("right", 1.0, False),
        ("wrong", 0.5, False),
        ("again", 1.0, True),
    ]
    # An original and what was made from it are held out together, or not at all.
    assert {one.group for one in made} == {dataset.identity(source["problem"])}
    assert train.scorer(training_options.scorer({"input": "reasoning"}), found, "t").continued


def test_votes_for_tests_are_told_apart(voted: str, home: Path, votequeue: Command) -> None:
    ended = votequeue(*enqueue_train("--data", with_wrong(home), "--test", voted, *READING))
    assert ended.out == (
        "run t enqueued: 1 question with 1 right and 1 wrong text, 4 more for testing, 1 message sent\n"
    )
    assert [(one.source, one.test) for one in lessons("t")][1:] == [("mine", True)] * 2
    assert runs.get_run("t").source == f"{home / 's1.jsonl'}, votes of mine (test)"


def test_texts_that_are_read_must_be_right_and_wrong(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "s.jsonl", run_fixtures.solved("s1"))
    ended = votequeue(*enqueue_train("--data", data, *READING))
    assert ended.code == 1
    assert "there is no wrong text to train on: `--from RUN` takes the votes" in ended.err
    assert runs.list_runs() == []


def test_without_a_known_answer_there_is_nothing_to_learn(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "s.jsonl", run_fixtures.entry("p1", "--"))
    ended = votequeue(*enqueue_train("--data", data))
    assert (ended.code, runs.list_runs()) == (1, [])
    assert "there is no labelled question to train on" in ended.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["--weight", "mine=0"],
            "--weight mine=0: expected NAME=NUMBER, with a number above 0 and up to 100",
        ),
        (["--weight", "mine"], "--weight mine: expected NAME=NUMBER"),
        (["--weight", "other=2"], "--weight other: it is not a training source (mine)"),
        (["--test", "mine"], "--test mine: a run cannot be used for both training and testing"),
        (["--test", "nobody"], "no run is called 'nobody'"),
        (["--recipe", "secret"], "recipe 'secret': there are verifier, reference, or name a .toml file"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], complaint: str, voted: str, votequeue: Command
) -> None:
    ended = votequeue(*enqueue_train("--from", voted, *words))
    assert ended.code == 1
    assert complaint in ended.err.splitlines()[-1]
    assert runs.find_run("t") is None


def test_a_run_that_has_made_nothing_yet_cannot_be_learnt_from(home: Path) -> None:
    call_fixtures.reason_run(home, run_fixtures.entry("p1"))
    with pytest.raises(UserError, match="--from r: it has no results yet, see `votequeue status r`"):
        train.sources([], ["r"], [], [])


def test_the_reference_says_where_it_is_not_the_references_own(home: Path, votequeue: Command) -> None:
    data = with_wrong(home)
    ended = votequeue(*enqueue_train("--data", data, "--recipe", "reference", "--layers", 6))
    assert "differs from the reference: layers 6.0, not none" in ended.err
    whole = votequeue("enqueue", "train", "scorer", "--data", data, "--recipe", "reference")
    assert "differs from the reference" not in whole.err


# Adapters


def test_an_adapter_is_trained_on_right_texts_only(voted: str, votequeue: Command) -> None:
    ended = votequeue("enqueue", "train", "lora", "--from", voted, "--run", "t", "--max-steps", 3)
    assert ended.code == 0
    options = runs.get_run("t").options
    assert (options["target"], options["max_steps"], options["rank"]) == ("lora", 3, 8)
    assert len(lessons("t")) == 2


def test_the_examples_that_a_run_showed_are_shown_in_training_too(data: Path, home: Path) -> None:
    solved = run_fixtures.write(home / "solved.jsonl", run_fixtures.solved("s1"))
    run_fixtures.infer(data, SAMPLING, "shown", str(solved))
    run_fixtures.vote(run_fixtures.claim("shown", 0)[0], [run_fixtures.ballot("A")])
    from producers.commands import training_options

    found = train.sources([], ["shown"], [], [])
    train.lora(training_options.lora({}), found, "t")
    assert runs.get_run("t").options["examples"] == [runs.get_run("shown").examples]


def test_an_adapter_needs_a_right_text(home: Path, data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "train", "lora", "--data", data)
    assert (ended.code, runs.list_runs()) == (1, [])
    assert "there is no right text to train on" in ended.err
