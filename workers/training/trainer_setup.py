"""Common setup of transformers' and TRL's trainers: checkpoints, metrics, failures, devices.

    run(trainer, context)  ->  resumes from the newest checkpoint, if there is one

Every training of votequeue uses this module.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from shared.errors import Refused
from shared.recipes import Training
from workers.ports import Interrupted, TrainingContext
from workers.training import checkpoints, training_errors
from workers.training.callbacks import KEPT_CHECKPOINTS, LOGGED_EVERY, Evaluate, MetricsLogger

log = logging.getLogger(__name__)
BYTES_A_WEIGHT = 4
COPIES = KEPT_CHECKPOINTS + 2  # a checkpoint being written, and the model in the end


def arguments(options: Training, context: TrainingContext) -> dict[str, Any]:
    """Give the TrainingArguments that all trainings have in common."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(context.folder / str(context.fence)),
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
        # A loss that is not finite ends the training (see `callbacks`), so it must not be filtered.
        "logging_nan_inf_filter": False,
        # `MetricsLogger` saves at time intervals.
        "save_strategy": "no",
        "save_total_limit": KEPT_CHECKPOINTS,
        "report_to": list(options.report_to),
        "run_name": context.folder.name,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": not on_gpu,
        "bf16": True,
    }


def require_room(model: Any, context: TrainingContext) -> None:
    """Check that the disk has room for a model's checkpoints, before the training starts.

    Raises:
        Refused: the disk has too little room.
    """
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    # For an adapted model, only the adapter is saved.
    adapted = hasattr(model, "peft_config")
    saved = trainable if adapted else sum(weight.numel() for weight in model.parameters())
    # The optimizer keeps two numbers for each trained weight.
    training_errors.require_room(context.folder, COPIES * BYTES_A_WEIGHT * (saved + 2 * trainable))


def steps(options: Training, rows: int) -> int:
    """Give the number of steps of a training on ``rows`` rows."""
    per_epoch = math.ceil(math.ceil(rows / options.batch_size) / options.accumulation)
    return options.max_steps or math.ceil(options.epochs * per_epoch)


def run(trainer: Any, context: TrainingContext, evaluate: Evaluate | None = None, offset: int = 0) -> Any:
    """Train to the end, from the newest complete checkpoint; give the Trainer's result.

    ``evaluate`` computes held-out metrics; ``offset`` steps precede the Trainer's first.

    Raises:
        Interrupted: the listener asked to stop, and there is a checkpoint.
        Refused: the loss is not finite, or the disk has no room for checkpoints.
    """
    from transformers.trainer_callback import PrinterCallback

    require_room(trainer.model, context)
    # The listener receives the metrics that the callback would print.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(MetricsLogger(context, trainer, evaluate, offset))
    checkpoint = checkpoints.newest(context.folder)
    if checkpoint is not None:
        log.info("resuming from %s", checkpoint)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if context.listener.stopping():
        raise Interrupted("training was stopped")
    return result


def account(result: Any, rows: Sequence[object]) -> dict[str, Any]:
    """Give the metrics that every training has, from the Trainer's result."""
    return {
        "training_loss": float(result.training_loss),
        "seconds": float(result.metrics["train_runtime"]),
        "trained_on": len(rows),
    }


def require_reports(names: Sequence[str]) -> None:
    """Check that the reporting integrations of a training are installed.

    Raises:
        Refused: an integration is missing.
    """
    from transformers.integrations import get_available_reporting_integrations

    available = get_available_reporting_integrations()
    for name in names:
        if name not in available:
            raise Refused(
                f"--report-to {name}: no such integration, or not installed here (available: "
                f"{', '.join(available) or 'none'}); pip install it where the train workers run"
            )
