"""The train queue with real processes and tiny weights: made once, registered, gone on with, or given up."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from producers.commands import training_options
from shared import broker, dataset, model_store, settings
from shared.errors import ServiceUnreachable
from shared.jobs import Train
from shared.ledger import claims, engine, locks, models, runs, training_log
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.training_examples import TrainingExample
from tests import tiny, training_fixtures, waiting
from tests.conftest import Command
from tests.integration import model_fixtures
from workers import settlement, task_runner
from workers import train as queue
from workers.training.ipc import Comparison, Difference, TrainedModel

pytestmark = pytest.mark.usefixtures("on_broker")
READING = {"tune": "all", "input": "question+reasoning", "layers": 1, "learning_rate": 5e-3, "max_length": 64}
QUICK = {**READING, "epochs": 4, "batch_size": 8, "held_out": 0.25}
# So many steps that there is time to do something to it.
LONG = {**QUICK, "epochs": 400}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _settings(weights: Path, on_broker: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heartbeats be quick, and checkpoints too."""
    for name, value in (("LEASE", 10), ("HEARTBEAT", 0.2), ("CHECKPOINT_EVERY", 0.2), ("MODEL", weights)):
        monkeypatch.setenv(f"VOTEQUEUE_{name}", str(value))
    settings.load.cache_clear()


@pytest.fixture(autouse=True)
def _not_stopping() -> Iterator[None]:
    """Let the worker go on after a test that stopped it."""
    yield
    queue._stopping.clear()


def open_training(found: Sequence[TrainingExample], name: str = "t", **options: Any) -> str:
    told = training_options.scorer({**QUICK, **options})
    _open(name, told, found)
    return name


def _open(name: str, told: Any, found: Sequence[TrainingExample]) -> None:
    run = Run(name, "train", "votes of mine", "digest", None, told.model_dump(mode="json"))
    runs.open_single(run, told.target, (example.model_dump_json() for example in found))


def claim(name: str = "t", worker: str = "one") -> Claim:
    (held,) = claims.claim([Train(run=name, item=0)], worker, 10)
    return held


def train(held: Claim) -> str:
    return task_runner.run_claimed(held, queue._train, queue.ERROR_POLICIES)


def state(name: str = "t") -> State:
    (found,) = [one for one, count in runs.count_states(name).items() if count]
    return found


def work(name: str = "t") -> list[Path]:
    return list((settings.load().trained_folder / queue.WORK).glob(f"{name}-*"))


def during(name: str, act: Callable[[], object]) -> str:
    """Train, and do something once a checkpoint is there; give what became of the training."""
    said: list[str] = []
    worker = threading.Thread(target=lambda: said.append(train(claim(name))))
    worker.start()
    waiting.until(lambda: any("saved" in told.metrics for told in training_log.curve(name)))
    act()
    worker.join(120)
    assert said
    return said[0]


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [one for one in found if "workers.training_process" in " ".join(one.cmdline())]


def kill() -> None:
    waiting.until(lambda: bool(children()))
    children()[0].kill()


# What comes of it


def test_a_model_that_beats_the_majority_is_registered_and_used(votequeue: Command) -> None:
    name = open_training(training_fixtures.examples(40))
    said = train(claim())
    used = models.in_use("scorer")
    assert used is not None
    assert re.fullmatch(
        rf"{used.name}: in use from now on: on \d+ questions in \d+ entries that it was not trained on, "
        r"\+\d+\.\d points \(± \d+\.\d, one-sided p 0\.0\d+\) over the plain majority",
        said,
    )
    assert (used.run, used.source, used.digest) == (name, "votes of mine", "digest")
    assert used.code.startswith("0.1.0")
    assert used.rule is not None
    assert models.problems(used.name) < {
        dataset.identity(one.problem) for one in training_fixtures.examples(40)
    }
    assert model_store.checked("scorer", used.name, settings.load().trained_folder)
    assert state() is State.DONE
    assert work() == []
    told = training_log.curve(name)
    assert told[-1].step == told[-1].total_steps
    assert {"loss", "learning_rate"} <= {figure for one in told for figure in one.metrics}
    assert queue.train.run(run="t", item=0).startswith("nothing to do")
    shown = votequeue("status", "t").out
    assert used.name in shown
    assert "answers.majority" in shown


def test_a_model_that_is_no_better_is_kept_and_not_used() -> None:
    # All votes of a question agree and are right: there is nothing to win.
    same = [training_fixtures.example(at, letters="AB"[at % 2] * 4 + "C") for at in range(40)]
    open_training(same)
    said = train(claim())
    assert ": not in use: not shown to be better at level 0.05: on 8 questions in 8 entries" in said
    assert "+0.0 points (± 0.0, one-sided p 1) over the plain majority; `votequeue models use " in said
    assert models.in_use("scorer") is None
    assert [model.run for model in models.every()] == ["t"]


def test_a_model_is_not_used_against_a_persons_wish() -> None:
    open_training(training_fixtures.examples(40), promote=False)
    assert "not in use: as was wished, but it is better: on " in train(claim())
    assert models.in_use("scorer") is None


def test_without_votes_nobody_knows_whether_it_is_better() -> None:
    open_training(training_fixtures.examples(24, kind="texts"))
    assert "not in use: no held-out votes say" in train(claim())


def test_a_model_that_is_no_better_than_the_one_in_use_does_not_replace_it() -> None:
    open_training(training_fixtures.examples(40))
    train(claim())
    used = models.in_use("scorer")
    assert used is not None
    # The same entries are held out from both, and both answer them all right.
    open_training(training_fixtures.examples(40), "u", epochs=5)
    said = train(claim("u"))
    assert "not in use: not shown to be better at level 0.05: on 8 questions in 8 entries" in said
    assert f"+0.0 points (± 0.0, one-sided p 1) over {used.name}, until now in use" in said
    assert [model.run for model in models.every()] == ["t", "u"]
    assert models.in_use("scorer") == used


def comparison(p: float = 0.01, **more: Any) -> Comparison:
    gain = Difference(gain=0.06, half_width=0.05, p=p)
    return Comparison(questions=250, entries=200, over_majority=gain, **more)


FIGURES = (
    "on 250 questions in 200 entries that it was not trained on, +6.0 points (± 5.0, one-sided p 0.01) over "
    "the plain majority"
)
ANYWAY = "`votequeue models use new` uses it all the same"


@pytest.mark.parametrize(
    ("used", "figures", "promoted", "words"),
    [
        (None, comparison(), True, f"in use from now on: {FIGURES}"),
        (
            "old",
            comparison(in_use="old", over_in_use=comparison(0.02).over_majority),
            True,
            f"in use from now on: {FIGURES}, {comparison(0.02).over_majority} over old, until now in use",
        ),
        (
            "old",
            comparison(in_use="old", obstacle="was trained on all of these questions"),
            False,
            f"not in use: old, which is in use, was trained on all of these questions: {FIGURES}; {ANYWAY}",
        ),
        ("old", comparison(), False, f"not in use: old came into use meanwhile: {FIGURES}; {ANYWAY}"),
        # The one in use was switched off meanwhile.
        (None, comparison(in_use="old", obstacle="x"), True, f"in use from now on: {FIGURES}"),
        ("new", comparison(in_use="new"), False, "in use already: the same training made it before"),
    ],
)
def test_a_verdict_names_its_figures_and_what_is_left_to_do(
    used: str | None, figures: Comparison, promoted: bool, words: str
) -> None:
    if used:
        model_fixtures.put(used)
    trained = TrainedModel(name="new", folder=Path(), metrics={}, rule=None, comparison=figures, problems=[])
    verdict = queue._verdict(training_options.scorer(QUICK), trained)
    assert (verdict.promoted, verdict.words) == (promoted, words)


def test_the_level_of_a_promotion_is_an_option() -> None:
    trained = TrainedModel(
        name="new", folder=Path(), metrics={}, rule=None, comparison=comparison(0.08), problems=[]
    )
    for level, promoted in ((0.05, False), (0.1, True)):
        options = training_options.scorer({**QUICK, "promotion_level": level})
        assert queue._verdict(options, trained).promoted is promoted


def test_an_adapter_is_named_by_its_content_and_waits_to_be_tried() -> None:
    quick = {"max_steps": 3, "max_length": 512, "learning_rate": 1e-2, "held_out": 0.2, "batch_size": 2}
    told = training_options.lora({**quick, "accumulation": 1})
    _open("l", told, training_fixtures.examples(20))
    said = train(claim("l"))
    (model,) = models.every()
    assert said == (
        f"{model.name}: not in use: try --lora {model.name}, then `votequeue models use {model.name}`"
    )
    folder = model_store.checked("lora", model.name, settings.load().trained_folder)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert model.metrics["loss"] < model.metrics["loss_before"]
    assert models.in_use("lora") is None


# What cannot be trained


def test_data_that_will_not_do_is_dead_with_the_reason(votequeue: Command) -> None:
    open_training([training_fixtures.example(2 * at, letters="AA") for at in range(20)])
    assert train(claim()).startswith("dead: the training part has")
    assert state() is State.DEAD
    assert "both are needed" in votequeue("failed", "t").out
    assert list(settings.load().trained_folder.glob("[!.]*")) == []


def test_a_training_that_diverges_is_dead_and_leaves_no_model() -> None:
    open_training(training_fixtures.examples(40), learning_rate=1e9)
    said = train(claim())
    assert said.startswith("dead: ")
    assert "lower --learning-rate" in said
    assert models.every() == []


def test_weights_that_are_not_here_are_said_so() -> None:
    open_training(training_fixtures.examples(20), base="no-such-model")
    assert "no weights called 'no-such-model'" in train(claim())
    assert state() is State.DEAD


# Killed, stopped, overtaken


def test_a_killed_training_goes_on_from_its_checkpoint_in_another_worker() -> None:
    open_training(training_fixtures.examples(40), **LONG, max_steps=150)

    assert during("t", kill) == "lost: the training process was killed (SIGKILL)"
    assert state() is State.PENDING
    saved = max(told.step for told in training_log.curve("t") if "saved" in told.metrics)
    held = claim(worker="two")
    assert held.fence == 2
    assert "in use from now on" in train(held)
    curve = [told.step for told in training_log.curve("t")]
    assert curve == sorted(curve)
    # What was told again after the checkpoint stands in the place of what was told before.
    assert len([step for step in curve if step > saved]) >= (150 - saved) // 5 - 1


def test_its_process_dies_with_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_training(training_fixtures.examples(40), **LONG)
    pid = os.fork()
    if pid == 0:
        engine.engine().dispose(close=False)
        train(claim())
        os._exit(0)
    waiting.until(lambda: any("saved" in told.metrics for told in training_log.curve("t")))
    (child,) = [
        one for one in psutil.Process(pid).children() if "training_process" in " ".join(one.cmdline())
    ]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    waiting.until(lambda: waiting.has_ended(child), within=30)


def test_a_stopped_worker_gives_the_training_back_after_a_checkpoint() -> None:
    open_training(training_fixtures.examples(40), **LONG)
    assert during("t", queue._stopping.set) == "given back: training was stopped"
    assert state() is State.PENDING
    curve = training_log.curve("t")
    assert "saved" in curve[-1].metrics
    assert broker.waiting("train") == 1
    assert claim().attempt == 1


def test_a_training_that_somebody_else_has_taken_ends_and_makes_nothing() -> None:
    open_training(training_fixtures.examples(40), **LONG)

    def overtake() -> None:
        locks.hold("reconcile", "two", 60)
        with engine.writing() as connection:
            connection.exec_driver_sql("UPDATE workers SET lease_until = 1")
        claims.expire(5)
        claim(worker="two")

    assert during("t", overtake) == settlement.TOO_LATE
    assert children() == []
    assert models.every() == []
    assert state() is State.LEASED


def test_two_claims_write_into_folders_of_their_own() -> None:
    open_training(training_fixtures.examples(40), **LONG)
    during("t", kill)
    (folder,) = work()

    def kill_when_it_works() -> None:
        waiting.until((folder / "2").exists)
        kill()

    during("t", kill_when_it_works)
    assert {path.name for path in folder.iterdir()} == {"1", "2"}


def test_a_worker_that_dies_before_it_has_registered_its_model_makes_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_training(training_fixtures.examples(40))
    complete, failures = claims.complete, [ServiceUnreachable("the ledger does not answer")]

    def failing(*arguments: Any) -> bool:
        if failures:
            raise failures.pop()
        return complete(*arguments)

    monkeypatch.setattr(claims, "complete", failing)
    monkeypatch.setattr("workers.retries.PAUSE", 0.01)
    assert "in use from now on" in train(claim())
    assert len(list(settings.load().trained_folder.glob("scorer-*"))) == 1


def test_checkpoints_of_another_ledgers_run_of_this_name_are_none_of_ours() -> None:
    open_training(training_fixtures.examples(40))
    folder = queue._folder(claim())
    run = runs.get_run("t")
    with engine.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET created_at = created_at + 1")
    assert queue._folder(Claim(Train(run="t", item=0), "scorer", 0, 0, 1, 1, 0)) != folder
    assert run.name in folder.name


def test_what_nobody_goes_on_with_is_swept_after_a_week() -> None:
    left = settings.load().trained_folder / queue.WORK / "old-1"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    open_training(training_fixtures.examples(20))
    queue._folder(claim())
    assert not left.exists()
    assert len(work()) == 1
