"""Check what keeps votequeue from working on this machine, and say what to do.

    diagnose(settings)  ->  [Finding("broker", "error", "the broker at queue.lan:6379/0 does not answer ...")]

No key is shown, and nothing is changed. Only base dependencies are needed: torch's CUDA version is read from
its files. A check returns a sentence, or raises: a `_Warning`, or a `UserError` that keeps votequeue from
working.
"""

import contextlib
import json
import math
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
from shared.ledger import engine, migrations, sqlite_files
from shared.providers import PROVIDERS
from shared.settings import PREFIX, Settings

GIB = 1 << 30
MEMINFO, OUR_CGROUPS, CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
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
        except Exception as error:  # noqa: BLE001  one failed check must not end the others
            findings.append(Finding(name, "error", f"the check fails: {_reason(error)}"))
    return findings


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return type(error).__name__  # the text may contain a URL with its password


def _checks(settings: Settings) -> dict[str, Callable[[], str]]:
    local, cpu_build, problem = not settings.calls_provider, False, ""
    try:
        cpu_build = local and serve.is_cpu_build()
    except UserError as error:  # there is no vLLM
        local, problem = False, str(error)
    ledger = [file.parent for file in sqlite_files.of_url(settings.ledger)[:1]]
    folders = [settings.home, settings.trained_folder, settings.cache, *ledger]
    ours = _running(settings)
    with_keys = [name for name, provider in PROVIDERS.items() if () not in provider.needs]
    return {
        "Python": _python,
        "memory": partial(_memory, 9.0 if local else 1.0),
        "CPU": partial(_cpu, cpu_build),
        "GPU": partial(_gpu, local, settings.tensor_parallel),
        **{f"disk {folder}": partial(_disk, folder) for folder in map(Path.absolute, folders)},
        "open files": _open_files,
        "generator": partial(_generator, settings, problem),
        "weights": partial(_weights, settings) if local else lambda: "not needed",
        "Qdrant": partial(_qdrant, settings) if local else lambda: "not needed",
        "broker": partial(_broker, settings, "valkey" in ours),
        "ledger": partial(_ledger, settings),
        "broker's clock": partial(_clock, broker.now),
        **({} if ledger else {"ledger's clock": partial(_clock, _ledger_time)}),
        **{f"keys of {name}": partial(_keys, settings, name) for name in with_keys},
        "proxies": partial(_proxies, urlsplit(settings.qdrant_url or "").hostname),
        "Flower's port": lambda: _port(programs.flower(settings), "flower" in ours, "VOTEQUEUE_FLOWER_PORT"),
        "chat server's port": partial(_chat_port, settings),
        "metrics' port": partial(_metrics_port, settings, ours),
    }


def _chat_port(settings: Settings) -> str:
    if not urls.stays_here(settings.local_url):
        return f"not needed: {settings.local_url} is another machine"
    return _port(programs.chat_server(settings), health.chat_answers(settings), "VOTEQUEUE_LOCAL_URL")


def _running(settings: Settings) -> set[str]:
    """Name the programs that `votequeue up` runs for this home folder."""
    with contextlib.suppress(ImportError, OSError, RuntimeError):  # without the extra, or a permission
        from infra import local

        return local.names_of(programs.layout(settings), "RUNNING")
    return set()


def _python() -> str:
    version, wanted = platform.python_version(), metadata.metadata("votequeue")["Requires-Python"]
    if not SpecifierSet(wanted).contains(version):
        raise UserError(f"{version} is not supported ({wanted}): make an environment with Python 3.11")
    return version


def _memory(needed: float) -> str:
    sizes = dict(re.findall(r"(?m)^(\w+): +(\d+) kB", MEMINFO.read_text()))
    most = _memory_limit()
    total, available = (min(int(sizes[of]) * 1024, most) / GIB for of in ("MemTotal", "MemAvailable"))
    if total < needed:
        kind = UserError if total < needed / 2 else _Warning
        raise kind(f"{total:.1f} of {needed:.0f} GiB: let a provider answer (VOTEQUEUE_GENERATOR=openai)")
    if available < needed / 2:
        raise _Warning(f"{available:.1f} of {total:.1f} GiB available: close other programs first")
    return f"{available:.1f} of {total:.1f} GiB available"


def _memory_limit() -> float:
    """Give the least limit of this process's control groups (versions 1 and 2), in bytes."""
    limits = [math.inf]
    for line in OUR_CGROUPS.read_text().splitlines() if OUR_CGROUPS.is_file() else ():
        _, controllers, path = line.split(":", 2)
        root, file = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        if not controllers or "memory" in controllers.split(","):
            # In a container, the path may be that on the host: then only a folder above it is there.
            group = root / path.lstrip("/")
            for folder in (group, *group.parents):
                with contextlib.suppress(OSError, ValueError):
                    limits.append(int((folder / file).read_text()))
    return min(limits)


def _cpu(cpu_build: bool) -> str:
    if cpu_build and vllm_environment.cpu_dtype() == "float32":
        raise _Warning(
            "it has no bfloat16 instructions: an engine takes about twice as long as on a newer one"
        )
    return f"{os.cpu_count()} cores"


def _gpu(local: bool, needed: int) -> str:
    cuda, advice = _torch_cuda(), "into a new environment"
    if not (visible := len(devices.gpus())):
        hidden = devices.GPUS in os.environ
        if devices.DRIVER.exists() and not hidden:
            raise UserError("nvidia-smi is missing: install the driver's tools (in a container: its toolkit)")
        if local and not serve.is_cpu_build():
            unhide = f"unset {devices.GPUS}, or " if hidden else ""
            raise UserError(f"none, and this vllm needs one: {unhide}install votequeue[infer-cpu] {advice}")
        return "none: engines run on the CPU" if local else "none"
    lines = devices.nvidia_smi("--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader")
    supported = re.search(r"CUDA (?:UMD )?Version *: *(\d+)", " ".join(devices.nvidia_smi()))
    if cuda and supported and int(supported[1]) < int(cuda.partition(".")[0]):
        raise UserError(f"torch needs CUDA {cuda}, the driver has {supported[1]}: install a newer driver")
    if local and visible < needed:
        raise UserError(f"{visible} visible, {needed} needed: lower VOTEQUEUE_TENSOR_PARALLEL")
    if local and (not cuda or serve.is_cpu_build()):
        raise _Warning(f"torch or vLLM cannot use it: install votequeue[infer] {advice}")
    return "; ".join([f"{visible} visible", *lines])


def _disk(folder: Path) -> str:
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"{place} is a file: name a folder in the setting")
    free = shutil.disk_usage(place).free / GIB
    if not os.access(place, os.W_OK):
        raise UserError(f"{place} is not writable: change its permissions, or the setting")
    if free < 5:
        raise (UserError if free < 1 else _Warning)(f"{free:.1f} GiB free: make room")
    return f"{free:.0f} GiB free"


def _open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 1024:
        most = 4096 if hard < 0 else min(hard, 4096)
        advice = f"run `ulimit -n {most}` first" if most >= 1024 else "have the hard limit raised"
        raise (UserError if soft < 256 else _Warning)(f"{soft}: {advice}")
    return str(soft)


def _generator(settings: Settings, problem: str) -> str:
    if settings.refusal:
        option, reason = settings.refusal
        raise UserError(f"{PREFIX}{option.upper()}: {reason}")
    if problem:
        advice = "let a provider answer (VOTEQUEUE_GENERATOR=openai), or leave it to other machines"
        raise _Warning(f"no infer worker can run here: {problem}; or {advice}")
    return settings.generator


def _qdrant(settings: Settings) -> str:
    health.require_index(settings)
    return settings.qdrant_url or "not needed: the index is in each worker's memory"


def _weights(settings: Settings) -> str:
    folder = model_store.find_weights(settings.model, settings.cache)
    if folder is None:
        partly = model_store.find_tokenizer(settings.model, settings.cache)
        what = f"{partly} is incomplete" if partly else f"the weights of {settings.model} are not here"
        raise UserError(f"{what}: run `votequeue weights`")
    if cut := [file.name for file in sorted(folder.glob("*.safetensors")) if not _is_whole(file)]:
        raise UserError(f"{folder}: {', '.join(cut)}: damaged: remove the folder, run `votequeue weights`")
    if not any(found for pattern in TOKENIZERS for found in folder.glob(pattern)):
        raise UserError(f"{folder} has no tokenizer: remove the folder, run `votequeue weights`")
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


def _broker(settings: Settings, ours: bool) -> str:
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
    broker.require_writable()
    if embedded and not ours:
        raise _foreign(embedded, "VOTEQUEUE_BROKER_URL")
    return f"{place}: version {facts.get('valkey_version', version)}"


def _ledger(settings: Settings) -> str:
    place = urls.shown(settings.ledger)
    if (files := sqlite_files.of_url(settings.ledger)) and not files[0].exists():
        return f"{place}: will be created"
    with engine.examining() as connection:
        revision = migrations.current(connection)
        engine.require_writable(connection)
    if revision is None:
        return f"{place}: empty: its tables will be created"
    if revision != migrations.HEAD:
        advice = f"stop all workers, then run `{engine.UPGRADE}`"
        raise _Warning(f"{place}: revision {revision}, this votequeue writes {migrations.HEAD}: {advice}")
    return f"{place}: revision {revision}"


def _ledger_time() -> float:
    with engine.examining() as connection:
        return engine.now(connection)


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
    if settings.calls_provider and settings.provider == name:
        raise UserError(missing)
    if any(len(keys) < len(each) for keys, each in zip(lacking, needs, strict=True)):
        raise _Warning(missing)
    return "not set"


def _proxies(qdrant: str | None) -> str:
    found = {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme != "no"}
    found = {scheme: url if "://" in url else f"http://{url}" for scheme, url in found.items()}
    for scheme, url in found.items():
        usable = False
        with contextlib.suppress(ValueError):  # its message may contain the password
            usable = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
        if not usable:
            raise UserError(f"{scheme}_proxy is not http://HOST:PORT: correct it, or unset it")
        if url.startswith("socks") and not util.find_spec("socksio"):
            raise UserError(f"{scheme}_proxy is a SOCKS proxy: pip install socksio")
    if found and qdrant and not urls.is_loopback(qdrant) and not urllib.request.proxy_bypass(qdrant):
        raise _Warning(f"Qdrant would be called through a proxy: add {qdrant} to no_proxy")
    return ", ".join(f"{scheme}: {urls.shown(url)}" for scheme, url in found.items()) or "none"


def _port(address: programs.Address, ours: bool, setting: str) -> str:
    if ours:
        return f"{address} is in use by votequeue"
    if not address.free():
        raise _foreign(address, setting)
    return f"{address} is free"


def _foreign(address: programs.Address, setting: str) -> _Warning:
    return _Warning(
        f"{address} is taken, but not by `votequeue up` of this home folder, which would not start: stop "
        f"what listens there, or set another port in {setting}"
    )


def _metrics_port(settings: Settings, running: set[str]) -> str:
    if not settings.metrics_port:
        return "none"
    # `up` gives its workers other ports; a worker without it has this one.
    ours = "exporter" in running if running else health.worker_error(settings, "live") is None
    address = programs.Address(settings.metrics_host, settings.metrics_port)
    return _port(address, ours, "VOTEQUEUE_METRICS_PORT")
