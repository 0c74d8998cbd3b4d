"""Supervise a training process from its worker: start it, watch it, stop it.

    supervise(order, report=..., holds=..., stopping=...)  ->  TrainedModel(name="scorer-3f9c01ab12cd", ...)

The process lives only as long as its worker and the claim: the worker confirms the claim every few seconds,
and the process exits when the confirmations stop.
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
STOP_SECONDS = 90.0  # for the checkpoint that a stopping training writes
QUIET = {"TQDM_DISABLE": "1"}  # no progress bars in the log
OOM_KILLS = Path("/proc/vmstat")


class Superseded(VotequeueError):
    """The claim was lost: another worker may hold the item, and this training's result is discarded."""

    policy = Policy.LEAVE


def supervise(
    order: StartTraining,
    *,
    beat: float,
    report: Callable[[Message], None],
    holds: Callable[[], bool],
    stopping: Callable[[], bool],
    command: tuple[str, ...] = COMMAND,
) -> TrainedModel:
    """Run a training to its end; ``report`` gets its messages; ``holds`` is called every ``beat`` seconds.

    Raises:
        Refused: it failed, and a retry would fail in the same way.
        EngineDied: its process died, or ended without a final message.
        Interrupted: ``stopping`` became true; there is a checkpoint if the process had the time for one.
        Superseded: the claim was lost.
    """
    killed_before = _oom_kills()
    with _process(order, command) as process:
        messages = _listen(process)
        try:
            end = _follow(process, messages, beat, report, holds, stopping)
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
    # Its own process group: only the worker receives Ctrl-C from a terminal.
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
    # A dead process is detected by the end of its output, not here.
    with contextlib.suppress(OSError, ValueError):
        if stdin is not None:
            stdin.write(line)
            stdin.flush()


def _listen(process: "subprocess.Popen[bytes]") -> "queue.Queue[Message | None]":
    messages: queue.Queue[Message | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            try:
                messages.put(ipc.READ.validate_json(line))
            except ValidationError:
                log.warning("the training process sent an invalid message: %r", line[:200])
        messages.put(None)

    threading.Thread(target=read, name="training-output", daemon=True).start()
    return messages


def _follow(
    process: "subprocess.Popen[bytes]",
    messages: "queue.Queue[Message | None]",
    beat: float,
    report: Callable[[Message], None],
    holds: Callable[[], bool],
    stopping: Callable[[], bool],
) -> TrainedModel | Failed | Stopped | None:
    asked_to_stop: float | None = None
    next_beat = 0.0
    while True:
        if time.monotonic() >= next_beat:
            _confirm_claim(process, holds)
            next_beat = time.monotonic() + beat
        if stopping() and asked_to_stop is None:
            asked_to_stop = time.monotonic()
            process.send_signal(signal.SIGTERM)
        if asked_to_stop is not None and time.monotonic() - asked_to_stop > STOP_SECONDS:
            return None
        with contextlib.suppress(queue.Empty):
            message = messages.get(timeout=min(beat, 0.5))
            if message is None or isinstance(message, TrainedModel | Failed | Stopped):
                return message
            report(message)


def _confirm_claim(process: "subprocess.Popen[bytes]", holds: Callable[[], bool]) -> None:
    try:
        if not holds():
            raise Superseded("the claim was lost: another worker has the training")
    except UserError as error:
        # Without confirmation, the process exits after its patience: another worker may then hold the claim.
        log.warning("cannot check whether the claim still holds: %s", error)
        return
    _write(process.stdin, HOLDS)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        # After its final message the process gets time to exit cleanly, with the threads of its libraries.
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _death(code: int | None, out_of_memory: bool) -> VotequeueError:
    if code == -signal.SIGKILL and out_of_memory:
        return Refused(
            "the machine ran out of memory and the kernel killed the training: lower --batch-size, "
            "--max-length or --layers, or train on a larger machine"
        )
    if code is not None and code < 0:
        return EngineDied(f"the training process was killed ({signal.Signals(-code).name})")
    return EngineDied(f"the training process ended without a final message (exit {code}), see its log")


def _oom_kills() -> int:
    """Count the kernel's out-of-memory kills since boot; 0 where it does not report them."""
    with contextlib.suppress(OSError, ValueError):
        for line in OOM_KILLS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
