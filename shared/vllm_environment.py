"""Environment variables and data type for vLLM on this machine, in workers and as a chat server.

variables(kv_cache_gib=2)  ->  {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2", ...}
cpu_dtype()  ->  "float32"
"""

import os
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def variables(kv_cache_gib: int) -> dict[str, str]:
    """Give the variables; those of the caller's environment take precedence."""
    values = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
    }
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        # By default the CPU build leaves a core free, which is half of a machine with two cores.
        values["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    return values


def set_defaults(kv_cache_gib: int) -> None:
    """Set the variables that are not set in this process's environment."""
    for name, value in variables(kv_cache_gib).items():
        os.environ.setdefault(name, value)


def cpu_dtype() -> str:
    """Choose the data type for sampling on this CPU: float32 if it has no bfloat16 instructions.

    Emulated bfloat16 takes two to three times as long for matrix products from 16 rows on.
    """
    # x86 lists avx512_bf16 and amx_bf16 among the flags, ARM bf16.
    known = CPU_INFO.is_file() and "bf16" in CPU_INFO.read_text(encoding="utf-8", errors="replace")
    return "bfloat16" if known else "float32"
