"""Explain training failures that the user can fix.

explained(torch.OutOfMemoryError(...), folder)  ->  "out of memory: lower --batch-size or --max-length ..."
"""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import Refused

MEMORY = "out of memory: lower --batch-size, --max-length or --layers, or train on a larger machine"
# Libraries report these failures only in the text of their errors.
_MEMORY_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_DISK_FULL = ("no space left on device", "os error 28", "pytorchstreamwriter failed", "disk quota exceeded")
_LEAST_ROOM = 100 * 2**20  # bytes


def explained(error: BaseException, folder: Path) -> str | None:
    """Explain an error and how to fix it; ``None``: the error is not one of these."""
    for cause in _chain(error):
        message = str(cause).lower()
        if isinstance(cause, MemoryError) or any(sign in message for sign in _MEMORY_MESSAGES):
            return MEMORY
        if _is_full(cause) or any(sign in message for sign in _DISK_FULL):
            return f"the disk is full: make room below {folder}, then `votequeue failed RUN --retry` goes on"
    return None


def require_room(folder: Path, needed: int = _LEAST_ROOM) -> None:
    """Check the free disk space before a file is written; ``needed`` in bytes.

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
