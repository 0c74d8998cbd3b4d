"""The whole of votequeue once, with the real commands: `make demo`.

    [4/8] train the scorer - log: var/logs/train-1.log

Every step is a command that a person could type; this module types them, and stops what it started however it
ends. Answers and report stay in var/demo, the run in the ledger.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from infra import groups, local, programs
from infra.programs import SUPERVISORD, Layout
from shared import settings as environment
from shared.errors import UserError
from shared.settings import Settings

# What two cores do in the time; a variable that is set already wins.
PACE = {
    "VOTEQUEUE_MAX_TOKENS": "256",
    "VOTEQUEUE_MAX_MODEL_LEN": "4096",
    "VOTEQUEUE_SCORER_LAYERS": "3",
    "VOTEQUEUE_SCORER_EPOCHS": "1",
    "VOTEQUEUE_SCORER_MAX_LENGTH": "352",
    "VOTEQUEUE_SCORER_HELD_OUT": "0.2",
    "VOTEQUEUE_SCORER_FREEZE_EMBEDDINGS": "true",
    # LOMO is plain gradient descent, which learns nothing in so few steps.
    "VOTEQUEUE_SCORER_OPTIMIZER": "adamw_torch",
    # A scorer of so little training is seldom sure: it voids what it is rather sure about.
    "VOTEQUEUE_SCORER_THRESHOLD": "0.4",
}
TRAINING = ("-n", "100", "--seed", "7", "--difficulty", "1", "--wrong")
QUESTIONS = ("-n", "17", "--seed", "8", "--difficulty", "1")  # 25 questions

STEPS = 8
RESTARTS_BORNE = 3
LOOK_SECONDS = 5.0


@dataclass
class Demo:
    """One demonstration: where it writes, and what it has done so far."""

    settings: Settings
    run: str = field(default_factory=lambda: time.strftime("demo-%Y%m%d-%H%M%S"))
    took: list[tuple[str, float]] = field(default_factory=list)

    @property
    def where(self) -> Layout:
        """Give the places of the local mode's files."""
        return programs.layout(self.settings)

    @property
    def folder(self) -> Path:
        """Give the folder of the demo's own files, as short as a person would type it."""
        return self.settings.home / "demo"

    @contextlib.contextmanager
    def step(self, name: str, log: str | None = None) -> Iterator[None]:
        """Announce a step and take its time."""
        place = f" - log: {self.settings.home / 'logs' / log}.log" if log else ""
        local.say(f"\n[{len(self.took) + 1}/{STEPS}] {name}{place}")
        began = time.monotonic()
        yield
        self.took.append((name, time.monotonic() - began))


def play(demo: Demo) -> None:
    """Go through the steps; the services are gone at the end, whatever happens."""
    training, questions = demo.folder / "train.jsonl", demo.folder / "questions.jsonl"
    answers, report = demo.folder / "answers.jsonl", demo.folder / "report"
    scorer = f"{demo.run}-scorer"
    with demo.step("get the weights"):
        votequeue("weights")
    with services(demo):
        with demo.step("start broker, workers and Flower", "supervisord"):
            votequeue("up", "--detach", "--infer", "1", "--train", "1", "--reason", "0", "--translate", "0")
        with demo.step("make puzzles: some with reasoning to learn from, others to answer"):
            votequeue("sample", *TRAINING, "-o", training)
            votequeue("sample", *QUESTIONS, "-o", questions)
        with demo.step("train the scorer", "train-1"):
            votequeue("enqueue", "train", "scorer", "--data", training, "--run", scorer)
            votequeue("status", scorer, "--watch", watched=demo)
        with demo.step("put the questions into the queue", "infer-1"):
            votequeue("enqueue", "infer", questions, "--examples", training, "--run", demo.run)
        with demo.step("collect the answers", "infer-1"):
            votequeue("collect", demo.run, "-o", answers, "--wait", watched=demo)
        with demo.step("report"):
            votequeue("report", demo.run, "-o", report)
        began = time.monotonic()
        local.say(f"\n[{STEPS}/{STEPS}] stop broker, workers and Flower")
    demo.took.append(("stop", time.monotonic() - began))
    tell(demo, answers, report)


def tell(demo: Demo, answers: Path, report: Path) -> None:
    """Say where the time went and where things are."""
    local.say("")
    for name, seconds in demo.took:
        local.say(f"  {seconds:6.0f} s  {name}")
    local.say(f"  {sum(seconds for _, seconds in demo.took):6.0f} s  in all\n")
    local.say(f"answers: {answers}\nreport:  {report}")
    local.say(f"more:    votequeue status {demo.run}; votequeue explain {demo.run} QUESTION; votequeue up")


# The services


@contextlib.contextmanager
def services(demo: Demo) -> Iterator[None]:
    """Own this home's services for a while, and leave none of their processes."""
    refuse_if_not_ours(demo)
    demo.folder.mkdir(parents=True, exist_ok=True)
    groups.write_note(owner(demo), os.getpid())
    try:
        yield
    finally:
        with local.deaf():
            local.down(demo.settings)
            owner(demo).unlink(missing_ok=True)


def owner(demo: Demo) -> Path:
    """Give the note that says which demo's process the services belong to."""
    return demo.folder / "pid"


def refuse_if_not_ours(demo: Demo) -> None:
    """Stop where the services are a person's, or another demo's; those of a killed demo are stopped first."""
    if programs.embedded_broker(demo.settings) is None:
        raise UserError(
            "the demo runs on a broker of its own: unset VOTEQUEUE_BROKER_URL (it may be in .env)"
        )
    if SUPERVISORD not in groups.living(demo.where.notes):
        return
    if not owner(demo).exists() or groups.same(owner(demo)):
        raise UserError("votequeue is up already here: stop it with `votequeue down`, then try again")
    local.say("a demo was killed here: stopping what it left")
    with local.deaf():
        local.down(demo.settings)


def restarts(demo: Demo, pids: dict[str, set[int]]) -> None:
    """Look whether a program dies again and again.

    Raises:
        UserError: it does; waiting for it would take for ever.
    """
    for program in local.running(demo.settings):
        pids.setdefault(program.name, set()).update({program.pid} - {0})
        if program.state == "FATAL" or len(pids[program.name]) > RESTARTS_BORNE:
            raise UserError(f"{program.name} keeps dying: {local.complaint(demo.where, program.name)}")


# The commands


def votequeue(*words: str | Path, watched: Demo | None = None) -> None:
    """Run a command, shown as a person would type it.

    Raises:
        UserError: it failed, and has said why; or what it waits for keeps dying.
    """
    line = " ".join(["votequeue", *map(str, words)])
    local.say(f"$ {line}")
    leash = [*programs.PYTHON, "-m", "infra.leash", "-", "--"]
    command = [*leash, *programs.PYTHON, "-m", "producers.cli", *map(str, words)]
    pids: dict[str, set[int]] = {}
    with ended(subprocess.Popen(command)) as process:  # noqa: S603 - our own commands
        while True:
            try:
                code = process.wait(LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if watched:
                    restarts(watched, pids)
    if code:
        raise UserError(f"the demo ends here: `{line}` failed (exit {code})")


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Let a command end in order when the demo is interrupted; `up` needs a moment for that."""
    try:
        yield process
    finally:
        with local.deaf():
            if process.poll() is None:
                groups.end([psutil.Process(process.pid)], patience=programs.STOP_SECONDS * 2)
            process.wait()


def main() -> int:
    """Play the demo; 0: done, 1: it could not, 130: interrupted."""
    for name, value in PACE.items():
        os.environ.setdefault(name, value)
    try:
        # Its scorer has seen toys only: it is kept from judging a person's own runs afterwards.
        scorers = environment.load().home.resolve() / "demo" / "scorers"
        os.environ.setdefault("VOTEQUEUE_SCORERS", str(scorers))
        environment.load.cache_clear()
        with local.stopped_by_signals():
            demo = Demo(environment.load())
            refuse_if_not_ours(demo)
            play(demo)
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
