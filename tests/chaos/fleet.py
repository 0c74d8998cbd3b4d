"""Worker processes that are started again whenever they end, as `votequeue up` does it.

    fleet.watch()  ->  [Death(slot=2, pid=4711, at=1795341142.53, code=-9)]

Each runs behind `infra.parent_death` with its note where `up` keeps it, and logs to a file of its own.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.chaos import worker

STOP_SECONDS = 40.0
READY = b"ready: batches of"


@dataclass(frozen=True)
class Death:
    """The end of a worker process; ``code`` is negative for a signal."""

    slot: int
    pid: int
    at: float
    code: int
    ours: bool


class Process(Protocol):
    """A worker process."""

    @property
    def pid(self) -> int:
        """Give its pid."""

    def poll(self) -> int | None:
        """Give how it ended, negative for a signal, or None while it runs."""


@dataclass
class Forked:
    """A worker that is a fork of this process."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        """Give how it ended, if it did."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code


@dataclass
class Fleet:
    """``size`` workers of the infer queue below ``home``.

    ``cold``: each is started as `up` does it, and imports everything; else they are forks of this process.
    """

    home: Path
    size: int
    cold: bool = False
    deaths: list[Death] = field(default_factory=list)
    # When each worker process was ready for questions: (pid, from, until), in seconds since the epoch.
    ready: list[tuple[int, float, float]] = field(default_factory=list)
    _since: dict[int, float] = field(default_factory=dict)
    _silent: dict[int, int] = field(default_factory=dict)
    _processes: dict[int, Process] = field(default_factory=dict)
    _killed: dict[int, float] = field(default_factory=dict)
    # When a worker process was told to stop: by its pid, in seconds since the epoch.
    told: dict[int, float] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Start all workers."""
        self.notes.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if not self.cold:
            worker.preload()
        for slot in range(1, self.size + 1):
            self._start(slot)

    @property
    def notes(self) -> Path:
        """Give the folder of the pid notes."""
        return self.home / "supervisor" / "pids"

    @property
    def logs(self) -> Path:
        """Give the folder of the logs."""
        return self.home / "logs"

    @property
    def pids(self) -> list[int]:
        """Give the pids of the worker processes."""
        return [process.pid for process in self._processes.values()]

    def pid(self, slot: int) -> int:
        """Give the pid of the worker process in a slot."""
        return self._processes[slot].pid

    def watch(self) -> None:
        """Note who has ended, and start each anew."""
        for slot, process in list(self._processes.items()):
            if (code := process.poll()) is not None:
                at = self._killed.get(process.pid, time.time())
                ours = process.pid in self._killed | self.told.keys()
                self.deaths.append(Death(slot, process.pid, at, code, ours))
                self._stopped.discard(slot)
                if (since := self._since.pop(slot, None)) is not None:
                    self.ready.append((process.pid, since, at))
                self._start(slot)
        for slot, offset in list(self._silent.items()):
            log = self._log(slot)
            if log.exists() and READY in log.read_bytes()[offset:]:
                del self._silent[slot]
                self._since[slot] = time.time()

    def all_ready(self) -> bool:
        """Tell whether all workers are ready for questions."""
        return len(self._since) == self.size

    def kill(self, slot: int) -> None:
        """Kill a worker as the kernel would."""
        process = self._processes[slot]
        if process.poll() is None:
            self._killed[process.pid] = time.time()
            os.kill(process.pid, signal.SIGKILL)

    def tell(self, slot: int) -> None:
        """Tell a worker to stop, as a cluster does; not one that still starts or has been told."""
        process = self._processes[slot]
        if slot in self._since and process.poll() is None and process.pid not in self.told:
            self.told[process.pid] = time.time()
            os.kill(process.pid, signal.SIGTERM)

    def freeze(self, slot: int) -> None:
        """Stop a worker: it keeps its connections and does nothing."""
        os.kill(self._processes[slot].pid, signal.SIGSTOP)
        self._stopped.add(slot)

    def thaw(self, slot: int) -> None:
        """Let a stopped worker go on, if it is still the one."""
        if slot in self._stopped:
            self._stopped.discard(slot)
            os.kill(self._processes[slot].pid, signal.SIGCONT)

    def awake(self) -> list[int]:
        """Give the slots of those that are not stopped."""
        return [slot for slot in self._processes if slot not in self._stopped]

    def end(self) -> list[int]:
        """Stop all workers in order; give the pids of those that had to be killed."""
        for slot in list(self._stopped):
            self.thaw(slot)
        for slot, since in self._since.items():
            self.ready.append((self._processes[slot].pid, since, time.time()))
        self._since.clear()
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while (running := [each for each in running if each.poll() is None]) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in running:
            os.kill(process.pid, signal.SIGKILL)
        return [process.pid for process in running]

    def _start(self, slot: int) -> None:
        log = self._log(slot)
        self._silent[slot] = log.stat().st_size if log.exists() else 0
        self._processes[slot] = self._cold(slot) if self.cold else Forked(worker.fork("infer", log))

    def _cold(self, slot: int) -> Process:
        wrapper = [sys.executable, "-m", "infra.parent_death", str(self.notes / f"infer-{slot}"), "--"]
        command = [*wrapper, sys.executable, "-m", "tests.chaos.worker", "infer"]
        with self._log(slot).open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _log(self, slot: int) -> Path:
        return self.logs / f"infer-{slot}.log"
