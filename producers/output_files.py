"""Refuse to overwrite the ledger or a file that a run reads, unless `--force` is given.

    require_free(Path("train.jsonl"))  ->  UserError: train.jsonl is data of run 'mine': name another ...

A file is known by what it is, not by what it is called: through another folder, a symbolic or a hard link it
is the same data; and where a run's file is no longer in its place, one with the same bytes is taken for it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from shared import dataset, settings
from shared.errors import UserError
from shared.ledger import runs, sqlite_files
from shared.ledger.runs import Run

_NOT_FILES = ("run ", "votes of ", "texts of ")  # what the source of a run begins with that is none


def require_free(path: Path, force: bool = False) -> None:
    """Refuse to write over a file (or a folder with a file) that some run reads; ``force`` allows it.

    Raises:
        UserError: saying whose data it is.
    """
    if not path.exists():
        return
    if any(_holds(path, own) for own in sqlite_files.of_url(settings.load().ledger)):
        raise UserError(f"{path} is where the ledger is: name another file")
    if not force and (run := _reader(path)):
        raise UserError(f"{path} is data of run {run!r}: name another file, or say --force to lose it")


def _reader(path: Path) -> str | None:
    own = sqlite_files.of_url(settings.load().ledger)
    if own and not own[0].exists():
        return None  # no ledger, no runs, and looking must not make one
    recorded = runs.input_files()
    output = _Output(path, dataset.digest(path) if path.is_file() else None)
    return next((run.name for run in runs.list_runs() if output.is_of(run, recorded.get(run.name))), None)


def _of_source(run: Run) -> list[Path]:
    """Give what the source of a run may mean, from before its files were recorded."""
    sources = run.source.split(", ") if run.kind == "train" else [run.source]
    names = [
        source.removesuffix(" (test)").partition(" x ")[0] if run.kind == "train" else source
        for source in sources
    ]
    return [Path(source) for source in names if source and not source.startswith(_NOT_FILES)]


@dataclass(frozen=True)
class _Output:
    """A file or folder that is there already and would be written over."""

    path: Path
    digest: str | None

    def is_of(self, run: Run, recorded: list[Path] | None) -> bool:
        """Tell whether a run reads it; ``noted`` are the run's files, if they are on record."""
        places = recorded or _of_source(run)
        if any(self._is(place) for place in places):
            return True
        # Not where all are in their places: an answered data set may be the same as its source, to the byte.
        digests = {None if recorded else run.examples}
        if not all(place.is_absolute() and _is_there(place) for place in places):
            digests = {run.digest, run.examples}
        return self.digest is not None and self.digest in digests

    def _is(self, place: Path) -> bool:
        if place.is_absolute():
            return _holds(self.path, place)
        # Older versions recorded paths as they were typed, and where that was nobody knows any more.
        home = settings.load().home.absolute().parent
        if any(_holds(self.path, folder / place) for folder in (Path.cwd(), home)):
            return True
        parts = Path(os.path.normpath(place)).parts
        parts = parts[max((at + 1 for at, part in enumerate(parts) if part == ".."), default=0) :]
        return self.path.is_file() and self.path.resolve().parts[-len(parts) :] == parts


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return False


def _holds(path: Path, place: Path) -> bool:
    """Tell whether a path leads to a file, or to a folder that has it."""
    try:
        if path.is_dir():
            return place.exists() and place.resolve().is_relative_to(path.resolve())
        return path.samefile(place)
    except OSError:
        return False  # it is not there any more, or not for us to see
