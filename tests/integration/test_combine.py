"""Voting over the recorded votes of several runs, and what that is worth beside the best of them."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from producers import trace
from producers.reports import paired_comparison
from shared import dataset, vote_weights, voting
from shared.ledger import claims, runs, votes
from shared.ledger.claims import Settled, VoteRecord
from shared.options import Sampling
from shared.voting import PLAIN, Vote
from tests import fakes
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeScorer
from tests.integration import model_fixtures, run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING
from workers.inference.rounds import Rounds

pytestmark = pytest.mark.usefixtures("on_broker")

KEYS = "ABCABCABCABC"  # the right letters of twelve entries with one question each


def settle(run: str, number: int, *rounds: str) -> None:
    """Answer a question with rounds of votes, a letter each; "-" has none."""
    for at, letters in enumerate(rounds, start=1):
        (held,) = run_fixtures.claim(run, number)
        ballots = [ballot(None if letter == "-" else letter) for letter in letters]
        answer = voting.revote([[Vote(each.letter) for each in ballots]], PLAIN, "majority")[0]
        claims.settle([Settled(held, ballots, answer if at == len(rounds) else None, "done")])


def enqueue(
    home: Path, run: str, keys: str = KEYS, order: Sequence[int] | None = None, **changes: Any
) -> None:
    """Enqueue an entry with one question for each right letter; "-" is unknown."""
    entries = [run_fixtures.entry(f"p{at}", key) for at, key in enumerate(keys)]
    ordered = [entries[at] for at in order] if order else entries
    data = run_fixtures.write(home / f"{run}.jsonl", *ordered)
    run_fixtures.infer(data, SAMPLING.model_copy(update=changes), run)


def answer(run: str, *cast: str) -> None:
    for number, letters in enumerate(cast):
        settle(run, number, letters)


def wrong(letter: str) -> str:
    return {"A": "B", "B": "C", "C": "A"}[letter]


@pytest.fixture
def pair(home: Path) -> tuple[str, str]:
    """Answer twelve questions by two runs, five votes each of three options.

    Base is right on every fourth question, with all votes; chat on all but every fourth, by three votes of
    five. They are right on different questions.
    """
    enqueue(home, "base")
    enqueue(home, "chat")
    sure = [at % 4 == 3 for at in range(12)]
    answer("base", *((key if good else wrong(key)) * 5 for key, good in zip(KEYS, sure, strict=True)))
    answer(
        "chat", *((wrong(key) if good else key) * 3 + key * 2 for key, good in zip(KEYS, sure, strict=True))
    )
    return "base", "chat"


def work(run: str, scorer: FakeScorer | None = None) -> None:
    """Do a worker's part; it must not sample."""
    generator = FakeGenerator(otherwise=AssertionError("sampled"))
    playing = Rounds(generator, scorer or FakeScorer(), lambda _: fakes.FakeRetriever())
    asyncio.run(playing.run(run_fixtures.claim(run, *range(sum(runs.count_states(run).values())))))
    assert generator.requests == []


def letters(run: str) -> str:
    return "".join(result.letter or "-" for result in votes.of_run(run))


def combine(votequeue: Command, *words: str) -> dict[str, Any]:
    ended = votequeue("enqueue", "infer", *words, "--run", "all", "--json")
    assert ended.code == 0, ended.err
    told: dict[str, Any] = json.loads(ended.out)
    return told


@pytest.mark.usefixtures("any_ledger")
def test_the_last_round_of_each_run_is_one_round_in_the_order_of_the_runs(
    home: Path, votequeue: Command
) -> None:
    enqueue(home, "one", "AB-")
    enqueue(home, "two", "AB-", order=[2, 0, 1])  # the items of this run have other numbers
    settle("one", 0, "---", "ABB")
    settle("one", 1, "BB-")
    settle("one", 2, "CCC")
    settle("two", 0, "AAAA")
    settle("two", 1, "A")
    settle("two", 2, "CCC")
    ended = votequeue("enqueue", "infer", "two", "one", "--combine", "plain", "--run", "all")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("run all enqueued: 3 questions, 3 messages sent\n")
    work("all")
    cast = {
        result.key: ("".join(vote.letter or "-" for vote in result.votes), result.letter, result.how)
        for result in votes.of_run("all")
    }
    assert cast == {
        "p2#1": ("AAAACCC", "A", "unscored majority"),
        "p0#1": ("AABB", "A", "unscored majority"),
        "p1#1": ("CCCBB-", "C", "unscored majority"),
    }
    assert runs.get_run("all").source == "votes of two and one"
    shown = votequeue("trace", "all", "p0#1").out
    assert [line.split(", ")[-1] for line in shown.splitlines() if line.startswith("vote ")] == [
        "of run two",
        *["of run one"] * 3,
    ]
    assert votequeue("collect", "all", "-o", "out.jsonl").code == 0
    assert [one["questions"][0]["answer"] for one in run_fixtures.read(home / "out.jsonl")] == list("AAC")
    assert (
        "continued" in votequeue("enqueue", "infer", "two", "one", "--combine", "plain", "--run", "all").out
    )


@pytest.mark.usefixtures("any_ledger")
def test_learned_weights_are_cross_validated_and_the_worker_answers_as_was_predicted(
    pair: tuple[str, str], votequeue: Command
) -> None:
    told = combine(votequeue, *pair, "--combine", "learned")
    combination = told["combination"]
    right = {run["name"]: run["right"]["right"] for run in combination["comparison"]["runs"]}
    assert (right["base"], right["chat"]) == (3, 9)
    assert combination["weights"]["base"] == 0.0  # 15 of 60 votes are right, of three options
    # 51 of 60 votes are right.
    assert combination["weights"]["chat"] == pytest.approx(vote_weights.log_odds(51, 60, 20.0))
    sampling = Sampling.of_record(runs.get_run("all").options)
    assert sampling.weights is not None
    assert sampling.combined_runs == pair
    assert {len(weights) for weights in sampling.weights.values()} == {vote_weights.FOLDS + 1}
    work("all")
    found = sum(letter == key for letter, key in zip(letters("all"), KEYS, strict=True))
    assert found == right["the combination"]
    counted = {(vote["run"], vote["weight"]) for vote in trace.history("all", "0").votes}
    by_fold = [{(run, weights[at]) for run, weights in sampling.weights.items()} for at in range(5)]
    assert counted in by_fold
    report = json.loads(votequeue("report", "all", "--json").out)
    assert report["combination"]["comparison"]["runs"][-1]["right"]["right"] == found
    shown = votequeue("report", "all").out
    assert "learned weights: base 0.00, chat 2." in shown
    assert "120 votes sampled by" in shown
    assert "the runs base, chat" in shown
    assert "not shown to be better than chat: the 95 % interval includes zero" in shown


@pytest.mark.usefixtures("home")
def test_the_weights_of_a_fold_do_not_depend_on_its_labels(home: Path, votequeue: Command) -> None:
    weights = []
    for run, keys in (("first", KEYS), ("other", "B" + KEYS[1:])):
        enqueue(home, run, keys)
        enqueue(home, f"{run}-2", keys)
        for name in (run, f"{run}-2"):
            answer(name, *(key * 2 + wrong(key) for key in KEYS))
        ended = votequeue("enqueue", "infer", run, f"{run}-2", "--combine", "learned", "--run", f"{run}-all")
        assert ended.code == 0, ended.err
        weights.append(runs.get_run(f"{run}-all").options["weights"][run])
    entry = runs.load_entry("first", 0)
    fold = vote_weights.fold(dataset.unit(entry), labelled=True)
    same = [at for at in range(vote_weights.FOLDS + 1) if weights[0][at] == weights[1][at]]
    assert same == [fold]


def test_a_combination_that_is_better_is_said_to_be(home: Path, votequeue: Command) -> None:
    names = ["x", "y", "z"]
    for place, name in enumerate(names):
        enqueue(home, name)
        answer(name, *(wrong(key) * 3 if at % 3 == place else key * 3 for at, key in enumerate(KEYS)))
    ended = votequeue("enqueue", "infer", *names, "--combine", "plain", "--run", "all")
    assert ended.code == 0, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "combination every vote counts 1" in lines
    assert "compared on 12 labelled questions in 12 entries" in lines
    assert next(line for line in lines if line.startswith("accuracy of y")).startswith(
        "accuracy of y 8/12 66.7 %"
    )
    last = next(line for line in lines if line.startswith("accuracy of the combination"))
    assert "12/12 100.0 % (100.0 to 100.0 %), +33.3 (" in last
    assert ") points over x, p 0.125" in last
    assert "the combination is better than x: the 95 % interval is above zero" in lines


def test_a_combination_that_is_worse_is_said_to_be_so(home: Path, votequeue: Command) -> None:
    for name, right in (("x", True), ("y", False), ("z", False)):
        enqueue(home, name)
        answer(name, *(key * 3 if right else wrong(key) * 3 for key in KEYS))
    shown = votequeue("enqueue", "infer", "x", "y", "z", "--combine", "plain", "--run", "all").out
    assert "not shown to be better than x: the 95 % interval is below zero" in shown
    # Here weights help: runs that are never right count nothing.
    shown = votequeue("enqueue", "infer", "x", "y", "z", "--combine", "learned", "--run", "weighed").out
    assert "not shown to be better than x: the 95 % interval includes zero" in shown
    work("weighed")
    assert letters("weighed") == KEYS


def test_each_vote_is_read_by_the_rule_of_its_own_run(home: Path, votequeue: Command) -> None:
    echo = "答案是：A，但这与条件3矛盾。\n答案是：B"
    for run, reader, letter in (("one", "reference", "A"), ("two", "conclusion", "B")):
        enqueue(home, run, "A", reader=reader)
        (held,) = run_fixtures.claim(run, 0)
        ballots = [VoteRecord(echo, letter, None, True, 10)]
        claims.settle([Settled(held, ballots, voting.decide([Vote(letter)], PLAIN), "done")])
    combine(votequeue, "one", "two", "--combine", "plain")
    work("all")
    assert [vote.letter for result in votes.of_run("all") for vote in result.votes] == ["A", "B"]


def test_without_labels_only_a_plain_vote_is_possible(home: Path, votequeue: Command) -> None:
    for run in ("one", "two"):
        enqueue(home, run, "--")
        answer(run, "AAB", "BBB")
    ended = votequeue("enqueue", "infer", "one", "two", "--combine", "learned")
    assert ended.code == 1
    assert "run 'one' has none: name a run over labelled data first, or use --combine plain" in ended.err
    ended = votequeue("enqueue", "infer", "one", "two", "--combine", "plain", "--run", "all")
    assert "no labelled question is answered in all runs" in ended.out
    work("all")
    assert letters("all") == "AB"


def test_weights_are_not_learned_from_very_few_labels(home: Path, votequeue: Command) -> None:
    for labelled, code in ((9, 1), (10, 0)):
        names = [f"one{labelled}", f"two{labelled}"]
        for name in names:
            enqueue(home, name, KEYS[:labelled] + "--")
            answer(name, *(key * 3 for key in KEYS[:labelled]), "AAA", "BBB")
        ended = votequeue("enqueue", "infer", *names, "--combine", "learned", "--run", f"all{labelled}")
        assert ended.code == code, ended.err
        refused = "at least 10 entries, and run 'one9' has them in 9: name a run with more of them first"
        assert (refused in ended.err) == bool(code)
    assert runs.find_run("all9") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("base", "--combine needs at least two runs over the same questions"),
        ("base chat base", "run 'base' is named twice: its votes would count twice"),
        ("base open", "run 'open' is not finished"),
        ("base base.jsonl", "--combine takes runs, and base.jsonl is a data set"),
        ("base made", "run 'made' is a reason run"),
        (
            "base fewer",
            "run 'base' has 2 questions that another run lacks or asks otherwise (the first: p10#1)",
        ),
        ("fewer base", "run 'base' has 2 questions that another run lacks"),
    ],
)
def test_runs_that_cannot_be_combined_are_refused(
    names: str, message: str, pair: tuple[str, str], home: Path, votequeue: Command
) -> None:
    enqueue(home, "open")
    enqueue(home, "fewer", KEYS[:10])
    answer("fewer", *KEYS[:10])
    lines = [line for line in dataset.scan(home / "base.jsonl") if isinstance(line, dataset.Line)]
    runs.open_run(runs.Run("made", "reason", "base.jsonl", "d", None, {}), lines)
    for mode in ("plain", "learned"):
        ended = votequeue("enqueue", "infer", *names.split(), "--combine", mode, "--run", "all")
        assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
        assert message in ended.err
    assert runs.find_run("all") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["base", "chat"], "several runs need --combine plain or learned"),
        (["base", "chat", "--combine", "best"], "'plain' or 'learned'"),
        (["base", "chat", "--combine", "plain", "--votes", "3"], "recorded votes are combined"),
        (["base", "chat", "--combine", "plain", "--reader", "reference"], "recorded votes are combined"),
        (["base", "chat", "--combine", "plain", "--only", "unread"], "recorded votes are combined"),
        (["base", "chat", "--combine", "plain", "--examples", "x"], "recorded votes are combined"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: list[str], message: str, pair: tuple[str, str], votequeue: Command
) -> None:
    ended = votequeue("enqueue", "infer", *words, "--run", "all")
    assert ended.code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert runs.find_run("all") is None


def test_a_combination_can_be_scored_and_compared_like_any_run(
    pair: tuple[str, str], votequeue: Command
) -> None:
    model_fixtures.put("s1")
    ended = votequeue("enqueue", "infer", *pair, "--combine", "learned", "--scorer", "s1", "--run", "all")
    assert "its accuracy: `votequeue report all`" in ended.out
    votequeue("enqueue", "infer", *pair, "--combine", "learned", "--run", "unscored")
    # The gate leaves the votes for A; a question without any falls back to the majority.
    work("all", FakeScorer(lambda _, text: 0.9 if text.endswith("A") else 0.1))
    work("unscored")
    ended = votequeue("enqueue", "infer", "unscored", "--scorer", "s1", "--run", "again")
    assert ended.code == 0, ended.err
    known, made = runs.get_run("unscored"), runs.get_run("again")
    assert made.options == {**known.options, "scorer": "s1"}
    work("again", FakeScorer(lambda _, text: 0.9 if text.endswith("A") else 0.1))
    assert letters("again") == letters("all") != letters("unscored")
    found = paired_comparison.compare(["chat", "all"])
    assert found.questions == 12
    assert "s1" in votequeue("report", "all").out


def test_what_a_combination_cannot_do_is_said(pair: tuple[str, str], votequeue: Command) -> None:
    combine(votequeue, *pair, "--combine", "learned")
    work("all")
    for words, message in (
        (
            ["enqueue", "infer", "all", "chat", "--combine", "plain"],
            "'all' is a combination itself: name its runs",
        ),
        (["enqueue", "infer", "all", "--reader", "reference"], "--reader does not apply to 'all'"),
        (
            ["enqueue", "infer", "all", "--only", "default"],
            "combines the votes of base, chat: ask questions of one",
        ),
        (["enqueue", "infer", "base.jsonl", "--append-to", "all"], "is over the votes of base and chat"),
        (["report", "all", "--revote"], "weighs votes by their runs, which --revote cannot"),
    ):
        ended = votequeue(*words)
        assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
        assert message in ended.err


def test_runs_that_asked_the_same_questions_again_are_combined_and_collected_in_place(
    home: Path, votequeue: Command
) -> None:
    enqueue(home, "r", "ABC")
    answer("r", "AAA", "A--", "CCC")
    for name, cast in (("longer", "BBB"), ("chatty", "BCC")):
        ended = votequeue("enqueue", "infer", "r", "--only", "unread", "--run", name)
        assert ended.code == 0, ended.err
        settle(name, 0, cast)
    combine(votequeue, "longer", "chatty", "--combine", "plain")
    work("all")
    assert [result.key for result in votes.of_run("all")] == ["p1#1"]
    assert votequeue("collect", "all", "-o", "out.jsonl").code == 0
    assert [one["questions"][0]["answer"] for one in run_fixtures.read(home / "out.jsonl")] == list("ABC")


def test_problems_that_an_adapter_of_a_combined_run_has_learned_prove_nothing(
    pair: tuple[str, str], votequeue: Command
) -> None:
    combine(votequeue, *pair, "--combine", "plain")
    work("all")
    problem = dataset.identity(runs.load_entry("base", 0).problem)
    model_fixtures.put("l1", "lora", problems=[problem])
    settled = paired_comparison.compare(["chat", "all"])
    assert (settled.questions, settled.learned) == (12, 0)
    with pytest.MonkeyPatch.context() as patch:
        sampled = votes.VoteSource(None, None, None, "l1", None, 60)
        patch.setattr(votes, "count_sources", lambda run: [sampled] if run == "base" else [])
        assert paired_comparison.compare(["chat", "all"]).learned == 1


def test_a_retried_item_of_a_combination_has_its_votes_again(
    pair: tuple[str, str], votequeue: Command
) -> None:
    combine(votequeue, *pair, "--combine", "plain")
    claims.bury(run_fixtures.claim("all", 0)[0], "its worker failed")
    assert votequeue("failed", "all", "--retry").code == 0
    work("all")
    assert next(votes.of_run("all")).attempt == 1
    assert len(next(votes.of_run("all")).votes) == 10
