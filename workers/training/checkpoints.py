"""Checkpoints, sealed once they are complete.

    var/trained/.work/judge-9f3c2a1b/3/checkpoint-120/sealed.json:  {"model.safetensors": 988097824, ...}

A training writes into the folder of its own fence number, and resumes from the newest sealed checkpoint of
all folders. So two workers that both consider the job theirs never write to the same folder. The seal is
written last and lists every file with its size in bytes.
"""

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)
SEAL = "sealed.json"
PREFIX = "checkpoint-"
# The Trainer pickles its arguments beside its state. Nothing here reads that file, so it is deleted.
PICKLED = "training_args.bin"


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, after syncing its files to disk."""
    (checkpoint / PICKLED).unlink(missing_ok=True)
    for path in _files(checkpoint):
        _sync(path)
    part = checkpoint / f".{SEAL}"
    part.write_text(json.dumps(_sizes(checkpoint)), encoding="utf-8")
    _sync(part)
    part.replace(checkpoint / SEAL)
    _sync(checkpoint)


def newest(folder: Path) -> Path | None:
    """Give the complete checkpoint with the most steps, of all claims; ``None``: there is none."""
    for checkpoint in sorted(folder.glob(f"*/{PREFIX}*"), key=step, reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        log.info("checkpoint %s is incomplete: an older one is used", checkpoint)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint has its seal and every file that the seal lists, in the listed size."""
    try:
        sizes = json.loads((checkpoint / SEAL).read_text("utf-8"))
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def step(checkpoint: Path) -> int:
    """Parse the number of steps from a checkpoint's name; -1: it is not a checkpoint."""
    number = checkpoint.name.removeprefix(PREFIX)
    return int(number) if number.isdigit() else -1


def _files(checkpoint: Path) -> list[Path]:
    return [path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL]


def _sizes(checkpoint: Path) -> dict[str, int]:
    return {str(path.relative_to(checkpoint)): path.stat().st_size for path in _files(checkpoint)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
