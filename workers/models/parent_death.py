"""Let the engine's or a training's process die with its worker.

vLLM's EngineCore outlives a worker killed by SIGKILL, and keeps its memory (vllm issue 55510). This is a vLLM
general plugin (see pyproject.toml): vLLM calls it in every process that it starts.
"""

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Tie this process to the one that started it, if multiprocessing did; in a worker, say, do nothing.

    Raises:
        OSError: the kernel refuses.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        tie(parent.pid)


def tie(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2), Linux).

    Raises:
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the request stood: then nobody would ever send the signal.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
