"""Supervise a training process from its worker: start it, watch it, stop it.

    supervise(order, told=..., holds=..., stopping=...)  ->  TrainedModel(name="scorer-3f9c01ab12cd", ...)

The process lives only as long as this one and as long as the claim holds: it is told so every few seconds,
and ends by itself when it is not.
"""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from shared.errors import EngineDied, Policy, Refused, UserError, VotequeueError
from workers.ports import Interrupted
from workers.training import ipc
from workers.training.ipc import HOLDS, Failed, Message, StartTraining, Stopped, TrainedModel

log = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "workers.training_process")
STOP_SECONDS = 90.0  # for the checkpoint that is written when a training is told to stop
QUIET = {"TQDM_DISABLE": "1"}  # bars are for terminals
OOM_KILLS = Path("/proc/vmstat")


class Superseded(VotequeueError):
    """The claim is no longer ours: somebody else may work on the item, and what we made does not count."""

    policy = Policy.LEAVE


def supervise(
    order: StartTraining,
    *,
    beat: float,
    told: Callable[[Message], None],
    holds: Callable[[], bool],
    stopping: Callable[[], bool],
    command: tuple[str, ...] = COMMAND,
) -> TrainedModel:
    """Run a training to its end; ``told`` hears every dispatch, ``holds`` is asked every ``beat`` seconds.

    Raises:
        Refused: it failed in a way that another try would not change.
        EngineDied: its process died, or ended without a word.
        Interrupted: ``stopping`` said so; there is a checkpoint if the process had the time for one.
        Superseded: the claim was lost.
    """
    killed_before = _oom_kills()
    with _process(order, command) as process:
        heard = _listen(process)
        try:
            end = _follow(process, heard, beat, told, holds, stopping)
        finally:
            _end(process)
    match end:
        case TrainedModel():
            return end
        case Failed():
            raise Refused(end.reason)
        case Stopped():
            raise Interrupted("training was stopped")
    if stopping():
        raise Interrupted("training was stopped")
    raise _death(process.returncode, _oom_kills() > killed_before)


@contextlib.contextmanager
def _process(order: StartTraining, command: tuple[str, ...]) -> Iterator["subprocess.Popen[bytes]"]:
    # A group of its own: Ctrl-C in a terminal is the worker's to pass on.
    with subprocess.Popen(  # noqa: S603  our own command
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
        env={**os.environ, **QUIET},
    ) as process:
        try:
            _write(process.stdin, order.model_dump_json().encode() + b"\n")
            yield process
        finally:
            with contextlib.suppress(OSError):
                process.kill()


def _write(stdin: IO[bytes] | None, line: bytes) -> None:
    # A process that has just died is noticed by its output's end.
    with contextlib.suppress(OSError, ValueError):
        if stdin is not None:
            stdin.write(line)
            stdin.flush()


def _listen(process: "subprocess.Popen[bytes]") -> "queue.Queue[Message | None]":
    heard: queue.Queue[Message | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            try:
                heard.put(ipc.READ.validate_json(line))
            except ValidationError:
                log.warning("the training's process said what nobody understands: %r", line[:200])
        heard.put(None)

    threading.Thread(target=read, name="training-output", daemon=True).start()
    return heard


def _follow(
    process: "subprocess.Popen[bytes]",
    heard: "queue.Queue[Message | None]",
    beat: float,
    told: Callable[[Message], None],
    holds: Callable[[], bool],
    stopping: Callable[[], bool],
) -> TrainedModel | Failed | Stopped | None:
    asked_to_stop: float | None = None
    next_beat = 0.0
    while True:
        if time.monotonic() >= next_beat:
            _tell_that_it_holds(process, holds)
            next_beat = time.monotonic() + beat
        if stopping() and asked_to_stop is None:
            asked_to_stop = time.monotonic()
            process.send_signal(signal.SIGTERM)
        if asked_to_stop is not None and time.monotonic() - asked_to_stop > STOP_SECONDS:
            return None
        with contextlib.suppress(queue.Empty):
            dispatch = heard.get(timeout=min(beat, 0.5))
            if dispatch is None or isinstance(dispatch, TrainedModel | Failed | Stopped):
                return dispatch
            told(dispatch)


def _tell_that_it_holds(process: "subprocess.Popen[bytes]", holds: Callable[[], bool]) -> None:
    try:
        if not holds():
            raise Superseded("the claim was lost: another worker has the training")
    except UserError as error:
        # Untold, the process ends when its patience does: by then, somebody else may have the claim.
        log.warning("whether the claim still holds cannot be told: %s", error)
        return
    _write(process.stdin, HOLDS)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        # With its last word said it has a moment to end by itself, as libraries' threads like it.
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _death(code: int | None, out_of_memory: bool) -> VotequeueError:
    if code == -signal.SIGKILL and out_of_memory:
        return Refused(
            "the machine's memory ran out, and the kernel killed the training: lower --batch-size, "
            "--max-length or --layers, or train on a larger machine"
        )
    if code is not None and code < 0:
        return EngineDied(f"the training's process was killed ({signal.Signals(-code).name})")
    return EngineDied(f"the training's process ended without a word (exit {code}), see the worker's log")


def _oom_kills() -> int:
    """Count the kernel's kills for want of memory since it started; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in OOM_KILLS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
