"""Faults of a real engine: `python -m tests.chaos.engine` (10 to 20 minutes on two cores).

The worker runs the real weights. Its EngineCore is killed while it loads, reads prompts and decodes, and is
stopped (SIGSTOP) while it decodes; at last its steps raise two errors, out of memory and another. Exit 1: a
question was lost, buried or charged, a process was left, or the log has a stack where a line is enough.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import sqlalchemy as sa

from producers import cli, sample
from shared.ledger import engine, sampling_progress
from shared.ledger.sampling_progress import Sampled
from shared.settings import PREFIX
from tests import valkey, waiting
from tests.e2e.conftest import READY, is_complete

QUESTIONS, TOKENS, VOTES = 4, 64, 3
SETTINGS = {"KV_CACHE_GIB": "1", "MAX_MODEL_LEN": "4096"}
DIED, HANGS = "the engine's process died (", "the engine hangs"
LOADING_AGAIN = "was killed while it loaded the model: it is started again"
FEWER = "sequences are sampled at a time from now on"
STACK = "Traceback (most recent call last)"
FAULT = "ENGINE_FAULT"  # names a file: the error that the engine's next step raises
# Python imports this module at the start of each process that finds it on its path.
SITECUSTOMIZE = f"""
import importlib.abc, importlib.util, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "vllm.v1.core.sched.scheduler":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), patch(module.Scheduler))
        return spec

def patch(scheduler):
    schedule = scheduler.schedule
    def fail_or_schedule(*args, **keywords):
        try:
            with open(os.environ["{FAULT}"]) as file:
                message = file.read()
            os.unlink(os.environ["{FAULT}"])
        except OSError:
            return schedule(*args, **keywords)
        raise RuntimeError(message)
    scheduler.schedule = fail_or_schedule

sys.meta_path.insert(0, Finder())
"""


@dataclass
class Struck:
    """A worker whose engine is struck, and what came of it."""

    process: "subprocess.Popen[bytes]"
    log: Path
    rows: list[tuple[str, str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def engine(self) -> list[psutil.Process]:
        """Give EngineCore and the processes below it, without Python's resource tracker."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in found if "resource_tracker" not in " ".join(each.cmdline())]

    def strike(self, blow: signal.Signals) -> None:
        """Send a signal to the engine's processes, EngineCore first."""
        for process in self.engine():
            process.send_signal(blow)

    def await_line(self, line: str, seconds: float, count: int = 1) -> float:
        """Wait until a line is in the log ``count`` times; give how long it took."""
        return waiting.seconds_until(
            lambda: self.log.read_text().count(line) >= count, self.log, within=seconds
        )

    def note(self, name: str, value: str, broken: bool = False) -> None:
        """Add a row; a broken promise is also named at the end."""
        print(f"    {name}: {value}", file=sys.stderr)
        self.rows.append((name, value))
        self.bad += [f"{name}: {value}"] if broken else []


def under_way(run: str) -> Sampled | None:
    """Give what the worker samples for a run, by its last report."""
    with engine.reading() as connection:
        return sampling_progress.of_run(connection, run)


def is_reading(run: str) -> bool:
    """Tell whether prompts are read, and nothing is decoded yet."""
    now = under_way(run)
    return now is not None and 0 < now.votes_under_way == now.votes_not_begun


def is_decoding(run: str) -> bool:
    """Tell whether some votes have tokens."""
    now = under_way(run)
    return now is not None and now.tokens_under_way > 0


def losses(run: str) -> int:
    """Count the claims of a run that were lost with the engine."""
    query = "SELECT count(*) FROM attempts WHERE run = :run AND outcome LIKE 'lost%'"
    with engine.reading() as connection:
        return int(connection.scalar(sa.text(query), {"run": run}) or 0)


def charged(run: str) -> tuple[int, int]:
    """Count the questions of a run without an answer, and those with other attempts than rounds of votes."""
    with engine.reading() as connection:

        def count(query: str) -> int:
            return int(connection.scalar(sa.text(query), {"run": run}) or 0)

        open_items = count("SELECT count(*) FROM items WHERE run = :run AND state <> 'done'")
        wrongly = count(
            "SELECT count(*) FROM items WHERE run = :run AND attempt <> (SELECT count(DISTINCT attempt) FROM "
            "votes WHERE votes.run = items.run AND votes.number = items.number)"
        )
    return open_items, wrongly


@contextmanager
def stage(folder: Path) -> Iterator[Struck]:
    """Start a broker and a worker with the real weights, whose engine is killed while it loads."""
    with valkey.running() as url:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            del os.environ[name]
        chosen = {"HOME": str(folder / "var"), "BROKER_URL": url, **SETTINGS}
        os.environ.update({f"{PREFIX}{name}": value for name, value in chosen.items()})
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        path = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
        os.environ.update({FAULT: str(folder / "fault"), "PYTHONPATH": ":".join(filter(None, path))})
        log = folder / "worker.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "producers.cli", "worker", "infer"]
            process = subprocess.Popen(command, stdout=file, stderr=file)
        struck = Struck(process, log)
        try:
            yield struck
        finally:
            process.kill()


def enqueue(folder: Path, run: str, seed: int) -> None:
    """Enqueue a few puzzles with two solved ones each."""
    solved, data = folder / "solved.jsonl", folder / f"{run}.jsonl"
    sample.write(sample.generate(20, seed=1, difficulty=1), solved, force=True)
    entries = list(sample.generate(QUESTIONS, seed=seed, difficulty=1))
    for entry in entries:
        del entry["questions"][1:]
    sample.write(iter(entries), data)
    shape = ["--votes", VOTES, "--max-attempts", 1, "--max-tokens", TOKENS, "--examples", solved]
    assert cli.main(["enqueue", "infer", *map(str, [data, "--run", run, *shape])]) == 0


def strike_while(
    struck: Struck,
    folder: Path,
    run: str,
    when: Callable[[str], bool],
    strike: Callable[[], object],
    line: str,
) -> None:
    """Let a run reach a phase, strike, and wait for its answers."""
    enqueue(folder, run, seed=len(struck.rows) + 2)
    waiting.until(lambda: when(run), struck.log)
    before = struck.log.read_text().count(line)
    strike()
    noticed = struck.await_line(line, 120, before + 1)
    struck.note(f"{run}: noticed after, s", f"{noticed:.1f}")
    answered = waiting.seconds_until(lambda: is_complete(run), struck.log, within=900)
    lost, wrongly = charged(run)
    struck.note(f"{run}: answered after another, s", f"{answered:.0f}")
    struck.note(f"{run}: lost / attempts charged", f"{lost} / {wrongly}", broken=bool(lost or wrongly))


def play(folder: Path) -> Struck:
    """Strike the engine in each phase."""
    with stage(folder) as struck:
        waiting.until(lambda: len(struck.engine()) > 0, struck.log)
        time.sleep(3)
        struck.strike(signal.SIGKILL)
        struck.note("loading: noticed after, s", f"{struck.await_line(LOADING_AGAIN, 60):.1f}")
        again = waiting.seconds_until(lambda: READY in struck.log.read_bytes(), struck.log)
        struck.note("loading: ready after another, s", f"{again:.0f}")
        kill, stop = (partial(struck.strike, blow) for blow in (signal.SIGKILL, signal.SIGSTOP))
        strike_while(struck, folder, "prefill", is_reading, kill, DIED)
        strike_while(struck, folder, "decoding", is_decoding, kill, DIED)
        strike_while(struck, folder, "hang", is_decoding, stop, HANGS)
        log = struck.log.read_text()
        struck.note("hangs noticed", str(log.count(HANGS)), broken=log.count(HANGS) != 1)
        struck.note("stacks in the log", str(log.count(STACK)), broken=STACK in log)
        fault = folder / "fault"
        memory = partial(fault.write_text, "CUDA out of memory. Tried to allocate 2.00 GiB")
        strike_while(struck, folder, "memory", is_decoding, memory, FEWER)
        struck.note("memory: questions blamed", str(losses("memory")), broken=losses("memory") > 0)
        crash = partial(fault.write_text, "index out of range")
        strike_while(struck, folder, "crash", is_decoding, crash, "(RuntimeError: index out of range;")
        struck.note("crash: questions blamed", str(losses("crash")), broken=losses("crash") == 0)
        processes = struck.engine()
        struck.process.terminate()
        struck.process.wait(60)
        left = psutil.wait_procs(processes, timeout=10)[1]
        struck.note("processes left", str(len(left)), broken=bool(left))
    return struck


def main() -> int:
    """Play, and print a table."""
    with tempfile.TemporaryDirectory(prefix="engines-") as name:
        struck = play(Path(name))
        log = struck.log.read_text()
    print("| engine faults | |\n|---|---|")
    for row in struck.rows:
        print(f"| {row[0]} | {row[1]} |")
    if struck.bad:
        print(json.dumps(struck.bad), log[-5000:], sep="\n")
    else:
        print("every promise was kept")
    return int(bool(struck.bad))


if __name__ == "__main__":
    sys.exit(main())
