"""Which process gets which GPUs or cores; nvidia-smi is a script that prints what a driver would."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra import devices, programs
from shared.errors import UserError
from shared.settings import Settings

FOUR = {"CUDA_VISIBLE_DEVICES": "4,5, 6,7"}


@pytest.fixture(autouse=True)
def _eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, r"0\n1\n2\n3\n4\n5\n6\n7\n", monkeypatch)


def given(bound: dict[str, dict[str, str]], name: str = devices.GPUS) -> dict[str, str]:
    return {program: variables[name] for program, variables in bound.items()}


def smi(folder: Path, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called nvidia-smi on the path."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_each_engine_gets_a_gpu_of_its_own_and_trainings_share_the_rest() -> None:
    bound = devices.assign(["infer-1", "infer-2"], ["train-1", "train-2", "train-3"], 1, 0.7, FOUR)
    assert given(bound) == {"infer-1": "4", "infer-2": "5", "train-1": "6", "train-2": "7", "train-3": "6"}
    assert devices.ORDER not in bound["infer-1"], "the user's own list has the user's own order"


def test_an_engine_with_tensor_parallelism_gets_a_group() -> None:
    bound = devices.assign(["infer-1", "infer-2"], ["train-1"], 2, 0.7, FOUR)
    assert given(bound) == {"infer-1": "4,5", "infer-2": "6,7", "train-1": "4"}


@pytest.mark.parametrize(("engines", "parallel", "room"), [(5, 1, 4), (3, 2, 2), (1, 8, 0)])
def test_more_engines_than_gpus_are_refused(engines: int, parallel: int, room: int) -> None:
    with pytest.raises(UserError, match=rf"do not fit the 4 visible GPUs, which have room for {room}:"):
        devices.assign([f"infer-{at}" for at in range(engines)], [], parallel, 0.7, FOUR)


@pytest.mark.parametrize("names", ["0,9", "8", "0,0", "GPU-8d,GPU-8d"])
def test_a_gpu_that_is_missing_or_named_twice_is_refused(names: str) -> None:
    with pytest.raises(UserError, match=rf"CUDA_VISIBLE_DEVICES is {names}, but the GPUs here are 0, 1, 2,"):
        devices.gpus({"CUDA_VISIBLE_DEVICES": names})


def test_gpus_are_named_by_uuids_too_and_what_follows_an_invalid_name_is_ignored() -> None:
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "GPU-8d,1"}) == ["GPU-8d", "1"]
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "0,-1,1"}) == ["0"]


def test_an_nvidia_smi_that_fails_is_an_error_for_those_who_need_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no driver; exit 9\n")
    with pytest.raises(UserError, match=r"nvidia-smi does not work \(no driver\): repair the driver"):
        devices.assign(["infer-1"], [], 1, 0.7, {})
    assert devices.assign([], [], 1, 0.7, {}) == {}
    assert devices.assign(["infer-1"], [], 1, 0.7, {"CUDA_VISIBLE_DEVICES": ""}) == {}


def test_a_machine_without_a_gpu_has_none_whatever_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "none")
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": "0"}) == ["0"], "a container without nvidia-smi"


def test_two_engines_share_a_gpu_if_both_fit_its_memory() -> None:
    one = {"CUDA_VISIBLE_DEVICES": "0"}
    assert given(devices.assign(["infer-1", "infer-2"], [], 1, 0.45, one)) == {"infer-1": "0", "infer-2": "0"}
    with pytest.raises(UserError, match="room for 2"):
        devices.assign(["a", "b", "c"], [], 1, 0.45, one)
    with pytest.raises(UserError, match="room for 1"):
        devices.assign(["a", "b"], [], 1, 0.5, one)
    assert given(devices.assign(["a"], [], 1, 0.98, one)) == {"a": "0"}


def test_gpus_are_numbered_as_nvidia_smi_numbers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, r"0\n1\n", monkeypatch)
    bound = devices.assign(["infer-1", "infer-2"], [], 1, 0.7, {})
    assert given(bound) == {"infer-1": "0", "infer-2": "1"}
    assert given(bound, devices.ORDER) == {"infer-1": "PCI_BUS_ID", "infer-2": "PCI_BUS_ID"}


@pytest.mark.parametrize("nothing", ["", "-1"])
def test_a_user_can_hide_all_gpus(nothing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, r"0\n1\n", monkeypatch)
    assert devices.gpus({"CUDA_VISIBLE_DEVICES": nothing}) == []


def test_engines_on_one_cpu_get_disjoint_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 5})
    bound = devices.assign(["infer-1", "infer-2"], ["train-1"], 1, 0.7, {})
    assert given(bound, devices.CORES) == {"infer-1": "0,2,5", "infer-2": "1,3"}
    assert devices.assign(["infer-1"], [], 1, 0.7, {}) == {}, "one engine uses all cores, as vLLM is told"
    assert devices.assign(["a", "b"], [], 1, 0.7, {devices.CORES: "0-3"}) == {}, "the user has decided"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert given(devices.assign(["a", "b"], [], 1, 0.7, {}), devices.CORES) == {"a": "0", "b": "0"}


def test_the_configuration_binds_programs_to_their_devices(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    chosen = Settings(_env_file=None, home=home / "var", broker_url=SecretStr("redis://elsewhere/0"))
    selected = programs.programs(chosen, {"infer": 2, "train": 1, "reason": 1})
    configuration = programs.write(chosen, selected).read_text()
    sections = {part.split("]")[0]: part for part in configuration.split("[program:")[1:]}
    assert ',CUDA_VISIBLE_DEVICES="1"\n' in sections["infer-2"]
    assert ',CUDA_VISIBLE_DEVICES="2"\n' in sections["train-1"]
    assert "CUDA_VISIBLE_DEVICES" not in sections["reason-1"]


def test_workers_that_call_a_provider_need_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    chosen = Settings(
        _env_file=None, generator="openai", provider="local", broker_url=SecretStr("redis://elsewhere/0")
    )
    selected = programs.programs(chosen, {"infer": 3})
    assert [each.environment for each in selected if each.name.startswith("infer")] == [{}, {}, {}]
