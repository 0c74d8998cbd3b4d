"""Processes of this machine, as proc(5) describes them.

start(812)  ->  118829    state(812)  ->  "S"
"""

from pathlib import Path

GONE = ("Z", "X")  # states of a process that is dead and not yet reaped by its parent
_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat after the command's name (proc(5): 3 and 22)


def start(pid: int) -> int | None:
    """Give a process's start time in clock ticks since the boot; ``None``: it is gone.

    The time distinguishes the process from a later one with the same pid.
    """
    stat = _stat(pid)
    return None if stat is None or stat[_STATE] in GONE else int(stat[_STARTED])


def state(pid: int) -> str | None:
    """Give the state of a process as proc(5) has it: R, S, D, Z, T, ...; ``None``: there is none."""
    stat = _stat(pid)
    return None if stat is None else stat[_STATE]


def _stat(pid: int) -> list[str] | None:
    try:
        # The command's name may contain spaces and brackets; the fields after its last bracket do not.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
