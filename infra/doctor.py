"""Check what keeps votequeue from working on this machine, and say what to do.

    diagnose(settings)  ->  [Finding("broker", "error", "the broker at queue.lan:6379/0 does not answer ...")]

No key is shown. Only base dependencies are imported: torch's CUDA version is read from its files. A check
returns a sentence, or raises: a `_Warning`, or a `UserError` that keeps votequeue from working.
"""

import json
import os
import platform
import re
import resource
import shutil
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.specifiers import SpecifierSet

from infra import devices, health, programs, serve
from shared import broker, model_store, urls, vllm_environment
from shared.errors import ServiceUnreachable, UserError
from shared.generators import GENERATORS
from shared.ledger import engine, migrations, runs
from shared.providers import PROVIDERS
from shared.settings import PREFIX, Settings

GIB = 1 << 30
MEMINFO, CGROUP_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
NVIDIA = Path("/proc/driver/nvidia")
OLDEST_REDIS = (6, 2)  # the first that gives several messages at once
CLOCKS = 5.0  # seconds that clocks may differ


@dataclass(frozen=True)
class Finding:
    """The result of one check; the ``message`` of a warning or an error says what to do."""

    check: str
    level: Literal["ok", "warning", "error"]
    message: str


class _Warning(UserError):
    pass


def diagnose(settings: Settings) -> list[Finding]:
    """Run all checks."""
    findings = []
    for name, check in _checks(settings).items():
        try:
            findings.append(Finding(name, "ok", check()))
        except UserError as error:
            findings.append(Finding(name, "warning" if isinstance(error, _Warning) else "error", str(error)))
    return findings


def _checks(settings: Settings) -> dict[str, Callable[[], str]]:
    local = not GENERATORS[settings.generator].calls_provider
    folders = dict.fromkeys((settings.home, settings.trained_folder, settings.cache))
    with_keys = [name for name, provider in PROVIDERS.items() if () not in provider.needs]
    return {
        "Python": _python,
        "memory": partial(_memory, 9.0 if local else 1.0),
        "CPU": partial(_cpu, local),
        "GPU": partial(_gpu, local, settings.tensor_parallel),
        **{f"disk {folder}": partial(_disk, folder) for folder in folders},
        "open files": _open_files,
        "weights": partial(_weights, settings) if local else lambda: "not needed",
        "broker": partial(_broker, settings),
        "ledger": partial(_ledger, settings),
        "broker's clock": partial(_clock, broker.now),
        "ledger's clock": partial(_clock, runs.ledger_time if "postgres" in settings.ledger else time.time),
        **{f"keys of {name}": partial(_keys, settings, name) for name in with_keys},
        "proxies": partial(_proxies, urlsplit(settings.qdrant_url or "").hostname),
        "Flower's port": lambda: _port(programs.flower(settings), health.flower_answers(settings)),
        "chat server's port": lambda: _port(programs.chat_server(settings), health.chat_answers(settings)),
    }


def _python() -> str:
    version, wanted = platform.python_version(), metadata.metadata("votequeue")["Requires-Python"]
    if not SpecifierSet(wanted).contains(version):
        raise UserError(f"{version} is not supported ({wanted}): make an environment with Python 3.11")
    return version


def _memory(needed: float) -> str:
    sizes = dict(re.findall(r"(?m)^(\w+): +(\d+) kB", MEMINFO.read_text()))
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    most = int(limit) / GIB if limit.isdigit() else float("inf")
    total, available = (min(int(sizes[of]) * 1024 / GIB, most) for of in ("MemTotal", "MemAvailable"))
    if total < needed:
        kind = UserError if total < needed / 2 else _Warning
        raise kind(f"{total:.1f} of {needed:.0f} GiB: let a provider answer (VOTEQUEUE_GENERATOR=openai)")
    if available < needed / 2:
        raise _Warning(f"{available:.1f} of {total:.1f} GiB available: close other programs first")
    return f"{available:.1f} of {total:.1f} GiB available"


def _cpu(local: bool) -> str:
    if local and vllm_environment.cpu_dtype() == "float32" and not devices.gpus():
        raise _Warning(
            "it has no bfloat16 instructions: an engine takes about twice as long as on a newer one"
        )
    return f"{os.cpu_count()} cores"


def _gpu(local: bool, needed: int) -> str:
    lines = devices.nvidia_smi("--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader")
    cuda, advice = _torch_cuda(), "into a new environment"
    if not lines:
        if NVIDIA.exists():
            raise UserError("nvidia-smi does not work: reinstall the driver (in a container: its toolkit)")
        if local and not serve.is_cpu_build():
            raise UserError(f"none, and this vllm needs one: install votequeue[infer-cpu] {advice}")
        return "none: engines run on the CPU"
    supported = re.search(r"CUDA Version *: *(\d+)", " ".join(devices.nvidia_smi()))
    if cuda and supported and int(supported[1]) < int(cuda.partition(".")[0]):
        raise UserError(f"torch needs CUDA {cuda}, the driver has {supported[1]}: install a newer driver")
    if (visible := len(devices.gpus())) < needed:
        raise UserError(f"{visible} visible, {needed} needed: lower VOTEQUEUE_TENSOR_PARALLEL")
    if local and (not cuda or serve.is_cpu_build()):
        raise _Warning(f"torch or vLLM cannot use it: install votequeue[infer] {advice}")
    return "; ".join(lines)


def _disk(folder: Path) -> str:
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free / GIB
    if not os.access(place, os.W_OK):
        raise UserError(f"{place} is not writable: change its permissions, or the setting")
    if free < 5:
        raise (UserError if free < 1 else _Warning)(f"{free:.1f} GiB free: make room")
    return f"{free:.0f} GiB free"


def _open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 1024:
        raise (UserError if soft < 256 else _Warning)(f"{soft}: run `ulimit -n 4096` first (at most {hard})")
    return str(soft)


def _weights(settings: Settings) -> str:
    folder = model_store.find_weights(settings.model, settings.cache)
    if folder is None:
        partly = model_store.find_tokenizer(settings.model, settings.cache)
        what = f"{partly} is incomplete" if partly else f"the weights of {settings.model} are not here"
        raise UserError(f"{what}: run `votequeue weights`")
    if cut := [file.name for file in sorted(folder.glob("*.safetensors")) if not _is_whole(file)]:
        raise UserError(f"{folder}: {', '.join(cut)}: damaged: remove the folder, run `votequeue weights`")
    return str(folder)


def _is_whole(file: Path) -> bool:
    """Compare a safetensors file's length with the one that its header states."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, GIB)))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return file.stat().st_size == 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _torch_cuda() -> str | None:
    """Give the CUDA version that torch was built for; ``None``: there is no torch, or none for CUDA."""
    found = util.find_spec("torch")
    file = Path(found.origin).with_name("version.py") if found and found.origin else Path()
    match = re.search(r"(?m)^cuda\b.*'([\d.]+)'", file.read_text() if file.is_file() else "")
    return match[1] if match else None


def _broker(settings: Settings) -> str:
    embedded = programs.embedded_broker(settings)
    try:
        facts = broker.server()
    except ServiceUnreachable:
        if embedded is None or not embedded.free():
            raise
        programs.valkey_binary()
        return f"not running: `votequeue up` starts it on port {embedded.port}"
    version, place = facts["redis_version"], urls.shown(settings.broker)
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        raise UserError(f"{place} has version {version}: install Redis 6.2, Valkey, or later")
    if facts.get("maxmemory") and facts["maxmemory_policy"] != "noeviction":
        raise UserError(f"{place} drops messages when it is full: set its maxmemory-policy to noeviction")
    return f"{place}: version {facts.get('valkey_version', version)}"


def _ledger(settings: Settings) -> str:
    place = urls.shown(settings.ledger)
    if settings.ledger.startswith("sqlite") and not Path(place.removeprefix("sqlite:///")).exists():
        return f"{place}: will be created"
    revision = engine.engine().get_execution_options()["revision"]
    if revision != migrations.HEAD:
        advice = f"stop all workers, then run `{engine.UPGRADE}`"
        raise _Warning(f"{place}: revision {revision}, this votequeue writes {migrations.HEAD}: {advice}")
    return f"{place}: revision {revision}"


def _clock(read: Callable[[], float]) -> str:
    try:
        read()  # so that the connection stands when the clocks are compared
        before = time.time()
        ahead = read() - (before + time.time()) / 2
    except UserError:
        return "it does not answer"  # an error of another check, unless it is not started yet
    if abs(ahead) > CLOCKS:
        raise _Warning(f"{ahead:+.0f} s from ours: turn on time synchronization (NTP) on both machines")
    return f"{ahead:+.1f} s from ours"


def _keys(settings: Settings, name: str) -> str:
    needs = PROVIDERS[name].needs
    lacking = [[PREFIX + key.upper() for key in each if not getattr(settings, key, None)] for each in needs]
    if [] in lacking:
        return "set"
    missing = f"{' and '.join(sorted(lacking, key=len)[0])} missing: set it where the workers run"
    if GENERATORS[settings.generator].calls_provider and settings.provider == name:
        raise UserError(missing)
    if any(len(keys) < len(each) for keys, each in zip(lacking, needs, strict=True)):
        raise _Warning(missing)
    return "not set"


def _proxies(qdrant: str | None) -> str:
    found = {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme != "no"}
    for scheme, url in found.items():
        if not urlsplit(url if "://" in url else f"//{url}").hostname:
            raise UserError(f"{scheme}_proxy names no host: correct it, or unset it")
        if url.startswith("socks") and not util.find_spec("socksio"):
            raise UserError(f"{scheme}_proxy is a SOCKS proxy: pip install socksio")
    if found and qdrant and not urls.is_loopback(qdrant) and not urllib.request.proxy_bypass(qdrant):
        raise _Warning(f"Qdrant would be called through a proxy: add {qdrant} to no_proxy")
    return ", ".join(f"{scheme}: {urls.shown(url)}" for scheme, url in found.items()) or "none"


def _port(address: programs.Address, answers: bool) -> str:
    if not answers and not address.free():
        raise UserError(f"{address.host}:{address.port} is taken: stop what listens there, or set another")
    return f"{address.host}:{address.port} {'answers' if answers else 'is free'}"
