"""Refuse to overwrite the ledger or a file that a run reads, unless `--force` is given.

    require_free(Path("train.jsonl"))  ->  UserError: train.jsonl is data of run 'mine': choose another ...

Files are compared by identity, so symbolic links, hard links and other paths to an input are refused too. If
a run's input file was moved, a file with the same bytes counts as that input.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from shared import dataset, settings
from shared.errors import UserError
from shared.ledger import runs, sqlite_files
from shared.ledger.runs import Run

# Prefixes of a run's source that is not a file.
_NOT_FILES = ("run ", "votes of ", "questions of ", "texts of ")


def require_free(path: Path, force: bool = False) -> None:
    """Refuse to overwrite a file (or a folder with a file) that a run reads, unless ``force``.

    Raises:
        UserError: the path holds the ledger or a run's input.
    """
    if not path.exists():
        return
    if any(_holds(path, own) for own in sqlite_files.of_url(settings.load().ledger)):
        raise UserError(f"{path} {'contains' if path.is_dir() else 'is'} the ledger: choose another file")
    if not force and (run := _reader(path)):
        raise UserError(
            f"{path} is data of run {run!r}: choose another file, or pass --force to overwrite it"
        )


def _reader(path: Path) -> str | None:
    own = sqlite_files.of_url(settings.load().ledger)
    if own and not own[0].exists():
        return None  # without a ledger there are no runs; a lookup must not create one
    recorded = runs.input_files()
    output = _Output(path, dataset.digest(path) if path.is_file() else None)
    return next((run.name for run in runs.list_runs() if output.is_of(run, recorded.get(run.name))), None)


def _of_source(run: Run) -> list[Path]:
    """Return the input paths in a run's source, for runs older than recorded input files."""
    sources = run.source.split(", ") if run.kind == "train" else [run.source]
    names = [
        source.removesuffix(" (test)").partition(" x ")[0] if run.kind == "train" else source
        for source in sources
    ]
    return [Path(source) for source in names if source and not source.startswith(_NOT_FILES)]


@dataclass(frozen=True)
class _Output:
    """An existing file or folder that would be overwritten."""

    path: Path
    digest: str | None

    def is_of(self, run: Run, recorded: list[Path] | None) -> bool:
        """Return whether a run reads it; ``noted`` are the run's files, if they are on record."""
        places = recorded or _of_source(run)
        if any(self._is(place) for place in places):
            return True
        # Skip this if all inputs exist: an answered data set may equal its source byte for byte.
        digests = {None if recorded else run.examples}
        if not all(place.is_absolute() and _is_there(place) for place in places):
            digests = {run.digest, run.examples}
        return self.digest is not None and self.digest in digests

    def _is(self, place: Path) -> bool:
        if place.is_absolute():
            return _holds(self.path, place)
        # Older versions recorded relative paths without their working directory.
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
    """Return whether a path is the given file, or a folder that contains it."""
    try:
        if path.is_dir():
            return place.exists() and place.resolve().is_relative_to(path.resolve())
        return path.samefile(place)
    except OSError:
        return False  # missing or not accessible
