"""Explain training failures that a person can mend.

explained(torch.OutOfMemoryError(...), folder)  ->  "out of memory: lower --batch-size or --max-length ..."
"""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import Refused

MEMORY = "out of memory: lower --batch-size, --max-length or --layers, or train on a larger machine"
# Libraries that write files say why they could not in their own words only.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_NO_ROOM = ("no space left on device", "os error 28", "pytorchstreamwriter failed", "disk quota exceeded")
_LEAST_ROOM = 100 * 2**20  # bytes


def explained(error: BaseException, folder: Path) -> str | None:
    """Say what a person can do about an error; ``None`` where it is none of these."""
    for one in _chain(error):
        words = str(one).lower()
        if isinstance(one, MemoryError) or any(sign in words for sign in _NO_MEMORY):
            return MEMORY
        if _is_full(one) or any(sign in words for sign in _NO_ROOM):
            return f"the disk is full: make room below {folder}, then `votequeue failed RUN --retry` goes on"
    return None


def require_room(folder: Path, needed: int = _LEAST_ROOM) -> None:
    """Stop before a file is half written for want of room; ``needed`` in bytes.

    Raises:
        Refused: there is too little.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refused(
            f"the disk is full: {needed / 2**20:.0f} MiB are needed below {folder}, {free / 2**20:.0f} are "
            "free; make room, then `votequeue failed RUN --retry` goes on"
        )


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
