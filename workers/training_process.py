"""The training process: `python -m workers.training_process`, started by `supervisor`.

An order comes in on standard input, dispatches go out on standard output. The process works as long as its
worker lives and says that the claim holds. What is learned, and how, `workers.models` knows.
"""

import logging
import os
import signal
import sys
import threading
import time
from typing import IO

from shared import parent_death, settings
from shared.errors import Refused, UserError
from shared.ledger import runs
from shared.training_examples import TrainingExample
from workers import logging_setup, task_runner, wiring
from workers.ports import Interrupted, TrainingContext
from workers.training import training_errors
from workers.training.ipc import Failed, Message, Saved, StartTraining, Step, Stopped, TrainedModel

log = logging.getLogger(__name__)
ABANDONED = 3  # exit code: nobody said any more that the claim holds


class Post:
    """Sends dispatches to the worker, and says when to stop."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._stop = threading.Event()

    def send(self, dispatch: Message) -> None:
        """Send one dispatch."""
        self._out.write(dispatch.model_dump_json() + "\n")
        self._out.flush()

    def step(self, step: int, of: int, told: dict[str, float]) -> None:
        """Tell a step's figures."""
        self.send(Step(step=step, of=of, told=told))

    def saved(self, step: int, of: int) -> None:
        """Tell that a checkpoint is whole."""
        self.send(Saved(step=step, of=of))

    def stop(self, *_: object) -> None:
        """Ask the training to stop after its next step."""
        self._stop.set()

    def stopping(self) -> bool:
        """Tell whether it was asked to."""
        return self._stop.is_set()


def main() -> int:
    """Carry out one order; 0 whenever its end was told."""
    logging_setup.configure(settings.load().log_level)
    # What libraries print must not pass for a dispatch.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    order = StartTraining.model_validate_json(sys.stdin.buffer.readline())
    parent_death.tie(order.parent)
    post = Post(out)
    signal.signal(signal.SIGTERM, post.stop)
    # Ctrl-C reaches a whole terminal: the worker decides what it means for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(order.patience,), daemon=True).start()
    post.send(_carried_out(order, post))
    return 0


def _watch(patience: float) -> None:
    """End this process when its worker is gone, or has not said for too long that the claim holds."""
    last = [time.monotonic()]

    def read() -> None:
        for _ in iter(sys.stdin.buffer.readline, b""):
            last[0] = time.monotonic()
        os._exit(ABANDONED)

    threading.Thread(target=read, daemon=True).start()
    while time.monotonic() - last[0] < patience:
        time.sleep(patience / 20)
    log.error("nobody says any more that this training's claim holds: it ends here")
    os._exit(ABANDONED)


def _carried_out(order: StartTraining, post: Post) -> Message:
    try:
        return _learned(order, post)
    except Interrupted:
        return Stopped()
    except (Refused, UserError) as error:
        return Failed(reason=str(error))
    except Exception as error:
        if (known := training_errors.explained(error, order.folder)) is None:
            raise
        log.exception("training %s failed", order.run)
        return Failed(reason=known)


def _learned(order: StartTraining, post: Post) -> TrainedModel:
    loaded = settings.load()
    options = task_runner.training(order.run)
    lessons = [TrainingExample.model_validate_json(text) for text in runs.load_entries(order.run)]
    workshop = TrainingContext(order.folder, order.fence, loaded.checkpoint_every, post)
    return wiring.trainer(options, loaded)(lessons, wiring.weights(options.base, loaded), workshop)


if __name__ == "__main__":
    # Threads of libraries may be stuck; everything that matters was told and is on disk.
    code = main()
    sys.stderr.flush()
    os._exit(code)
