"""Lets the engine's process die with its worker.

vLLM's EngineCore outlives a worker killed by SIGKILL, and keeps its memory (vllm issue 55510). This is a vLLM
general plugin (see pyproject.toml): vLLM calls it in every process that it starts.
"""

import ctypes
import multiprocessing
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2), Linux).

    In a process that multiprocessing did not start, such as the worker itself, it does nothing.

    Raises:
        OSError: the kernel refuses.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the request stood: then nobody would ever send the signal.
    if os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)
