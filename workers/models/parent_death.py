"""vLLM plugin: an engine process dies with the worker that started it.

vLLM's EngineCore outlives a worker killed by SIGKILL, and keeps its memory (vllm issue 55510). This is a vLLM
general plugin (see pyproject.toml): vLLM calls it in every process that it starts. The worker learns from
`engine_faults` why a process died.
"""

import multiprocessing

from shared import parent_death
from workers.models import engine_faults


def die_with_parent() -> None:
    """Tie this process to the one that started it through multiprocessing; without one, do nothing.

    Raises:
        OSError: the kernel refuses.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        engine_faults.record()
        parent_death.tie(parent.pid)
