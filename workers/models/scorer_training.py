"""Trains a scorer version from sound and unsound reasonings.

    train(texts, options, weights, Path("var/scorers"))  ->  ("20261122-101500-9f3c2a", {"auc": 0.71, ...})

transformers' Trainer does the work: TRL's SFTTrainer can no longer train a classifier. Where the texts come
from is not known here.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import Refused
from shared.jobs import ScorerTraining
from workers.models.scorer import METRICS, TRAINING
from workers.ports import Interrupted

log = logging.getLogger(__name__)
DIVERGED = 100.0  # nats a text; a coin has 0.69
LEFT_BEHIND = 7 * 86400.0  # seconds


@dataclass(frozen=True)
class Example:
    """One text to learn from; ``group`` is its entry, which is held out as a whole or not at all."""

    text: str
    sound: bool
    group: str


def held_out(example: Example, share: float, seed: int) -> bool:
    """Tell, from the entry's name alone, whether an example is kept out of training."""
    ticket = hashlib.sha256(f"{seed}:{example.group}".encode()).digest()
    return int.from_bytes(ticket[:8], "big") / 2**64 < share


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Part examples into training and held-out ones, by entry.

    Raises:
        Refused: one side lacks sound or unsound texts: there is too little data.
    """
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[held_out(example, share, seed)].append(example)
    for name, part in zip(("training", "held-out"), parts, strict=True):
        sound = sum(example.sound for example in part)
        if not 0 < sound < len(part):
            raise Refused(
                f"the {name} part has {sound} sound and {len(part) - sound} unsound texts, both are "
                "needed: give more data, or another share to hold out"
            )
    return parts


def train(
    examples: Sequence[Example],
    options: ScorerTraining,
    weights: str,
    folder: Path,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[str, dict[str, float]]:
    """Train one version into ``folder``; give its name and the metrics of the held-out part.

    Raises:
        Refused: the data or the options do not allow it.
        Interrupted: ``stopping`` said so.
    """
    learned, kept = split(examples, options.held_out, options.seed)
    tokenizer, model = _load(options, weights)
    with _workshop(folder) as workshop:
        trainer = _trainer(model, tokenizer, options, workshop, stopping)
        trainer.train_dataset, trainer.eval_dataset = (
            _Rows(learned, tokenizer, options),
            _Rows(kept, tokenizer, options),
        )
        result = trainer.train()
        if stopping():
            raise Interrupted("training was stopped")
        metrics = _metrics(trainer, result) | {"trained_on": len(learned), "held_out": len(kept)}
        return _publish(model, tokenizer, options, metrics, workshop, folder), metrics


def _load(options: ScorerTraining, weights: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    # Cutting layers and adding a head is what we are here for: no report of what the weights lack.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    set_seed(options.seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights)
        config = AutoConfig.from_pretrained(weights, num_labels=2)
        if options.layers is not None:
            _cut(config, options.layers)
        tokenizer.pad_token = tokenizer.eos_token
        # The conclusion is at the end: what does not fit is cut from the beginning.
        tokenizer.truncation_side = "left"
        config.pad_token_id = tokenizer.pad_token_id
        model = AutoModelForSequenceClassification.from_pretrained(
            weights, config=config, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise Refused(f"the scorer's base {weights} cannot be loaded: {error}") from error
    # From zero the head begins at a guess (ln 2); from random weights, on the large states of a cut backbone,
    # it begins at a loss of 16 and spends its training on coming down.
    torch.nn.init.zeros_(model.score.weight)
    if options.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    return tokenizer, model


def _cut(config: Any, layers: int) -> None:
    config.num_hidden_layers = min(layers, config.num_hidden_layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]


class _Rows:
    """Examples as the Trainer reads them: token ids and a label."""

    def __init__(self, examples: Sequence[Example], tokenizer: Any, options: ScorerTraining) -> None:
        self._rows = [
            {
                "input_ids": tokenizer(e.text, truncation=True, max_length=options.max_length)["input_ids"]
                or [tokenizer.pad_token_id],
                "labels": int(e.sound),
            }
            for e in examples
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self._rows[place]


def _trainer(
    model: Any, tokenizer: Any, options: ScorerTraining, workshop: Path, stopping: Callable[[], bool]
) -> Any:
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    class StopWhenAsked(TrainerCallback):
        def on_step_end(self, _arguments: Any, _state: Any, control: Any, **_kwargs: Any) -> None:
            control.should_training_stop = control.should_training_stop or stopping()

    try:
        arguments = TrainingArguments(
            output_dir=str(workshop / "trainer"),
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=options.batch_size,
            lr_scheduler_type="cosine",
            optim=options.optimizer,
            seed=options.seed,
            logging_steps=5,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            bf16=True,
            train_sampling_strategy="group_by_length",
        )
    except ValueError as error:
        raise Refused(f"transformers refuses these settings: {error}") from error
    return Trainer(
        model=model,
        args=arguments,
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
        callbacks=[StopWhenAsked()],
    )


def _metrics(trainer: Any, result: Any) -> dict[str, float]:
    """Measure loss, accuracy and AUC on the held-out part, and the loss that training ended with."""
    import torch
    from sklearn.metrics import roc_auc_score

    predicted = trainer.predict(trainer.eval_dataset)
    logits = torch.as_tensor(predicted.predictions).float()
    if not torch.isfinite(logits).all() or predicted.metrics["test_loss"] > DIVERGED:
        raise Refused("training diverged: lower the learning rate")
    sound = torch.softmax(logits, dim=-1)[:, 1].tolist()
    # Texts come back grouped by length, not in the order in which they were handed in.
    labels = predicted.label_ids.tolist()
    right = sum((score >= 0.5) == bool(label) for score, label in zip(sound, labels, strict=True))
    return {
        "loss": float(predicted.metrics["test_loss"]),
        "accuracy": right / len(labels),
        "auc": float(roc_auc_score(labels, sound)),
        "training_loss": float(result.training_loss),
        "seconds": float(result.metrics["train_runtime"]),
    }


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    for left in folder.glob(".training-*"):
        # A killed training cannot clear up after itself; one that runs beside us is never this old.
        if time.time() - left.stat().st_mtime > LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)
    workshop = folder / f".training-{time.time_ns():x}"
    try:
        workshop.mkdir(parents=True)
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _publish(
    model: Any,
    tokenizer: Any,
    options: ScorerTraining,
    metrics: dict[str, float],
    workshop: Path,
    folder: Path,
) -> str:
    """Make the version appear under its name in one rename, complete."""
    import torch

    made = workshop / "version"
    model.to(torch.bfloat16).save_pretrained(made, safe_serialization=True)
    tokenizer.save_pretrained(made)
    (made / TRAINING).write_text(options.model_dump_json(indent=2), encoding="utf-8")
    (made / METRICS).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    content = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{content[:6]}"
    made.rename(folder / name)
    return name
