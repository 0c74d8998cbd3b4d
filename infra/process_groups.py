"""Find and kill our process groups by the pid files of their leaders.

    var/supervisor/pids/infer-1:  "4711 1795341142.53"   pid and start time, in seconds since the epoch

This works even after a crash of all parent processes.
"""

import contextlib
import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]


def write_note(path: Path, pid: int) -> None:
    """Write a group leader's note atomically."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(f"{pid} {psutil.Process(pid).create_time()}\n")
    part.replace(path)


def same(note: Path) -> bool:
    """Return whether the process of a note is alive."""
    with contextlib.suppress(ValueError, OSError, psutil.Error):
        pid, started = note.read_text().split()
        return belongs(psutil.Process(int(pid)), int(pid), float(started))
    return False


def living(notes: Path) -> dict[str, list[psutil.Process]]:
    """Find the living processes of each noted process group.

    Every program leads a group with its pid as id; the kernel does not reuse that id while a member lives. A
    leader with another start time is an unrelated process.
    """
    members: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if process.info["status"] != psutil.STATUS_ZOMBIE:
                members.setdefault(os.getpgid(process.pid), []).append(process)
    groups = {}
    for path in notes.glob("[!.]*"):
        with contextlib.suppress(ValueError, OSError, psutil.Error):
            pid, started = path.read_text().split()
            group = members.get(int(pid), [])
            if group and all(belongs(member, int(pid), float(started)) for member in group):
                groups[path.name] = group
    return groups


def belongs(process: psutil.Process, leader: int, started: float) -> bool:
    """Return whether a group member is ours: the noted leader, or a process started after it."""
    born: float = process.create_time()
    return abs(born - started) < 1 if process.pid == leader else born > started - 1


def end(processes: list[psutil.Process], patience: float = 5) -> None:
    """Terminate processes; kill those that remain after some seconds."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=patience)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
