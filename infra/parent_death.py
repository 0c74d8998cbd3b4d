"""Run a command that is killed when its parent dies, and write its pid to a file.

    python -m infra.parent_death var/supervisor/pids/infer-1 -- python -m producers.cli worker infer

The process becomes the command (exec), so its pid is the command's. The note holds the pid and the time
the process started, in seconds since the epoch: a pid alone may long be another's. An empty note name ("-")
leaves none. On systems other than Linux the command runs on after its parent.
"""

import contextlib
import os
import sys
from pathlib import Path

from shared import parent_death


def fasten() -> None:
    """Ask the kernel to kill this process when its parent goes; go on where the kernel refuses."""
    with contextlib.suppress(OSError):
        parent_death.tie(os.getppid())


def main() -> None:
    """Write the note, ask to be killed with the parent, and become the command."""
    name, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("usage: python -m infra.parent_death NOTE -- COMMAND [ARGUMENT ...]")
    fasten()
    if name != "-":
        from infra import process_groups  # without a note, psutil is not needed

        # What the program's last life left behind (an engine) holds memory and a GPU.
        process_groups.end(process_groups.living(Path(name).parent).get(Path(name).name, []))
        process_groups.write_note(Path(name), os.getpid())
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
