"""Callbacks of a Trainer: metrics, checkpoints, stopping.

    Trainer(..., callbacks=[MetricsLogger(workshop)])

Works with every Trainer of transformers and TRL.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from shared.errors import Refused
from workers.ports import TrainingContext
from workers.training import checkpoints, training_errors

LOGGED_EVERY = 5  # steps
EVALUATIONS = 8  # looks at the held-out part on the way
KEPT_CHECKPOINTS = 2  # one is not enough: the older goes before the newer is sealed
Measured = Callable[[], dict[str, float]]


class MetricsLogger(TrainerCallback):
    """Tells figures, asks for checkpoints by the clock and at a stop, and ends a training that diverges.

    ``measured`` gives the figures of the held-out part, where the Trainer itself does not evaluate;
    ``offset`` steps were made before the Trainer's first.
    """

    def __init__(
        self, workshop: TrainingContext, trainer: Any, measured: Measured | None = None, offset: int = 0
    ) -> None:
        self._workshop = workshop
        self._trainer = trainer
        self._measured = measured
        self._offset = offset
        self._saved_at = time.monotonic()

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the held-out part, save if it is time to, or if the training is to stop here."""
        last = state.global_step >= state.max_steps
        every = max(1, state.max_steps // EVALUATIONS)
        if self._measured is not None and (last or state.global_step % every == 0):
            self._trainer.log(self._measured())
        if self._workshop.post.stopping():
            control.should_training_stop = True
        due = time.monotonic() - self._saved_at >= self._workshop.checkpoint_every
        if due or control.should_training_stop or last:
            training_errors.require_room(self._workshop.folder)
            # The loss is looked at first: what has diverged is not worth keeping.
            control.should_log = control.should_save = True

    def on_log(self, _arguments: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """Tell the figures of a step.

        Raises:
            Refused: the loss is no number any more.
        """
        told = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        lost = [name for name in ("loss", "eval_loss") if not math.isfinite(told.get(name, 0.0))]
        if lost:
            raise Refused(
                f"the {lost[0].replace('eval_', 'held-out ')} is {told[lost[0]]} at step "
                f"{state.global_step} of {state.max_steps}: lower --learning-rate"
            )
        finite = {name: value for name, value in told.items() if math.isfinite(value)}
        step, of = self._offset + state.global_step, self._offset + state.max_steps
        self._workshop.post.step(step, of, finite)

    def on_save(self, arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        """Seal a checkpoint that was just written."""
        checkpoints.seal(Path(arguments.output_dir) / f"{checkpoints.PREFIX}{state.global_step}")
        self._saved_at = time.monotonic()
        self._workshop.post.saved(self._offset + state.global_step, self._offset + state.max_steps)
