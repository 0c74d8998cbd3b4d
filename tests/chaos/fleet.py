"""Worker processes that are started again whenever they end, as `votequeue up` does it.

    fleet.watch()  ->  [Death(slot=2, pid=4711, at=1795341142.53, code=-9)]

Each runs behind `infra.leash` with its note where `up` keeps it, and logs to a file of its own.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class Fleet:
    """``size`` workers of the infer queue below ``home``."""

    home: Path
    size: int
    deaths: list[Death] = field(default_factory=list)
    # When each worker process was ready for questions: (pid, from, until), in seconds since the epoch.
    ready: list[tuple[int, float, float]] = field(default_factory=list)
    _since: dict[int, float] = field(default_factory=dict)
    _silent: dict[int, int] = field(default_factory=dict)
    _processes: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _killed: dict[int, float] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Start all workers."""
        self.notes.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
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

    def watch(self) -> None:
        """Note who has ended, and start each anew."""
        for slot, process in list(self._processes.items()):
            if process.poll() is not None:
                at = self._killed.get(process.pid, time.time())
                ours = process.pid in self._killed
                self.deaths.append(Death(slot, process.pid, at, process.returncode, ours))
                self._stopped.discard(slot)
                if (since := self._since.pop(slot, None)) is not None:
                    self.ready.append((process.pid, since, at))
                self._start(slot)
        for slot, offset in list(self._silent.items()):
            if READY in self._log(slot).read_bytes()[offset:]:
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
            process.kill()

    def freeze(self, slot: int) -> None:
        """Stop a worker: it keeps its connections and does nothing."""
        self._processes[slot].send_signal(signal.SIGSTOP)
        self._stopped.add(slot)

    def thaw(self, slot: int) -> None:
        """Let a stopped worker go on, if it is still the one."""
        if slot in self._stopped:
            self._stopped.discard(slot)
            self._processes[slot].send_signal(signal.SIGCONT)

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
        for process in self._processes.values():
            process.terminate()
        stubborn = []
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                stubborn.append(process.pid)
                process.kill()
                process.wait()
        return stubborn

    def _start(self, slot: int) -> None:
        leash = [sys.executable, "-m", "infra.leash", str(self.notes / f"infer-{slot}"), "--"]
        command = [*leash, sys.executable, "-m", "tests.chaos.worker", "infer"]
        with self._log(slot).open("ab") as log:
            self._silent[slot] = log.tell()
            self._processes[slot] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=dict(os.environ)
            )

    def _log(self, slot: int) -> Path:
        return self.logs / f"infer-{slot}.log"
