"""What a worker says of itself to health checks on its machine: one small file per worker process.

    var/workers/812  contains  "ready"

The worker rewrites its file every few seconds. An old file shows a process that no longer runs its threads.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from shared import file_permissions

State = Literal["loading", "ready", "stopping"]


def write(home: Path, state: State | None) -> None:
    """Record this process's state; ``None``: it ends."""
    file = home / "workers" / str(os.getpid())
    if state is None:
        file.unlink(missing_ok=True)
        return
    file_permissions.make_folder(file.parent)
    # Renamed, so that nobody reads an empty file.
    new = file.with_name(f"{file.name}.new")
    new.write_text(state, encoding="utf-8")
    new.replace(file)


def read(home: Path) -> Iterator[tuple[str, float]]:
    """Give the state of each running worker below a home folder, and its file's age in seconds."""
    for file in (home / "workers").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(file.name), 0)
            yield file.read_text("utf-8"), time.time() - file.stat().st_mtime
