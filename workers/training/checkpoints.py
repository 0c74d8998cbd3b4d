"""Checkpoints that count only when they are complete.

    var/trained/.work/judge-9f3c2a1b/3/checkpoint-120/sealed.json:  {"model.safetensors": 988097824, ...}

A training writes into the folder of its own fence number, and goes on from the newest sealed checkpoint of
all of them: of two workers that believe to hold the same job, neither writes where the other does. The seal
is written last and lists every file with its size in bytes.
"""

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)
SEAL = "sealed.json"
PREFIX = "checkpoint-"
# The Trainer pickles its arguments beside its state; nothing of ours reads that file, so nobody can.
PICKLED = "training_args.bin"


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, once everything in it has reached the disk."""
    (checkpoint / PICKLED).unlink(missing_ok=True)
    for path in _files(checkpoint):
        _sync(path)
    part = checkpoint / f".{SEAL}"
    part.write_text(json.dumps(_sizes(checkpoint)), encoding="utf-8")
    _sync(part)
    part.replace(checkpoint / SEAL)
    _sync(checkpoint)


def newest(folder: Path) -> Path | None:
    """Give the whole checkpoint with the most steps, whichever claim wrote it; ``None`` without any."""
    for checkpoint in sorted(folder.glob(f"*/{PREFIX}*"), key=step, reverse=True):
        if is_whole(checkpoint):
            return checkpoint
        log.info("checkpoint %s was never finished: an older one is used", checkpoint)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint has its seal and all the files that the seal lists, as long as it says."""
    try:
        sizes = json.loads((checkpoint / SEAL).read_text("utf-8"))
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def step(checkpoint: Path) -> int:
    """Read the number of steps off a checkpoint's name; -1 if it is none."""
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
