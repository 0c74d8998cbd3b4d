"""Run a scripted sequence of real commands over services that are stopped at the end.

    stage = Stage("demo", settings, steps=8)
    with stage.services(), stage.step("train the scorer", "train-1"):
        stage.votequeue("status", "judge", "--watch", watched=True)

Output goes to a folder with the scenario's name below home, runs to the ledger.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from infra import local, process_groups, programs
from infra.programs import SUPERVISORD
from shared import file_permissions
from shared import settings as environment
from shared.errors import UserError
from shared.settings import Settings

RESTARTS_BORNE = 3
LOOK_SECONDS = 5.0


class Stage:
    """A scenario: its folder, its services, and the durations of its steps."""

    def __init__(self, name: str, settings: Settings, steps: int) -> None:
        self.name = name
        self.settings = settings
        self.run = time.strftime(f"{name}-%Y%m%d-%H%M%S")
        self._steps = steps
        self._took: list[tuple[str, float]] = []

    @property
    def folder(self) -> Path:
        """Return the folder of the scenario's files, relative if home is."""
        return self.settings.home / self.name

    @contextlib.contextmanager
    def step(self, name: str, log: str | None = None) -> Iterator[None]:
        """Announce a step and measure its duration."""
        place = f" - log: {self.settings.home / 'logs' / log}.log" if log else ""
        local.say(f"\n[{len(self._took) + 1}/{self._steps}] {name}{place}")
        began = time.monotonic()
        yield
        self._took.append((name, time.monotonic() - began))

    def print_times(self) -> None:
        """Print the duration of all steps."""
        local.say("")
        for name, seconds in self._took:
            local.say(f"  {seconds:6.0f} s  {name}")
        local.say(f"  {sum(seconds for _, seconds in self._took):6.0f} s  in all\n")

    # The services

    @contextlib.contextmanager
    def services(self) -> Iterator[None]:
        """Own this home's services for a while, and stop all their processes at the end."""
        self.refuse_if_not_ours()
        self.folder.mkdir(parents=True, exist_ok=True)
        process_groups.write_note(self._owner, os.getpid())
        try:
            yield
        finally:
            with self._last_step(), local.signals_ignored():
                local.down(self.settings)
                self._owner.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _last_step(self) -> Iterator[None]:
        # Services are always stopped; only a successful scenario announces it as a step.
        if sys.exception() is None:
            with self.step("stop broker, workers and Flower"):
                yield
        else:
            yield

    @property
    def _owner(self) -> Path:
        """Return the note with the pid of the scenario that owns the services."""
        return self.folder / "pid"

    def refuse_if_not_ours(self) -> None:
        """Refuse services of a user or another scenario; stop those of a killed scenario."""
        if programs.embedded_broker(self.settings) is None:
            raise UserError(
                f"the {self.name} runs on a broker of its own: unset VOTEQUEUE_BROKER_URL (it may be in .env)"
            )
        if SUPERVISORD not in process_groups.living(programs.layout(self.settings).notes):
            return
        if not self._owner.exists() or process_groups.same(self._owner):
            raise UserError(
                "votequeue is already running here: stop it with `votequeue down`, then try again"
            )
        local.say(f"stopping the services of a killed {self.name}")
        with local.signals_ignored():
            local.down(self.settings)

    def _refuse_restarts(self, pids: dict[str, set[int]]) -> None:
        """Fail if a program keeps dying, instead of waiting forever."""
        for program in local.running(self.settings):
            pids.setdefault(program.name, set()).update({program.pid} - {0})
            if program.state == "FATAL" or len(pids[program.name]) > RESTARTS_BORNE:
                error = local.last_error(programs.layout(self.settings), program.name)
                raise UserError(f"{program.name} keeps dying: {error}")

    # The commands

    def votequeue(self, *arguments: str | Path, watched: bool = False) -> None:
        """Print and run a command.

        Raises:
            UserError: it failed, or a program that it waits for keeps dying.
        """
        local.say(f"$ {_line(arguments)}")
        pids: dict[str, set[int]] = {}
        with _ending(subprocess.Popen(_command(arguments))) as process:  # noqa: S603 - our own commands
            while True:
                try:
                    code = process.wait(LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if watched:
                        self._refuse_restarts(pids)
        if code:
            raise UserError(f"the {self.name} ends here: `{_line(arguments)}` failed (exit {code})")

    def query(self, *arguments: str | Path) -> Any:
        """Return the JSON output of a command.

        Raises:
            UserError: it failed.
        """
        completed = subprocess.run(  # noqa: S603 - our own commands
            _command((*arguments, "--json")), stdout=subprocess.PIPE, check=False
        )
        if completed.returncode:
            raise UserError(
                f"the {self.name} ends here: `{_line(arguments)}` failed (exit {completed.returncode})"
            )
        return json.loads(completed.stdout)

    def trained_model(self, run: str) -> str:
        """Return the name of the model from a training.

        Raises:
            UserError: it produced none.
        """
        result = self.query("status", run)["result"]
        if not result:
            raise UserError(f"the {self.name} ends here: nothing was trained, see `votequeue failed {run}`")
        return str(result["model"])


def _line(arguments: tuple[str | Path, ...]) -> str:
    return " ".join(["votequeue", *map(str, arguments)])


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    wrapper = [*programs.PYTHON, "-m", "infra.parent_death", "-", "--"]
    return [*wrapper, *programs.PYTHON, "-m", "producers.cli", *map(str, arguments)]


@contextlib.contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """Stop a command gracefully when the scenario is interrupted; `up` needs a moment."""
    try:
        yield process
    finally:
        with local.signals_ignored():
            if process.poll() is None:
                process_groups.end([psutil.Process(process.pid)], patience=programs.STOP_SECONDS * 2)
            process.wait()


def run_scenario(name: str, pace: dict[str, str], steps: int, play: Callable[[Stage], None]) -> int:
    """Run a scenario; return 0 on success, 1 on failure, 130 if interrupted.

    ``pace`` are default settings for two cores; existing variables take precedence.
    """
    for variable, value in pace.items():
        os.environ.setdefault(variable, value)
    file_permissions.restrict()
    try:
        with local.stopped_by_signals():
            stage = Stage(name, environment.load(), steps)
            stage.refuse_if_not_ours()
            play(stage)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; nothing is left running", file=sys.stderr)
        return 130
    return 0
