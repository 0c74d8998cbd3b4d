"""What a worker says of itself to health checks on its machine: one small file per worker process.

    var/workers/812-118829  contains  "ready"

The name is the process's pid and start time: another process may get the pid later. The worker rewrites its
file every few seconds. An old file shows a process that no longer runs its threads.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from shared import file_permissions, processes

LEFT_BEHIND = 3600.0  # seconds after which the file of a dead process is removed
State = Literal["loading", "ready", "stopping"]


def write(home: Path, state: State | None) -> None:
    """Record this process's state; ``None``: it ends."""
    file = home / "workers" / f"{os.getpid()}-{processes.start(os.getpid())}"
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
            age = time.time() - file.stat().st_mtime
            pid, started = map(int, file.name.split("-"))
            if processes.start(pid) == started:
                yield file.read_text("utf-8"), age
            # Not at once: containers that share the folder do not see each other's processes.
            elif age > LEFT_BEHIND:
                file.unlink()
