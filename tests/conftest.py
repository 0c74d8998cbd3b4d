"""What tests at every level stand on: an environment of their own, a broker, and the command line."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import prometheus_client
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from producers import cli
from shared import broker, settings
from shared.ledger import engine
from shared.settings import PREFIX
from tests import valkey

Value = Callable[..., float]
# Test machines may be busy: how long an example takes is no failure.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")


def forget() -> None:
    """Close and forget what was made from the settings."""
    if engine.engine.cache_info().currsize:
        engine.engine().dispose()
    if broker.client.cache_info().currsize:
        broker.client().close()
    for made in (settings.load, engine.engine, broker.client, broker.queue_of):
        made.cache_clear()


# Its tests start engines, which need much memory: one process runs them one after another, from the start.
ENGINES = "tests/e2e/"
# Files that take minutes: begun early, or one process would work on them while the others have nothing to do.
LONG = (
    "tests/integration/test_train.py",
    "tests/integration/test_scorer.py",
    "tests/integration/test_limits.py",
    "tests/chaos/",
)


class Scheduler(LoadScopeScheduling):
    """Runs all tests of a file in one process, and all tests of `ENGINES` in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return ENGINES if nodeid.startswith(ENGINES) else nodeid.partition("::")[0]


def pytest_configure() -> None:
    """Give torch one thread where several processes run tests: by default each would use all cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """Use `Scheduler` with `-n`: xdist's own `--dist loadgroup` has no effect with pytest 9.2."""
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `ENGINES` and `LONG` at the beginning."""
    items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in (ENGINES, *LONG)])


@pytest.fixture(scope="session", autouse=True)
def _heed_ctrl_c() -> None:
    """Heed SIGINT as in a terminal: a script's background job ignores it, and so would all its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Undo what a command sets for its whole process, which here is that of all tests."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty working directory with no setting set, its ledger below it; no broker answers."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTEQUEUE_HOME", str(tmp_path / "var"))
    _use_broker(monkeypatch, f"redis://127.0.0.1:{valkey.free_port()}/0")
    forget()
    yield tmp_path
    forget()


@pytest.fixture(scope="session", name="valkey")
def _valkey() -> Iterator[str]:
    """Start the embedded Valkey; give its URL."""
    with valkey.running() as url:
        yield url


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


@pytest.fixture
def more() -> Value:
    """Give a function that tells how much a metric has grown since the test began."""
    registry = prometheus_client.REGISTRY
    before = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }

    def grown(name: str, **labels: str) -> float:
        name = f"votequeue_{name}"
        now = registry.get_sample_value(name, labels) or 0.0
        return now - before.get((name, *sorted(labels.items())), 0.0)

    return grown
