"""Restrict what is written below the home folder to its owner, whatever the umask is.

    make_folder(Path("var/logs"))        ->  var and var/logs, 0700
    with only_owner(): Path("x").touch() ->  x, 0600

Files that a person asks for (answers, reports, puzzles) follow the person's umask.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

ONLY_OWNER = 0o077  # a umask


def restrict() -> None:
    """Let this process, and those that it starts, write for their owner alone."""
    os.umask(ONLY_OWNER)


@contextlib.contextmanager
def only_owner() -> Iterator[None]:
    """Write for the owner alone, for a while; the umask is the whole process's."""
    with masked(ONLY_OWNER):
        yield


@contextlib.contextmanager
def masked(mask: int) -> Iterator[None]:
    """Write under a umask, for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def as_open_as(folder: Path) -> int:
    """Give the umask under which new files are as open as a folder is, or private where there is none."""
    return 0o777 & ~stat.S_IMODE(folder.stat().st_mode) if folder.is_dir() else ONLY_OWNER


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing; the modes of those there are stay.

    Raises:
        OSError: it cannot be made.
    """
    for folder in (*reversed(path.parents), path):
        folder.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file where there is none; the mode of one that is there stays.

    Raises:
        OSError: it cannot be made.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
