"""Callbacks of a Trainer: metrics, checkpoints, stopping.

    Trainer(..., callbacks=[MetricsLogger(context)])

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
EVALUATIONS = 8  # evaluations on the held-out part per training
KEPT_CHECKPOINTS = 2  # not one: the older checkpoint is deleted before the newer one is sealed
Evaluate = Callable[[], dict[str, float]]


class MetricsLogger(TrainerCallback):
    """Reports metrics, requests checkpoints at intervals and at a stop, and ends a diverging training.

    ``evaluate`` computes the held-out metrics where the Trainer itself does not evaluate; ``offset`` steps
    precede the Trainer's first.
    """

    def __init__(
        self, context: TrainingContext, trainer: Any, evaluate: Evaluate | None = None, offset: int = 0
    ) -> None:
        self._context = context
        self._trainer = trainer
        self._evaluate = evaluate
        self._offset = offset
        self._saved_at = time.monotonic()

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate on the held-out part, and save when a checkpoint is due or the training must stop."""
        last = state.global_step >= state.max_steps
        every = max(1, state.max_steps // EVALUATIONS)
        if self._evaluate is not None and (last or state.global_step % every == 0):
            self._trainer.log(self._evaluate())
        if self._context.listener.stopping():
            control.should_training_stop = True
        due = time.monotonic() - self._saved_at >= self._context.checkpoint_every
        if due or control.should_training_stop or last:
            training_errors.require_room(self._context.folder)
            # The log comes first: it raises on a diverged loss, before such a checkpoint is saved.
            control.should_log = control.should_save = True

    def on_log(self, _arguments: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """Report the metrics of a step.

        Raises:
            Refused: the loss is not finite.
        """
        metrics = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
        diverged = [name for name in ("loss", "eval_loss") if not math.isfinite(metrics.get(name, 0.0))]
        if diverged:
            raise Refused(
                f"the {diverged[0].replace('eval_', 'held-out ')} is {metrics[diverged[0]]} at step "
                f"{state.global_step} of {state.max_steps}: lower --learning-rate"
            )
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        step, total_steps = self._offset + state.global_step, self._offset + state.max_steps
        self._context.listener.step(step, total_steps, finite)

    def on_save(self, arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        """Seal a checkpoint that was just written."""
        checkpoints.seal(Path(arguments.output_dir) / f"{checkpoints.PREFIX}{state.global_step}")
        self._saved_at = time.monotonic()
        self._context.listener.saved(self._offset + state.global_step, self._offset + state.max_steps)
