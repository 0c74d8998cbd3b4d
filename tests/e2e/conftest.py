"""Real workers with real engines, as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from shared.ledger import runs
from shared.ledger.schema import State
from tests import tiny, waiting

READY = b"ready: batches of"


@dataclass
class Worker:
    """A worker process, its log, and the processes that its engine consists of."""

    process: subprocess.Popen[bytes]
    log: Path

    def await_ready(self) -> None:
        """Wait until its engine is loaded."""
        waiting.until(lambda: READY in self.log.read_bytes() or self.process.poll() is not None, self.log)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def engine(self) -> list[psutil.Process]:
        """Give the processes below it, such as vLLM's EngineCore."""
        return psutil.Process(self.process.pid).children(recursive=True)


Start = Callable[..., Worker]


@pytest.fixture(autouse=True)
def _all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engines have the cores that other tests leave to each other."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the weights of a model that knows nothing."""
    return tiny.make(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def start_worker(home: Path) -> Iterator[Start]:
    """Give a function that starts `votequeue worker QUEUE` with settings of its own."""
    started: list[Worker] = []

    def start(queue: str, **settings: object) -> Worker:
        log = home / f"{queue}-{len(started)}.log"
        chosen = {f"VOTEQUEUE_{name.upper()}": str(value) for name, value in settings.items()}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "producers.cli", "worker", queue],
                env={**os.environ, **chosen},
                stdout=file,
                stderr=file,
            )
        started.append(Worker(process, log))
        return started[-1]

    yield start
    for worker in started:
        worker.process.terminate()
    for worker in started:
        worker.process.wait(timeout=60)


def is_complete(run: str) -> bool:
    """Tell whether no question of a run is open any more."""
    counts = runs.count_states(run)
    return counts[State.PENDING] == counts[State.LEASED] == 0
