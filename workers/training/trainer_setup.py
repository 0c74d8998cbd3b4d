"""Set up transformers' and TRL's trainers alike: checkpoints, metrics, failures, devices.

    run(trainer, workshop)  ->  goes on from the newest checkpoint, if there is one

Every training of votequeue goes through here.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from shared.errors import Refused
from shared.recipes import Training
from workers.ports import Interrupted, TrainingContext
from workers.training import checkpoints, training_errors
from workers.training.callbacks import KEPT_CHECKPOINTS, LOGGED_EVERY, Measured, MetricsLogger

log = logging.getLogger(__name__)
BYTES_A_WEIGHT = 4
COPIES = KEPT_CHECKPOINTS + 2  # a checkpoint being written, and the model in the end


def arguments(options: Training, workshop: TrainingContext) -> dict[str, Any]:
    """Give what all trainings have in common, as TrainingArguments take it."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(workshop.folder / str(workshop.fence)),
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "learning_rate": options.learning_rate,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.accumulation,
        "lr_scheduler_type": "cosine",
        "optim": options.optimizer,
        "seed": options.seed,
        "logging_steps": LOGGED_EVERY,
        # A loss that is no number ends the training (see `callbacks`): it must not be papered over.
        "logging_nan_inf_filter": False,
        # When to save, the clock says.
        "save_strategy": "no",
        "save_total_limit": KEPT_CHECKPOINTS,
        "report_to": list(options.report_to),
        "run_name": workshop.folder.name,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": not on_gpu,
        "bf16": True,
    }


def require_room(model: Any, workshop: TrainingContext) -> None:
    """Make sure that the disk holds the checkpoints of a model, before hours go into it.

    Raises:
        Refused: it does not.
    """
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    # Of an adapted model only the adapter is saved.
    adapted = hasattr(model, "peft_config")
    saved = trainable if adapted else sum(weight.numel() for weight in model.parameters())
    # An optimiser keeps two numbers a trained weight.
    training_errors.require_room(workshop.folder, COPIES * BYTES_A_WEIGHT * (saved + 2 * trainable))


def steps(options: Training, rows: int) -> int:
    """Tell how many steps a training of so many rows will have."""
    a_pass = math.ceil(math.ceil(rows / options.batch_size) / options.accumulation)
    return options.max_steps or math.ceil(options.epochs * a_pass)


def run(trainer: Any, workshop: TrainingContext, measured: Measured | None = None, offset: int = 0) -> Any:
    """Train to the end, from the newest whole checkpoint on; give the Trainer's own account.

    ``measured`` gives figures of the held-out part, when asked; ``offset`` steps were made before this.

    Raises:
        Interrupted: the workshop said so, and there is a checkpoint.
        Refused: the loss is no number any more, or the disk has no room for checkpoints.
    """
    from transformers.trainer_callback import PrinterCallback

    require_room(trainer.model, workshop)
    # What it would print, the workshop hears.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(MetricsLogger(workshop, trainer, measured, offset))
    from_where = checkpoints.newest(workshop.folder)
    if from_where is not None:
        log.info("going on from %s", from_where)
    result = trainer.train(resume_from_checkpoint=str(from_where) if from_where else None)
    if workshop.post.stopping():
        raise Interrupted("training was stopped")
    return result


def account(result: Any, rows: Sequence[object]) -> dict[str, Any]:
    """Give what every training tells of itself, from the Trainer's own account."""
    return {
        "training_loss": float(result.training_loss),
        "seconds": float(result.metrics["train_runtime"]),
        "trained_on": len(rows),
    }


def require_reports(names: Sequence[str]) -> None:
    """Make sure that what a training reports to is installed.

    Raises:
        Refused: it is not.
    """
    from transformers.integrations import get_available_reporting_integrations

    known = get_available_reporting_integrations()
    for name in names:
        if name not in known:
            raise Refused(
                f"--report-to {name}: it is not installed here, or no such thing (here: "
                f"{', '.join(known) or 'none'}); pip install it where the train workers run"
            )
