"""The training process: `python -m workers.training_process`, started by `supervisor`.

It reads an order from standard input and writes messages to standard output. It runs as long as its worker
lives and confirms that the claim holds. The training itself is in `workers.training`.
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
ABANDONED = 3  # exit code: the worker is gone or has stopped confirming the claim


class WorkerChannel:
    """The training's listener: sends messages to the worker, and says when to stop."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._stop = threading.Event()

    def send(self, message: Message) -> None:
        """Send one message."""
        self._out.write(message.model_dump_json() + "\n")
        self._out.flush()

    def step(self, step: int, total_steps: int, metrics: dict[str, float]) -> None:
        """Send a step's metrics."""
        self.send(Step(step=step, total_steps=total_steps, metrics=metrics))

    def saved(self, step: int, total_steps: int) -> None:
        """Report a complete checkpoint."""
        self.send(Saved(step=step, total_steps=total_steps))

    def stop(self, *_: object) -> None:
        """Ask the training to stop after its next step."""
        self._stop.set()

    def stopping(self) -> bool:
        """Tell whether a stop was requested."""
        return self._stop.is_set()


def main() -> int:
    """Carry out one order; 0 once its end was reported."""
    logging_setup.configure(settings.load().log_level)
    # Output of libraries must not mix with the messages: it goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    order = StartTraining.model_validate_json(sys.stdin.buffer.readline())
    parent_death.tie(order.parent)
    channel = WorkerChannel(out)
    signal.signal(signal.SIGTERM, channel.stop)
    # Ctrl-C reaches every process of the terminal; only the worker may react to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(order.patience,), daemon=True).start()
    channel.send(_outcome(order, channel))
    return 0


def _watch(patience: float) -> None:
    """Exit when the worker is gone, or has not confirmed the claim for ``patience`` seconds."""
    last = [time.monotonic()]

    def read() -> None:
        for _ in iter(sys.stdin.buffer.readline, b""):
            last[0] = time.monotonic()
        os._exit(ABANDONED)

    threading.Thread(target=read, daemon=True).start()
    while time.monotonic() - last[0] < patience:
        time.sleep(patience / 20)
    log.error("the worker no longer confirms this training's claim: the training ends")
    os._exit(ABANDONED)


def _outcome(order: StartTraining, channel: WorkerChannel) -> Message:
    try:
        return _train(order, channel)
    except Interrupted:
        return Stopped()
    except (Refused, UserError) as error:
        return Failed(reason=str(error))
    except Exception as error:
        if (reason := training_errors.explained(error, order.folder)) is None:
            raise
        log.exception("training %s failed", order.run)
        return Failed(reason=reason)


def _train(order: StartTraining, channel: WorkerChannel) -> TrainedModel:
    loaded = settings.load()
    options = task_runner.training(order.run)
    examples = [TrainingExample.model_validate_json(text) for text in runs.load_entries(order.run)]
    context = TrainingContext(order.folder, order.fence, loaded.checkpoint_every, channel)
    return wiring.trainer(options, loaded)(examples, wiring.weights(options.base, loaded), context)


if __name__ == "__main__":
    # Threads of libraries may be stuck; by now, every result is reported and on disk.
    code = main()
    sys.stderr.flush()
    os._exit(code)
