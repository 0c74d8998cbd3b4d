"""Which GPUs or cores each process of this machine may use.

    assign(["infer-1", "infer-2"], ["train-1"], 1, 0.7)
        ->  {"infer-1": {"CUDA_VISIBLE_DEVICES": "0", ...}, "infer-2": {...}, "train-1": {...}}

vLLM reserves a share of its GPU's memory, so two engines on one GPU run out of memory. On a machine without a
GPU the engines get cores: two that use the same cores slow each other down.
"""

import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.errors import UserError

GPUS, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
CORES = "VLLM_CPU_OMP_THREADS_BIND"
DRIVER = Path("/proc/driver/nvidia")
ENGINES_SHARE = 0.9  # of a GPU's memory, for its engines together; their CUDA contexts need some more


def gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """List the GPUs that programs of this machine may use, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        UserError: it names a GPU that is not there, or one twice; or nvidia-smi does not work.
    """
    names = [name.strip() for name in environment.get(GPUS, "").split(",")]
    # CUDA ignores what follows an invalid name.
    visible = [*itertools.takewhile(lambda name: name not in ("", "-1"), names)]
    if GPUS in environment and not visible:
        return []
    there = nvidia_smi("--query-gpu=index", "--format=csv,noheader")
    if GPUS not in environment:
        return there
    if not there:  # some containers have the driver, but no nvidia-smi
        return visible if DRIVER.exists() else []
    missing = [name for name in visible if name.isdecimal() and name not in there]  # others are UUIDs
    if missing or len(set(visible)) < len(visible):
        raise UserError(
            f"{GPUS} is {environment[GPUS]}, but the GPUs here are {', '.join(there)}: name some of them, "
            "each once, or unset it"
        )
    return visible


def nvidia_smi(*arguments: str) -> list[str]:
    """Give the lines that nvidia-smi prints; none if it is missing.

    Raises:
        UserError: it does not work.
    """
    command = ["nvidia-smi", *arguments]  # its folder differs among drivers and containers
    try:
        printed = subprocess.check_output(command, text=True, timeout=20, stderr=subprocess.STDOUT)  # noqa: S603
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(getattr(error, "output", None) or error).split())
        raise UserError(
            f"nvidia-smi does not work ({reason[:200]}): repair the driver (in a container: its toolkit), or "
            f"set {GPUS} to nothing to use no GPU"
        ) from None
    return printed.split("\n")[:-1]


def assign(
    engines: Sequence[str],
    others: Sequence[str],
    tensor_parallel: int,
    gpu_memory: float,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, dict[str, str]]:
    """Give the environment that binds each process to its devices; the keys are the processes' names.

    The ``engines`` take turns at groups of ``tensor_parallel`` GPUs, and use a share ``gpu_memory`` of each.
    The ``others`` take turns at the GPUs that remain, or at all of them.

    Raises:
        UserError: there are not enough GPUs (see also `gpus`).
    """
    if not engines and not others:
        return {}
    visible = gpus(environment)
    if not visible:
        cores = sorted(os.sched_getaffinity(0))
        count = min(len(engines), len(cores))  # with fewer cores than engines, some share one
        if len(engines) < 2 or CORES in environment:
            return {}
        return {
            name: {CORES: ",".join(map(str, cores[at % count :: count]))} for at, name in enumerate(engines)
        }
    groups = [visible[at : at + tensor_parallel] for at in range(0, len(visible), tensor_parallel)]
    groups = [group for group in groups if len(group) == tensor_parallel]
    if len(engines) > (room := len(groups) * max(1, int(ENGINES_SHARE / gpu_memory))):
        raise UserError(
            f"{len(engines)} engines (`--infer`, `--serve`) do not fit the {len(visible)} visible GPUs, "
            f"which have room for {room}: start fewer (an engine takes {tensor_parallel} of them, "
            f"VOTEQUEUE_TENSOR_PARALLEL, and {gpu_memory:.0%} of their memory, VOTEQUEUE_GPU_MEMORY)"
        )
    rest = visible[min(len(engines), len(groups)) * tensor_parallel :] or visible
    chosen = {name: groups[at % len(groups)] for at, name in enumerate(engines)}
    chosen |= {name: [rest[at % len(rest)]] for at, name in enumerate(others)}
    # nvidia-smi numbers GPUs by their place on the bus, CUDA the fastest first unless told otherwise.
    order = {} if GPUS in environment else {ORDER: environment.get(ORDER, "PCI_BUS_ID")}
    return {name: {GPUS: ",".join(group), **order} for name, group in chosen.items()}
