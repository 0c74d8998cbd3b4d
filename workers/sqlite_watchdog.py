"""Break SQLite's write lock when a stopped process holds it.

    FrozenWriter(Path("var/ledger.db"), patience=15.0).look()   every second

PostgreSQL ends such a session by itself (see `engine`); SQLite has no server to do so. The kernel reports the
holder of the lock (proc(5), /proc/locks) and the state of its process.
"""

import logging
import os
import signal
import time
from pathlib import Path

from shared import processes, settings
from shared.ledger import engine, leases

log = logging.getLogger(__name__)
WRITE_LOCK = "120"  # the byte of the -shm file that a writer locks (sqlite.org/walformat.html)
STOPPED = ("T", "t")  # states of a process: stopped by a signal, or by a debugger


class FrozenWriter:
    """Kills a stopped worker that holds the write lock longer than ``patience`` seconds, the lease's length.

    Its claims have expired by then. Another process, such as a person's, is only named in the log.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path = path.with_name(f"{path.name}-shm")
        self._patience = patience
        self._seen: tuple[int, float] | None = None

    def look(self) -> None:
        """Check the holder of the lock; call this every second."""
        pid = self._stopped_writer()
        if pid is None or pid == os.getpid():
            self._seen = None
            return
        if self._seen is None or self._seen[0] != pid:
            self._seen = (pid, time.monotonic())
        elif time.monotonic() - self._seen[1] > self._patience:
            self._end(pid)

    def _stopped_writer(self) -> int | None:
        try:
            file = self._path.stat()
            where = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()
                if fields[3:] and fields[3] == "WRITE" and fields[5] == where and fields[6] == WRITE_LOCK:
                    return int(fields[4]) if processes.state(int(fields[4])) in STOPPED else None
        except OSError:
            return None
        return None

    def _end(self, pid: int) -> None:
        if not leases.is_worker_here(pid):
            log.warning(
                "process %d is stopped and holds the write lock of the ledger: continue it, or end it", pid
            )
            return
        log.warning("worker process %d was stopped while it held the write lock of the ledger: ended", pid)
        os.kill(pid, signal.SIGKILL)
        self._seen = None


def watch() -> FrozenWriter | None:
    """Build the watchdog of this process's ledger; ``None`` if the ledger has a server."""
    database = engine.engine().url.database
    if engine.engine().dialect.name != "sqlite" or not database:
        return None
    return FrozenWriter(Path(database), settings.load().lease)
