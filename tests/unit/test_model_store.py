"""Folders of trained models: named by their content, and not believed without it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from shared import model_store
from shared.errors import UserError
from shared.model_store import Kind

CONFIG = {"scorer": "config.json", "lora": "adapter_config.json"}


def make(
    folder: Path, kind: Kind = "scorer", weights: bytes = b"weights", config: str = "{}", **facts: object
) -> Path:
    folder.mkdir(parents=True)
    name = "model.safetensors" if kind == "scorer" else "adapter_model.safetensors"
    (folder / name).write_bytes(weights)
    (folder / CONFIG[kind]).write_text(config)
    model_store.describe(folder, {"kind": kind, **facts})
    return folder


def test_a_name_is_made_of_weights_their_configuration_and_what_is_known_of_them(tmp_path: Path) -> None:
    name = model_store.name_of("scorer", make(tmp_path / "a", temperature=1.0))
    assert name == model_store.name_of("scorer", make(tmp_path / "b", temperature=1.0))
    assert name.startswith("scorer-")
    assert len(name) == len("scorer-") + 12
    others = [
        make(tmp_path / "c", temperature=2.0),
        make(tmp_path / "d", weights=b"other", temperature=1.0),
        make(tmp_path / "e", config='{"num_hidden_layers": 7}', temperature=1.0),
    ]
    assert name not in {model_store.name_of("scorer", other) for other in others}


@pytest.mark.parametrize("kind", model_store.KINDS)
def test_a_model_is_found_where_its_name_says(kind: Kind, tmp_path: Path) -> None:
    made = make(tmp_path / "made", kind)
    name = model_store.name_of(kind, made)
    made.rename(tmp_path / name)
    assert model_store.checked(kind, name, tmp_path) == tmp_path / name
    assert model_store.described(tmp_path / name) == {"kind": kind}


@pytest.mark.parametrize("kind", model_store.KINDS)
def test_a_model_whose_configuration_was_changed_is_not_used(kind: Kind, tmp_path: Path) -> None:
    made = make(tmp_path / "made", kind)
    name = model_store.name_of(kind, made)
    made.rename(tmp_path / name)
    (tmp_path / name / CONFIG[kind]).write_text('{"r": 4096}')
    with pytest.raises(UserError, match="is not what was trained"):
        model_store.checked(kind, name, tmp_path)


@pytest.mark.parametrize("kind", model_store.KINDS)
def test_a_model_that_an_earlier_version_named_is_still_used(kind: Kind, tmp_path: Path) -> None:
    made = make(tmp_path / "made", kind)
    facts = (made / model_store.MANIFEST).read_bytes()
    former = hashlib.sha256(hashlib.sha256(b"weights").digest() + facts).hexdigest()[:12]
    made.rename(tmp_path / f"{kind}-{former}")
    assert model_store.checked(kind, f"{kind}-{former}", tmp_path) == tmp_path / f"{kind}-{former}"
    (tmp_path / f"{kind}-{former}" / model_store.MANIFEST).write_text('{"kind": "other"}')
    with pytest.raises(UserError, match="is not what was trained"):
        model_store.checked(kind, f"{kind}-{former}", tmp_path)


def test_weights_have_the_hubs_revision_or_a_digest_of_their_files(tmp_path: Path) -> None:
    revision = tmp_path / "models--a--b" / "snapshots" / ("0f" * 20)
    assert model_store.weights_version(revision) == "0f" * 20
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(10_000_000))
    with (folders[2] / "model.safetensors").open("r+b") as file:
        file.seek(9_999_999)
        file.write(b"x")
    (folders[3] / "config.json").write_text('{"a": 1}')
    same, again, *others = map(model_store.weights_version, folders)
    assert same == again
    assert len({same, *others}) == 3


def test_a_model_that_is_not_here_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scorer-0 is not in .*VOTEQUEUE_TRAINED.*votequeue models use"):
        model_store.checked("scorer", "scorer-0", tmp_path)


def test_a_copy_that_was_cut_off_is_not_used(tmp_path: Path) -> None:
    made = make(tmp_path / "made")
    name = model_store.name_of("scorer", made)
    shutil.copytree(made, tmp_path / name)
    (tmp_path / name / "model.safetensors").write_bytes(b"weig")
    with pytest.raises(UserError, match=r"is not what was trained .*: copy it anew"):
        model_store.checked("scorer", name, tmp_path)
    (tmp_path / name / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no scorer"):
        model_store.checked("scorer", name, tmp_path)


def test_what_is_known_must_be_readable(tmp_path: Path) -> None:
    made = make(tmp_path / "made")
    (made / model_store.MANIFEST).write_text("{")
    with pytest.raises(UserError, match="holds no trained model"):
        model_store.described(made)
    assert (
        json.loads((make(tmp_path / "other", words="甲") / model_store.MANIFEST).read_text("utf-8"))["words"]
        == "甲"
    )


def test_every_name_has_a_number_of_its_own_from_one() -> None:
    assert model_store.number_of("lora-000000012345") == 1
    assert model_store.number_of("lora-fffffff12345") == 2**28
