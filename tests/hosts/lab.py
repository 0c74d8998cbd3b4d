"""Hosts in namespaces of their own on one bridge: network, pid, host name and mounts.

    with Lab() as lab:
        db = lab.host("db", 20)                      # 10.77.0.20
        db.start(["postgres", ...], user="postgres")
        db.cut(); db.join()

All of it lives in the namespaces of one process (`contained`), so that nothing is left when that ends. Root
can make them, and so can a user where the kernel permits unprivileged user namespaces.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests import waiting
from tests.hosts.impaired_link import ImpairedLink

NETWORK, BRIDGE = "10.77.0", "lab0"
OWN = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
TOOLS = ("ip", "unshare", "nsenter")


def contained() -> list[str]:
    """Give the words before a command that runs in namespaces in which it may make hosts."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *user, *OWN]


def not_installed() -> str | None:
    """Say which programs are missing; ``None``: all are there."""
    lacking = [name for name in TOOLS if shutil.which(name) is None]
    return (
        f"{', '.join(lacking)} not installed (Debian: apt-get install iproute2 util-linux)"
        if lacking
        else None
    )


def forbidden() -> str | None:
    """Say why the kernel lets us make no hosts; ``None``: it does."""
    made = f"ip link add {BRIDGE} type bridge && ip link add v0 type veth peer name v1"
    done = subprocess.run([*contained(), "sh", "-c", made], capture_output=True, text=True, check=False)
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"this kernel or container lets us make no hosts: {reason}" if done.returncode else None


def run(*words: object) -> None:
    """Run a command that must succeed."""
    subprocess.run([*map(str, words)], check=True, stdout=subprocess.DEVNULL)


@dataclass
class Host:
    """A host with an address; ``init`` is the process that its namespaces live as long as."""

    name: str
    address: str
    init: int
    link: "ImpairedLink | None" = None
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def port(self) -> str:
        """Give its port of the bridge, as `ip` names it."""
        return f"p-{self.name}"

    def command(self, words: Sequence[object], user: str | None = None) -> list[str]:
        """Give the words that run a command on this host."""
        as_user: list[str] = []
        if user is not None and os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            as_user = ["--setuid", str(entry.pw_uid), "--setgid", str(entry.pw_gid)]
        spaces = ["--target", str(self.init), "--net", "--uts", "--pid", "--mount"]
        # The folder of this process is not known in another mount namespace.
        return ["nsenter", *spaces, *as_user, f"--wdns={Path.cwd()}", "--", *map(str, words)]

    def start(
        self,
        words: Sequence[object],
        log: Path,
        settings: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a process on this host, which ends with it."""
        with log.open("ab") as file:
            environment = {**os.environ, **(settings or {})}
            process = subprocess.Popen(
                self.command(words, user), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment
            )
        self.processes.append(process)
        return process

    def run(self, words: Sequence[object], user: str | None = None) -> None:
        """Run a command on this host to its end."""
        run(*self.command(words, user))

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill the process that `start` started, not the one that waits for it outside."""
        for child in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait()

    def cut(self) -> None:
        """Pull the cable: no packet passes, and nobody is told."""
        run("ip", "link", "set", self.port, "nomaster")

    def join(self) -> None:
        """Plug it in again."""
        run("ip", "link", "set", self.port, "master", BRIDGE)

    def impair(self, loss: float, delay: float) -> None:
        """Lose a share of all packets, and delay each by some seconds in each direction; 0, 0: mend it."""
        if self.link is not None:
            self.link.loss, self.link.delay = loss, delay
            return
        act = "replace" if loss or delay else "del"
        how = ["netem", "loss", f"{loss:.0%}", "delay", f"{delay * 1000:.0f}ms"] if loss or delay else []
        run("tc", "qdisc", act, "dev", self.port, "root", *how)
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run(["tc", "qdisc", act, "dev", "eth0", "root", *how])


class Lab:
    """The bridge and its hosts; this process must be `contained`, and has the address 10.77.0.1."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._inits: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Lab":
        """Make the bridge."""
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes of all hosts."""
        for init in self._inits:
            init.kill()
            init.wait()
        for host in self.hosts:
            for process in host.processes:
                process.wait()
            if host.link is not None:
                host.link.stop()

    def host(self, name: str, number: int, impairable: bool = False) -> Host:
        """Make a host; ``impairable``: where the kernel has no netem, its packets go through this process."""
        spaces = ["unshare", "--net", "--uts", *OWN[1:], "--"]
        boot = f"hostname {name} && exec sleep infinity"
        outer = subprocess.Popen([*spaces, "sh", "-c", boot], stdin=subprocess.DEVNULL)
        self._inits.append(outer)
        inner, *_ = waiting.until(lambda: children(outer.pid))
        host = Host(name, f"{NETWORK}.{number}", inner)
        if impairable and not has_netem():
            host.link = ImpairedLink(host.port, f"h-{name}")
            host.link.start()
        else:
            run("ip", "link", "add", host.port, "type", "veth", "peer", "name", f"h-{name}")
        run("ip", "link", "set", f"h-{name}", "netns", host.init)
        host.run(["ip", "link", "set", f"h-{name}", "name", "eth0"])
        host.run(["ip", "addr", "add", f"{host.address}/24", "dev", "eth0"])
        for device in ("lo", "eth0"):
            host.run(["ip", "link", "set", device, "up"])
        run("ip", "link", "set", host.port, "up")
        host.join()
        self.hosts.append(host)
        return host


def has_netem() -> bool:
    """Tell whether this kernel can impair a link."""
    if shutil.which("tc") is None:
        return False
    words = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0ms"]
    added = subprocess.run(words, capture_output=True, check=False).returncode == 0
    if added:
        run("tc", "qdisc", "del", "dev", "lo", "root")
    return added


def children(pid: int) -> list[int]:
    """Give the processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def become_contained(module: str) -> None:
    """Run a module again in namespaces of its own, unless this process is in them; exit as it does."""
    if os.environ.get("LAB") == "1":
        return
    command = [*contained(), sys.executable, "-m", module, *sys.argv[1:]]
    os.execvpe(command[0], command, {**os.environ, "LAB": "1"})
