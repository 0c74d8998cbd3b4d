"""A run of real workers against a service that fails in 30 % of all calls, with workers killed on the way.

    python -m tests.e2e.faulty reason 500  ->  a table of how calls and items ended

The test beside it asserts on what this gives; run by hand, it prints the table.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from producers import cli, sample
from shared.ledger import engine, runs, schema
from tests import valkey, waiting
from tests.e2e.conftest import is_complete
from tests.servers.openai import Arrival, ChatServer, oblige

KEY = "sk-one-that-nobody-may-see-5f1e"
PER_SECOND, AT_ONCE = 40, 24
WORKERS, KILLED = 4, 2
FAULTS = {
    "throttled": 0.02,
    "throttled with delay": 0.01,
    "server error": 0.07,
    "reset": 0.07,
    "timeout": 0.03,
    "truncated": 0.04,
    "empty": 0.03,
    "wrong number": 0.02,
    "filtered": 0.01,
}
SETTINGS = {
    "CHAT_API_KEY": KEY,
    "LIMITS": f'{{"chat": {{"per_second": {PER_SECOND}, "per_minute": null, "max_concurrency": {AT_ONCE}}}}}',
    "PRICES": '{"chat": {"input": 1, "output": 2}}',
    "CALL_TIMEOUT": "3",
    "LEASE": "6",
    "HEARTBEAT": "1",
    # The waits between the calls for one question double each time: with this, none is longer than 16 s.
    "MAX_FAILURES": "6",
}
QUEUES = {
    "reason": ["reason", "--label", "correct"],
    "translate": ["translate", "--strategy", "back-translation"],
}


@dataclass
class Told:
    """What the run came to, by the server's count and by the ledger's."""

    arrivals: list[Arrival]
    most_in_second: int
    most_at_once: int
    states: dict[str, int]
    reasons: list[str]
    outcomes: dict[str | None, int]
    seconds: float
    logs: list[Path] = field(default_factory=list)

    @property
    def answered_twice(self) -> int:
        """Count the good replies that were given for a prompt beyond its first."""
        good = Counter(arrival.prompt for arrival in self.arrivals if arrival.outcome == "ok")
        return sum(count - 1 for count in good.values())


def reply(prompt: str) -> str:
    """Answer as a good model would; a translation that changes nothing would count for none."""
    text = oblige(prompt)
    texts = json.loads(text) if text.startswith("[") else None
    return text if texts is None else json.dumps([f"{one}了" for one in texts], ensure_ascii=False)


def write_questions(path: Path, questions: int) -> None:
    """Write generated puzzles, one question each."""
    entries = list(sample.generate(questions, seed=3))
    for entry in entries:
        del entry["questions"][1:]
    sample.write(iter(entries), path)


def play(queue: str, questions: int, home: Path) -> Told:
    """Play a run to its end in an empty home, with a broker that answers; two of its workers are killed."""
    data = home / "data.jsonl"
    write_questions(data, questions)
    with ChatServer(key=KEY, reply=reply, faults=FAULTS, seed=5, latency=0.2, hang=10.0) as server:
        os.environ["VOTEQUEUE_CHAT_BASE_URL"] = server.url
        arguments = ["enqueue", *QUEUES[queue], "--provider", "chat", "--model", "m", "--run", "faulty"]
        assert cli.main([*arguments[:2], str(data), *arguments[2:]]) == 0
        begun = time.monotonic()
        logs, workers = [], []
        for process, log in _workers(queue, home):
            workers.append(process)
            logs.append(log)
            if len(workers) == WORKERS:
                _kill_on_the_way(workers[:KILLED], server, questions)
        try:
            waiting.until(lambda: is_complete("faulty"), logs[-1])
        finally:
            for process in workers:
                process.terminate()
            for process in workers:
                process.wait(60)
        return _told(server, time.monotonic() - begun, logs)


def _workers(queue: str, home: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start workers, and as many more as were killed."""
    for number in range(WORKERS + KILLED):
        log = home / f"worker-{number}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "producers.cli", "worker", queue]
            yield subprocess.Popen(command, stdout=file, stderr=file), log


def _kill_on_the_way(victims: list["subprocess.Popen[bytes]"], server: ChatServer, questions: int) -> None:
    waiting.until(lambda: len(server.requests) > questions // 4)
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
        victim.wait()


def _told(server: ChatServer, seconds: float, logs: list[Path]) -> Told:
    items, calls = schema.items.c, schema.calls.c
    with engine.reading() as connection:
        reasons = [reason for (reason,) in connection.execute(sa.select(items.reason)) if reason]
        outcomes = connection.execute(sa.select(calls.outcome, sa.func.count()).group_by(calls.outcome))
        return Told(
            arrivals=list(server.requests),
            most_in_second=server.most_in(1.0),
            most_at_once=server.most_at_once,
            states={state.value: count for state, count in runs.count_states("faulty").items()},
            reasons=reasons,
            outcomes=dict(outcomes.tuples().all()),
            seconds=seconds,
            logs=logs,
        )


def main(queue: str = "reason", questions: str = "500") -> None:
    """Print how a run ends."""
    with tempfile.TemporaryDirectory() as folder, valkey.running() as url:
        settings = {**SETTINGS, "HOME": f"{folder}/var", "BROKER_URL": url}
        os.environ.update({f"VOTEQUEUE_{name}": value for name, value in settings.items()})
        told = play(queue, int(questions), Path(folder))
    ended = Counter(arrival.outcome for arrival in told.arrivals)
    print(f"| {queue}: {questions} questions, {WORKERS} workers, {KILLED} killed | |\n|---|---|")
    rows: list[tuple[str, object]] = [
        ("calls that reached the server", len(told.arrivals)),
        *((f"- {name}", count) for name, count in ended.most_common()),
        ("most in any second (allowed)", f"{told.most_in_second} ({PER_SECOND})"),
        ("most at once (allowed)", f"{told.most_at_once} ({AT_ONCE})"),
        ("calls cut off by the kills", told.outcomes.get(None, 0)),
        ("good replies given twice", told.answered_twice),
        *((f"items {state}", count) for state, count in told.states.items()),
        *((f"- dead: {kind}", count) for kind, count in Counter(map(_kind, told.reasons)).most_common()),
        ("seconds", f"{told.seconds:.0f}"),
    ]
    for name, value in rows:
        print(f"| {name} | {value} |")


def _kind(reason: str) -> str:
    return re.sub(r"\(127[^)]*\)|\d+", "…", reason)[:80]


if __name__ == "__main__":
    main(*sys.argv[1:])
