"""Run a command that is killed when its parent dies, and write its pid to a file.

    python -m infra.parent_death var/supervisor/pids/infer-1 -- python -m producers.cli worker infer

The process replaces itself with the command (exec), so its pid is the command's. The note holds the pid and
the start time in seconds since the epoch, because pids are reused. The note name "-" writes none. On systems
other than Linux the command outlives its parent.
"""

import contextlib
import os
import sys
from pathlib import Path

from shared import parent_death


def fasten() -> None:
    """Ask the kernel to kill this process when its parent dies; ignore a refusal."""
    with contextlib.suppress(OSError):
        parent_death.tie(os.getppid())


def main() -> None:
    """Request death with the parent, write the note, and exec the command."""
    name, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("usage: python -m infra.parent_death NOTE -- COMMAND [ARGUMENT ...]")
    fasten()
    if name != "-":
        from infra import process_groups  # without a note, psutil is not needed

        # Leftover processes of an earlier start (an engine) hold memory and a GPU.
        process_groups.end(process_groups.living(Path(name).parent).get(Path(name).name, []))
        process_groups.write_note(Path(name), os.getpid())
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
