"""A real PostgreSQL server for tests, from Debian's packages, in a folder of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """Find the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def server(programs: Path) -> Iterator[str]:
    """Run a server on a free port; give the URL of its maintenance database."""
    folder = Path(tempfile.mkdtemp(prefix="votequeue-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        run(programs / "initdb", "-D", folder / "data", "-U", "votequeue", "-A", "trust", "-E", "UTF8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
        run(programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://votequeue@127.0.0.1:{port}/postgres"
        finally:
            run(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(*command: object) -> None:
    """Run a server program; it refuses to be root, so root becomes the user that the package made."""
    become: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    subprocess.run([*map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL, **become)
