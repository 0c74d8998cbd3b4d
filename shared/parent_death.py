"""End this process when its parent ends: prctl(PR_SET_PDEATHSIG), on Linux only.

tie(os.getppid())
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


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
