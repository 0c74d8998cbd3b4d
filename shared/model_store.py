"""Models as folders: trained ones, named by their content, and the weights of generators.

    name_of("scorer", Path("made"))  ->  "scorer-3f9c01ab12cd"

A folder contains the weights (safetensors), other files that the libraries need, and the manifest
`votequeue.json`. The registry lists the models.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from shared import text_files
from shared.errors import UserError

Kind = Literal["scorer", "lora"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MANIFEST = "votequeue.json"
DOWNLOADED = "kept.json"  # the files of a download with their sizes, written at its end
_WEIGHTS = {"scorer": "model.safetensors", "lora": "adapter_model.safetensors"}
_CONFIG = {"scorer": "config.json", "lora": "adapter_config.json"}
_DIGITS = 12
_PARTS, _PART_BYTES = 64, 65_536


def describe(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a model's manifest beside its weights."""
    (folder / MANIFEST).write_text(json.dumps(facts, ensure_ascii=False, indent=2), encoding="utf-8")


def described(folder: Path) -> dict[str, Any]:
    """Read a model's manifest.

    Raises:
        UserError: there is none.
    """
    try:
        return text_files.read_object(folder / MANIFEST)
    except UserError as error:
        raise UserError(f"{folder} holds no trained model: {error}") from None


def name_of(kind: Kind, folder: Path) -> str:
    """Name a model by its kind and its content: the weights, their configuration and the manifest.

    Raises:
        UserError: the folder holds no such model.
    """
    return _names_of(kind, folder)[0]


def _names_of(kind: Kind, folder: Path) -> tuple[str, str]:
    # The second is the name that earlier versions gave, which did not cover the configuration.
    try:
        with (folder / _WEIGHTS[kind]).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").digest()
        config = hashlib.sha256((folder / _CONFIG[kind]).read_bytes()).digest()
        facts = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise UserError(f"{folder} holds no {kind}: {error.filename}: {error.strerror}") from None
    present, former = (
        hashlib.sha256(whole).hexdigest() for whole in (weights + config + facts, weights + facts)
    )
    return f"{kind}-{present[:_DIGITS]}", f"{kind}-{former[:_DIGITS]}"


def find_weights(name: str, cache: Path) -> Path | None:
    """Find a generator's complete folder: the name itself, else in the cache; None: there is none."""
    return next(filter(is_complete, _folders(name, cache)), None)


def find_tokenizer(name: str, cache: Path) -> Path | None:
    """Find a model's folder as `find_weights` does; its weights may be missing."""
    return next((folder for folder in _folders(name, cache) if (folder / "config.json").exists()), None)


def _folders(name: str, cache: Path) -> tuple[Path, Path]:
    return Path(name).expanduser(), cache / "models" / name


def has_chat_template(folder: Path) -> bool:
    """Return whether a tokenizer has a chat template, in a separate file or its configuration."""
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(text_files.read_object(config).get("chat_template"))


def is_complete(folder: Path) -> bool:
    """Tell whether all files in the list of the download exist in full size.

    A folder without a list was copied by the user: config and weights are enough.

    Raises:
        UserError: its config or its list cannot be read.
    """
    listed = folder / DOWNLOADED
    if not listed.is_file():
        config = folder / "config.json"
        if not config.is_file():
            return False
        text_files.read_object(config)
        return bool(_weight_files(folder))
    sizes = text_files.read_object(listed).get("files")
    if not isinstance(sizes, dict):
        raise UserError(f"{listed} lists no files: remove {folder} and run `votequeue weights` again")
    return all(
        (folder / file).is_file() and (folder / file).stat().st_size == size for file, size in sizes.items()
    )


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".bin", ".pt"))


def weights_version(folder: Path) -> str:
    """Give the version of a generator's weights: the hub's revision, else a digest of the files.

    The digest is over names, sizes, the configuration and 64 parts of each weights file, since reading all of
    them takes minutes. It distinguishes models and trainings, but does not prove that a file is undamaged.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for path in [*_weight_files(folder), folder / "config.json"]:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            for part in range(_PARTS):
                # The last part ends where the file does.
                file.seek(max(0, size - _PART_BYTES) * part // (_PARTS - 1))
                digest.update(file.read(_PART_BYTES))
    return digest.hexdigest()[:_DIGITS]


def checked(kind: Kind, name: str, trained: Path) -> Path:
    """Find a model's folder in that of trained models, and verify its content against its name.

    Raises:
        UserError: it is missing or damaged.
    """
    folder = trained / name
    if not folder.is_dir():
        raise UserError(
            f"the {kind} {name} is not in {trained}: let all machines share that folder (VOTEQUEUE_TRAINED), "
            "or use another model with `votequeue models use`"
        )
    if name not in (names := _names_of(kind, folder)):
        raise UserError(f"{folder} is not what was trained (by its content it is {names[0]}): copy it anew")
    return folder


def number_of(name: str) -> int:
    """Derive a model's number (from 1) from its name: vLLM distinguishes adapters by it."""
    return int(name.rpartition("-")[2][:7], 16) + 1
