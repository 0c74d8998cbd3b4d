"""The environment variables that vLLM is started with, in a worker and as a chat server.

variables(kv_cache_gib=2)  ->  {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2", ...}
"""

import os


def variables(kv_cache_gib: int) -> dict[str, str]:
    """Give the variables; those that the caller's environment sets already win over them."""
    values = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
    }
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        # By itself the CPU build leaves a core free, which on two cores is half the machine.
        values["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    return values


def set_defaults(kv_cache_gib: int) -> None:
    """Put into this process's environment what is not set there yet."""
    for name, value in variables(kv_cache_gib).items():
        os.environ.setdefault(name, value)
