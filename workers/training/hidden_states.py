"""Cache of the hidden states of all texts under a frozen model.

    read({asked: ["A", "B"]}, reader, place, workshop, of=700)  ->  {asked: tensor(2, 1792)}

On two cores this takes longer than everything else together: what was read is written down every few minutes,
a training that goes on elsewhere reads on from there, and the next one reads only what is new to it.
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
TOLD_EVERY = 10  # questions


def place(weights: str, options: ScorerTraining, workshop: TrainingContext) -> Path:
    """Give the folder of all states that come of these weights, read in this way; trainings share it."""
    files = sorted((path.name, path.stat().st_size) for path in Path(weights).glob("*") if path.is_file())
    told = [options.base, files, options.layers, options.input, options.max_length]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    folder = workshop.folder.parent / f"states-{digest[:12]}"
    folder.mkdir(exist_ok=True)
    return folder


def read(
    questions: Mapping[PromptQuestion, Sequence[str]],
    reader: FeatureExtractor,
    folder: Path,
    workshop: TrainingContext,
    of: int,
) -> dict[PromptQuestion, Any]:
    """Read each question with its texts; every one is a step of the training, which has ``of`` in all.

    Raises:
        Interrupted: the workshop said so; what was read is kept.
        Refused: the disk is full.
    """
    # A sign of life for those that sweep.
    os.utime(folder)
    known = _kept(folder)
    found: dict[PromptQuestion, Any] = {}
    fresh: dict[str, Any] = {}
    wrote_at = time.monotonic()
    for at, (asked, texts) in enumerate(questions.items()):
        key = _key(asked, texts)
        if key in known:
            found[asked] = known[key]
            continue
        found[asked] = fresh[key] = reader.states(asked, texts)
        if (at + 1) % TOLD_EVERY == 0:
            workshop.post.step(at + 1, of, {})
        stopping = workshop.post.stopping()
        if stopping or time.monotonic() - wrote_at >= workshop.checkpoint_every:
            _keep(fresh, folder)
            fresh, wrote_at = {}, time.monotonic()
            workshop.post.saved(at + 1, of)
        if stopping:
            raise Interrupted("training was stopped while it read")
    if fresh:
        _keep(fresh, folder)
        workshop.post.saved(len(questions), of)
    return found


def _key(asked: PromptQuestion, texts: Sequence[str]) -> str:
    told = json.dumps([asked.problem, asked.question, asked.options, texts])
    return hashlib.sha256(told.encode()).hexdigest()


def _keep(fresh: Mapping[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    training_errors.require_room(folder)
    name = next(iter(fresh))
    part = folder / f".{name}-{time.time_ns():x}"
    save_file({key: state.contiguous() for key, state in fresh.items()}, part)
    # Two that read the same text find the same states: whoever is last may have the name.
    part.replace(folder / f"{name}.safetensors")


def _kept(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in folder.glob("[!.]*.safetensors"):
        try:
            found |= load_file(path)
        except (OSError, SafetensorError) as error:
            log.warning("what was read before (%s) cannot be used: %s", path, error)
    if found:
        log.info("%d questions were read before", len(found))
    return found
