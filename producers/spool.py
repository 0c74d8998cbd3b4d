"""Save data that are not a file here to one below the home folder: standard input, data sets of the hub.

    fetched("hf://allenai/ai2_arc/ARC-Challenge:test")
        ->  Path("var/inputs/allenai--ai2_arc--ARC-Challenge--test.parquet")

Data are read more than once, so that nothing is enqueued unless all of it is good. The same input gets the
same file, and so the same run.
"""

import hashlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers import containers
from shared import file_permissions, settings
from shared.errors import UserError

HUB = "hf://"
_PIECE = 1 << 20  # bytes


def fetched(argument: str) -> Path | None:
    """Save what an argument stands for, and return the file; ``None``: it is a path or a run.

    Raises:
        UserError: standard input is a terminal or empty, or the hub does not have the data set.
    """
    if argument == "-" and not Path("-").exists():
        return _standard_input()
    return _from_hub(argument) if argument.startswith(HUB) else None


def _folder() -> Path:
    folder = settings.load().home / "inputs"
    file_permissions.make_folder(folder)
    return folder


def _standard_input() -> Path:
    if sys.stdin.isatty():
        raise UserError("-: standard input is a terminal: redirect or pipe the data into it")
    folder, digest = _folder(), hashlib.sha256()
    with file_permissions.only_owner(), tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        temporary = Path(file.name)
        while piece := sys.stdin.buffer.read(_PIECE):
            digest.update(piece)
            file.write(piece)
        size = file.tell()
    if not size:
        temporary.unlink()
        raise UserError("-: standard input is empty")
    path = folder / f"stdin-{digest.hexdigest()[:12]}"
    temporary.replace(path)
    return path


@dataclass(frozen=True)
class HubName:
    """A data set of the hub: its name, its configuration and its split, if they are given."""

    name: str
    config: str | None
    split: str | None


def parse_hub(argument: str) -> HubName:
    """Parse ``hf://owner/name/config:split``; ``owner/``, ``/config`` and ``:split`` may be missing.

    Raises:
        UserError: it has another form.
    """
    match = re.fullmatch(r"hf://([\w.-]+(?:/[\w.-]+)?)(?:/([^/:]+))?(?::(.+))?", argument)
    if match is None:
        raise UserError(f"{argument}: expected hf://OWNER/NAME, hf://OWNER/NAME/CONFIG or either with :SPLIT")
    return HubName(*match.groups())


def _from_hub(argument: str) -> Path:
    wanted = parse_hub(argument)
    containers.require_datasets(argument)
    data = _load(argument, wanted)
    path = _folder() / (re.sub(r"[/:]", "--", argument.removeprefix(HUB)) + ".parquet")
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        with file_permissions.only_owner():
            data.to_parquet(str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _load(argument: str, wanted: HubName) -> Any:
    import datasets

    try:
        data = datasets.load_dataset(wanted.name, wanted.config, split=wanted.split)
    except Exception as error:  # noqa: BLE001  the libraries below raise errors of many classes
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{argument} cannot be loaded: {reason}") from None
    if wanted.split is None:
        if len(data) > 1:
            raise UserError(
                f"{argument} has the splits {', '.join(data)}: add one, such as :{next(iter(data))}"
            )
        data = next(iter(data.values()))
    return data
