"""Cache of the hidden states of all texts under a frozen model.

    read({asked: ["A", "B"]}, reader, folder, context, total_steps=700)  ->  {asked: tensor(2, 1792)}

On two cores this takes longer than the rest of a training. States are saved every few minutes: a resumed
training continues from there, and later trainings compute only missing states.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.prompts import PromptQuestion
from shared.recipes import ScorerTraining
from workers.models.features import FeatureExtractor
from workers.ports import Interrupted, TrainingContext
from workers.training import training_errors

log = logging.getLogger(__name__)
REPORT_EVERY = 10  # questions


def place(weights: str, options: ScorerTraining, context: TrainingContext) -> Path:
    """Give the folder of the states for these weights and reading options; trainings share it."""
    files = sorted((path.name, path.stat().st_size) for path in Path(weights).glob("*") if path.is_file())
    identity = [options.base, files, options.layers, options.input, options.max_length]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = context.folder.parent / f"states-{digest[:12]}"
    folder.mkdir(exist_ok=True)
    return folder


def read(
    questions: Mapping[PromptQuestion, Sequence[str]],
    reader: FeatureExtractor,
    folder: Path,
    context: TrainingContext,
    total_steps: int,
) -> dict[PromptQuestion, Any]:
    """Compute the states of each question's texts; a question is one of the training's steps.

    Raises:
        Interrupted: the listener asked to stop; the states so far are saved.
        Refused: the disk is full.
    """
    # Marks the folder as in use for the clean-up of old ones.
    os.utime(folder)
    cached = _load_saved(folder)
    states: dict[PromptQuestion, Any] = {}
    fresh: dict[str, Any] = {}
    saved_at = time.monotonic()
    for at, (asked, texts) in enumerate(questions.items()):
        key = _key(asked, texts)
        if key in cached:
            states[asked] = cached[key]
            continue
        states[asked] = fresh[key] = reader.states(asked, texts)
        if (at + 1) % REPORT_EVERY == 0:
            context.listener.step(at + 1, total_steps, {})
        stopping = context.listener.stopping()
        if stopping or time.monotonic() - saved_at >= context.checkpoint_every:
            _save(fresh, folder)
            fresh, saved_at = {}, time.monotonic()
            context.listener.saved(at + 1, total_steps)
        if stopping:
            raise Interrupted("training was stopped while it computed hidden states")
    if fresh:
        _save(fresh, folder)
        context.listener.saved(len(questions), total_steps)
    return states


def _key(asked: PromptQuestion, texts: Sequence[str]) -> str:
    content = json.dumps([asked.problem, asked.question, asked.options, texts])
    return hashlib.sha256(content.encode()).hexdigest()


def _save(fresh: Mapping[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    training_errors.require_room(folder)
    name = next(iter(fresh))
    part = folder / f".{name}-{time.time_ns():x}"
    save_file({key: state.contiguous() for key, state in fresh.items()}, part)
    # Two trainings that read the same text compute the same states, so the last one may overwrite.
    part.replace(folder / f"{name}.safetensors")


def _load_saved(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    states: dict[str, Any] = {}
    for path in folder.glob("[!.]*.safetensors"):
        try:
            states |= load_file(path)
        except (OSError, SafetensorError) as error:
            log.warning("cached hidden states (%s) are unreadable: %s", path, error)
    if states:
        log.info("hidden states of %d questions are cached", len(states))
    return states
