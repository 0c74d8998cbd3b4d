"""The closed loop: which data it trains on, what it chooses, and where it continues after an interruption."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from producers import improve, models, watch
from producers.enqueue import inputs
from producers.reports import improvement
from shared import dataset, settings, vote_weights, voting
from shared.jobs import Infer, Train
from shared.ledger import claims, leases, progress, runs, votes
from shared.ledger import models as registry
from shared.ledger.claims import Settled
from shared.ledger.models import Model
from shared.ledger.schema import State
from shared.voting import PLAIN, Rule, Vote, VotingMode
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures

pytestmark = pytest.mark.usefixtures("on_broker")
ENTRIES = [run_fixtures.solved(f"p{at}") for at in range(80)]
GOOD, BAD = "lora-good", "lora-bad"


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "labelled.jsonl", *ENTRIES)


class Worker:
    """Ends every open run each time that a command waits.

    Votes without an adapter are right on every other question, with `GOOD` on all, with `BAD` on none. The
    ``scorers`` and ``adapters`` are made by trainings in this order; a scorer with a dash is not promoted.
    """

    def __init__(self, scorers: str = "s1 s2 s3", adapters: str = "") -> None:
        self.scorers, self.adapters = scorers.split(), adapters.split()
        self.ended: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def sleep(self, _seconds: float) -> None:
        for run, states in progress.overview():
            if states[State.PENDING]:
                self.before(run.name)
                self.ended.append(run.name)
                (self._answer if run.kind == "infer" else self._train)(run.name, run.options)

    def _answer(self, run: str, options: dict[str, Any]) -> None:
        scorer = None if options["scorer"] == "none" else options["scorer"]
        ends = []
        for result in [each for each in votes.of_run(run) if each.letter is None]:
            right = {"none": result.number % 2 == 0, GOOD: True, BAD: False}[options["lora"]]
            letters = ["A", "A", "A", "B", "B"] if right else ["B", "B", "B", "A", "A"]
            (held,) = claims.claim([Infer(run=run, item=result.number)], "one", 60)
            ballots = [run_fixtures.ballot(letter, 0.9 if scorer else None) for letter in letters]
            answer = voting.decide([Vote(ballot.letter, ballot.score) for ballot in ballots], PLAIN)
            ends.append(Settled(held, ballots, answer, "done", scorer))
        claims.settle(ends)

    def _train(self, run: str, options: dict[str, Any]) -> None:
        kind = options["target"]
        name = (self.scorers if kind == "scorer" else self.adapters).pop(0)
        promoted = kind == "scorer" and not name.endswith("-")
        rule = Rule(VotingMode.WEIGHTED, 0.0) if kind == "scorer" else None
        made = Model(name, kind, run, "base", "votes", "digest", {}, "0.1.0", {}, rule)
        value = {"model": name, "verdict": "in use from now on" if promoted else "not in use"}
        if kind == "scorer":
            value["answers"] = {"best": 0.625, "majority": 0.5}
        (held,) = claims.claim([Train(run=run, item=0)], "one", 60)

        def register(connection: Any) -> None:
            registry.add(connection, made, ())
            if promoted:
                registry.promote(connection, kind, name, "it beats the plain majority")

        assert claims.complete(held, value, also=register)


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    """Put a worker to work."""

    def start(*arguments: str) -> Worker:
        worker = Worker(*arguments)
        leases.heartbeat("one", 600, queues=["infer", "train"])
        clock = SimpleNamespace(sleep=worker.sleep, monotonic=time.monotonic)
        monkeypatch.setattr(watch, "time", clock)
        return worker

    return start


def part(name: str, loop: str = "loop") -> list[dict[str, Any]]:
    return run_fixtures.read(Path("var/improve") / loop / f"{name}.jsonl")


def cells(loop: str, count: int) -> dict[str, list[str]]:
    headings, rows = improvement.table(loop, count)
    assert headings == ["", *(f"round {number}" for number in range(1, count + 1))]
    return {row[0]: row[1:] for row in rows}


def ids(name: str) -> set[str]:
    return {entry["id"] for entry in part(name)}


# The split


def split(path: Path) -> None:
    (source,) = inputs.check([path])
    folder = Path("var/improve/loop")
    folder.mkdir(parents=True, exist_ok=True)
    improve.split(source, folder)


def test_the_parts_are_disjoint_complete_and_the_same_each_time(data: Path) -> None:
    split(data)
    names = ids("train"), ids("validation"), ids("test")
    assert sum(map(len, names)) == len(set().union(*names)) == len(ENTRIES)
    assert all(10 <= len(each) <= 25 for each in names[1:])
    before = part("test")
    split(data)
    assert part("test") == before


def test_copies_of_a_problem_and_entries_made_from_it_stay_together(home: Path) -> None:
    split(run_fixtures.write(home / "once.jsonl", *ENTRIES))
    tested, trained = min(ids("test")), min(ids("train"))
    for name in ("train", "validation", "test"):
        Path(f"var/improve/loop/{name}.jsonl").unlink()
    more = []
    for at, name in enumerate((tested, trained)):
        problem = run_fixtures.entry(name)["problem"]
        group = dataset.identity(problem)
        made = {"votequeue": {"origin": "synonym", "group": group}}
        more += [
            {**run_fixtures.solved(f"copy{at}"), "problem": problem + " "},
            {**run_fixtures.solved(f"made{at}"), **made},
        ]
    split(run_fixtures.write(home / "more.jsonl", *ENTRIES, *more))
    # Entries that were made from others are never tested on.
    assert {"copy0"} == {name for name in ids("test") if name[0] != "p"}
    assert {"copy1", "made1"} == {name for name in ids("train") if name[0] != "p"}


REFUSED = {
    "unlabelled": [run_fixtures.entry(f"p{at}", "A-") for at in range(80)],
    "too few": ENTRIES[:30],
}


@pytest.mark.parametrize("why", REFUSED)
def test_data_that_no_loop_can_use_are_refused(why: str, home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "few.jsonl", *REFUSED[why])
    ended = votequeue("improve", data, "--run", "loop")
    assert ended.code == 1
    assert re.search(r"few\.jsonl: too few entries with answers to all questions", ended.err)
    assert runs.list_runs() == []
    assert not list(home.glob("var/improve/loop/*"))


def test_a_model_in_use_that_was_trained_on_test_problems_is_refused(data: Path, votequeue: Command) -> None:
    model_fixtures.put("s0", problems=[dataset.identity(entry["problem"]) for entry in ENTRIES])
    ended = votequeue("improve", data)
    assert ended.code == 1
    assert "s0 is in use and was trained on problems that the loop tests on" in ended.err
    assert "`votequeue models use no-scorer`" in ended.err


# Rounds


def test_each_round_votes_trains_and_tests_with_what_is_in_use(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    worker = at_work("s1 s2-")
    ended = votequeue("improve", data, "--rounds", 2, "--run", "loop")
    assert ended.code == 0, ended.err
    # The second scorer is compared with the first on questions that neither was trained on.
    assert worker.ended == [
        *(f"loop-1-{step}" for step in ("votes", "scorer", "test")),
        *("loop-2-votes", "loop-validation-none", "loop-2-scorer", "loop-2-test"),
    ]
    voted, tested = runs.get_run("loop-2-votes"), runs.get_run("loop-2-test")
    assert (voted.options["scorer"], voted.options["max_attempts"]) == ("none", 1)
    assert voted.options["same_problem"] is False
    # The second scorer was not promoted: the first one stays in use.
    assert tested.options["scorer"] == "s1"
    assert runs.get_run("loop-2-scorer").source == (
        "votes of loop-1-votes, votes of loop-2-votes, votes of loop-validation-none (test)"
    )
    # The examples are those of the training part, in all runs.
    assert voted.digest == voted.examples == tested.examples != tested.digest
    problems: dict[bool, set[str]] = {False: set(), True: set()}
    for example in map(json.loads, runs.load_entries("loop-2-scorer")):
        problems[example["test"]].add(example["problem"])
    assert problems[False] == {entry["problem"] for entry in part("train")}
    assert problems[True] == {entry["problem"] for entry in part("validation")}
    assert "loop/report.md" in ended.err


def test_the_page_has_the_figures_of_each_round(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    at_work("s1 s2-")
    ended = votequeue("improve", data, "--rounds", 2, "--run", "loop")
    figures = cells("loop", 2)
    trained, tested = len(part("train")), len(part("test"))
    right = (trained + 1) // 2
    assert figures["training part: questions"] == [str(trained)] * 2
    share = f"{right}/{trained}  {100 * right / trained:.1f} %"
    assert [cell.split(", ")[0] for cell in figures["training part: majority"]] == [share] * 2
    assert figures["training part: one vote"][0].startswith(f"{2 * trained + right}/{5 * trained}  ")
    assert figures["scorer"] == ["s1", "s2-"]
    assert figures["held out"] == ["62.5 % right (majority 50.0 %)"] * 2
    assert figures["verdict"] == ["in use from now on", "not in use"]
    assert figures["adapter"] == ["no new one"] * 2
    assert figures["test part: questions"] == [f"{tested} of {tested}"] * 2
    assert figures["in use"] == ["s1, weighted, none"] * 2
    assert figures["test: rule in use"][0].startswith(f"{(tested + 1) // 2}/{tested}  ")
    assert figures["test: majority"] == figures["test: rule in use"]
    assert figures["test: points over round 1"] == ["", "+0.0 (0.0 to 0.0), p 1"]
    assert figures["test: tokens a question"] == ["50"] * 2
    page = Path("var/improve/loop/report.md").read_text("utf-8")
    for name, row in figures.items():
        assert f"| {name} | {row[0]} | {row[1]} |" in page.replace("\\", "")
    for text in (page, ended.out):
        assert "no round trains on the test part" in " ".join(text.split())


def test_more_rounds_continue_a_loop(data: Path, votequeue: Command, at_work: Callable[..., Worker]) -> None:
    worker = at_work()
    assert votequeue("improve", data, "--rounds", 1, "--run", "loop").code == 0
    assert votequeue("improve", data, "--rounds", 2, "--run", "loop").code == 0
    assert len(worker.ended) == len(set(worker.ended)) == 7


def test_an_adapter_is_used_only_if_it_is_better_on_the_validation_part(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    worker = at_work("s1 s2 s3", f"{BAD} {GOOD} {GOOD}")
    ended = votequeue("improve", data, "--lora", "--max-steps", 2, "--run", "loop")
    assert ended.code == 0, ended.err
    assert [name for name in worker.ended if "validation" in name] == [
        f"loop-validation-{adapter}" for adapter in ("none", BAD, GOOD)
    ]
    adapters = [runs.get_run(f"loop-{number}-{step}").options["lora"] for number, step in STEPS]
    assert adapters == ["none", "none", "none", GOOD, GOOD, GOOD]
    assert model_fixtures.history("lora") == [(GOOD, "better than none on the validation part of loop")]
    # The scorer of a new adapter's votes learns from these votes alone; adapters learn from all.
    sources = [runs.get_run(f"loop-3-{kind}").source for kind in ("scorer", "lora")]
    assert sources == [
        "votes of loop-3-votes, votes of loop-validation-lora-good (test)",
        ", ".join(f"votes of loop-{at}-votes" for at in (1, 2, 3)),
    ]
    assert runs.get_run("loop-1-lora").options["max_steps"] == 2
    verdicts = cells("loop", 3)["adapter"]
    assert re.match(r"lora-bad: -\d.* points over none in validation; not in use: not shown", verdicts[0])
    assert re.match(r"lora-good: \+\d.* points over none in validation; in use$", verdicts[1])
    assert verdicts[2] == "no new one"
    # Round 1 answers every other question right, the others all.
    tested = len(part("test"))
    gains = [gain.split(" (")[0] for gain in cells("loop", 3)["test: points over round 1"]]
    assert gains == ["", *[f"+{100 * (tested // 2) / tested:.1f}"] * 2]


STEPS = [(number, step) for number in (1, 2, 3) for step in ("votes", "test")]


def test_a_loop_continues_after_an_interruption_at_any_step(
    data: Path, votequeue: Command, at_work: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = at_work("s1 s2", f"{GOOD} {BAD}")
    stopped: set[str] = set()

    def interrupt(step: str) -> None:
        if step not in stopped:
            stopped.add(step)
            raise KeyboardInterrupt

    def use(*arguments: str) -> Any:
        interrupt("before the adapter is used")
        decision = original(*arguments)
        interrupt("after it")
        return decision

    original = models.use
    worker.before = interrupt
    monkeypatch.setattr(models, "use", use)
    command = ("improve", data, "--lora", "--rounds", 2, "--run", "loop")
    codes = []
    while not codes or codes[-1] == 130:
        codes.append(votequeue(*command).code)
    assert codes[-1] == 0
    assert len(codes) - 1 == len(stopped) == len(worker.ended) + 2
    assert len(set(worker.ended)) == len(worker.ended) == 4 * 2 + 3
    assert [name for name, _ in model_fixtures.history("scorer")] == ["s1", "s2"]
    assert [name for name, _ in model_fixtures.history("lora")] == [GOOD]
    assert [runs.get_run(f"loop-{at}-test").options["lora"] for at in (1, 2)] == [GOOD, GOOD]


def test_a_training_that_fails_ends_the_command(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    worker = at_work()

    def fail(run: str) -> None:
        if run == "loop-1-scorer":
            (held,) = claims.claim([Train(run=run, item=0)], "one", 60)
            claims.bury(held, "the texts are of one class")

    worker.before = fail
    worker._train = lambda *_: None  # type: ignore[method-assign]
    ended = votequeue("improve", data, "--run", "loop")
    assert ended.code == 1
    said = "the texts are of one class: `votequeue failed loop-1-scorer --retry`, then repeat this command"
    assert said in ended.err
    assert runs.find_run("loop-1-test") is None


def test_the_command_ends_where_no_worker_serves_a_queue(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    worker = at_work()
    leases.heartbeat("one", 600, queues=["infer"])
    ended = votequeue("improve", data, "--run", "loop")
    assert (ended.code, worker.ended) == (1, ["loop-1-votes"])
    said = "run loop-1-scorer: no live worker serves the queue train: start one with `votequeue up` or "
    assert said in ended.err
    leases.heartbeat("one", 600, queues=["infer", "train"])
    assert votequeue("improve", data, "--rounds", 1, "--run", "loop").code == 0


def test_other_data_or_options_than_those_of_the_loop_are_refused(
    data: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    at_work()
    assert votequeue("improve", data, "--rounds", 1, "--run", "loop").code == 0
    said = "the loop began with other data or options: choose another --run"
    run_fixtures.write(data, *ENTRIES[:-1], run_fixtures.solved("other"))
    ended = votequeue("improve", data, "--rounds", 1, "--run", "loop")
    assert (ended.code, said in ended.err) == (1, True)
    # Without a name, the loop is named by its data.
    assert votequeue("improve", data, "--rounds", 1).code == 0


def test_data_without_reasonings_are_answered_without_examples(
    home: Path, votequeue: Command, at_work: Callable[..., Worker]
) -> None:
    at_work()
    data = run_fixtures.write(home / "bare.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(80)))
    assert votequeue("improve", data, "--rounds", 1, "--run", "loop").code == 0
    assert runs.get_run("loop-1-votes").examples is None


def test_votes_differ_between_rounds_where_a_seed_is_set(
    data: Path, votequeue: Command, at_work: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work()
    monkeypatch.setenv("VOTEQUEUE_SEED", "7")
    settings.load.cache_clear()
    assert votequeue("improve", data, "--rounds", 2, "--run", "loop").code == 0
    assert [runs.get_run(f"loop-{at}-votes").options["seed"] for at in (1, 2)] == [8, 9]


def test_the_fold_of_a_problem_decides_its_part(data: Path) -> None:
    split(data)
    for name, folds in (("test", {0}), ("validation", {1}), ("train", {2, 3, 4})):
        groups = {dataset.identity(entry["problem"]) for entry in part(name)}
        assert {vote_weights.fold(group, labelled=True) for group in groups} == folds
