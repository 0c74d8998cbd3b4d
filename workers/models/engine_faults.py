"""Faults of an engine's process: why it died, and whether it hangs.

    Watchdog().hangs(busy=True, outputs=812, cpu=95.2, now=40.0)  ->  True, 30 s after the last sign of life

vLLM tells its client only that the engine is dead. The engine's process logs the cause, which `record` copies
into a file of the worker's (a vLLM general plugin, see pyproject.toml).
"""

import logging
import os
import re
import tempfile
import weakref
from pathlib import Path

ERRORS = "ENGINE_ERRORS"  # names the file in the environment of the engine's processes
HANGS_AFTER = 30.0  # seconds without output and CPU time, while requests wait or the model is loaded
SILENT_AFTER = 300.0  # seconds without output on a GPU, for which a process can wait in a busy loop
EVERY = 1.0  # seconds between two looks
WORKS = 0.1  # seconds of CPU time that show work; a process that hangs has threads that wake up now and then
_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory|can't allocate memory", re.IGNORECASE)
_TICKS = os.sysconf("SC_CLK_TCK")


def record() -> None:
    """Copy the errors that vLLM logs in this process into the worker's file, if it has one."""
    if path := os.environ.get(ERRORS):
        handler = logging.FileHandler(path, encoding="utf-8", delay=True)
        handler.addFilter(lambda logged: bool(logged.exc_info))
        logging.getLogger("vllm").addHandler(handler)


class ErrorFile:
    """The file that `record` writes in the processes that this one starts."""

    def __init__(self) -> None:
        opened, name = tempfile.mkstemp(prefix="engine-")
        os.close(opened)
        self._path = Path(name)
        weakref.finalize(self, self._path.unlink, missing_ok=True)

    def clear(self) -> None:
        """Forget the errors of an earlier engine."""
        os.environ[ERRORS] = str(self._path)
        self._path.write_bytes(b"")

    def read(self) -> tuple[str, bool]:
        """Give the last line, which names the error (empty: none), and whether memory ran out."""
        text = self._path.read_text(encoding="utf-8", errors="replace")
        return (text.strip().splitlines() or [""])[-1].strip(), bool(_OUT_OF_MEMORY.search(text))


class Watchdog:
    """Tells from an engine's outputs and CPU time whether it hangs; a long prefill has no outputs."""

    def __init__(self) -> None:
        self._outputs, self._cpu, self._seen_at = 0, 0.0, 0.0
        self._still = self._silent = 0.0

    def hangs(self, busy: bool, outputs: int, cpu: float, now: float, on_gpu: bool = False) -> bool:
        """Tell whether an engine that is ``busy`` does nothing; ``cpu`` and ``now`` are in seconds."""
        # A worker that was itself stopped has seen nothing meanwhile.
        passed, self._seen_at = min(now - self._seen_at, 2 * EVERY), now
        silent = busy and outputs == self._outputs
        still = silent and 0 <= cpu - self._cpu < WORKS
        self._silent = self._silent + passed if silent else 0.0
        self._still = self._still + passed if still else 0.0
        if not still:
            self._outputs, self._cpu = outputs, cpu
        return self._still >= HANGS_AFTER or (on_gpu and self._silent >= SILENT_AFTER)


def cpu_seconds(pid: int) -> float:
    """Sum up the CPU time of a process and of its children; 0: it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        listed = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return 0.0
    below = sum(cpu_seconds(int(child)) for children in listed for child in children.split())
    return (int(fields[11]) + int(fields[12])) / _TICKS + below
