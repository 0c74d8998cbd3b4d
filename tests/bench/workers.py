"""Real workers on one account: `python -m tests.bench.workers [--seconds 60] [--rates 5,20] [...]`.

`votequeue worker reason` processes and a chat server that counts arrivals and answers 429 to any call beyond
the rate in any window of a second. With --outage it answers 429 to all for so long, in the middle.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producers import cli
from shared import broker, settings
from shared.ledger import engine
from tests import valkey, waiting
from tests.e2e import faulty
from tests.e2e.conftest import is_complete
from tests.servers.openai import ChatServer


def main() -> None:
    """Print one row a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rates", default="5,20")
    parser.add_argument("--workers", default="1,4,8")
    parser.add_argument("--outage", type=float, default=0)
    chosen = parser.parse_args()
    print("| workers | rate | allowed | made | refused | most in 1 s | of the rate used | last 5 s |")
    print("|---|---|---|---|---|---|---|---|")
    for rate in map(int, chosen.rates.split(",")):
        for workers in map(int, chosen.workers.split(",")):
            print(measure(rate, workers, chosen.seconds, chosen.outage), flush=True)


def measure(rate: int, workers: int, seconds: float, outage: float) -> str:
    """Let workers ask for so long; give the row of the table."""
    with (
        tempfile.TemporaryDirectory() as folder,
        valkey.running() as url,
        ChatServer(reply=faulty.reply, per_second=rate, latency=0.3) as server,
    ):
        set_up(folder, url, server.url, rate)
        data = Path(folder) / "data.jsonl"
        faulty.write_questions(data, round(rate * seconds))
        with running(workers, folder):
            asked = ["--label", "correct", "--provider", "chat", "--model", "m", "--run", "r"]
            assert cli.main(["enqueue", "reason", str(data), *asked]) == 0
            if outage:
                threading.Timer(seconds / 3, server.fail_with, ["throttled"]).start()
                threading.Timer(seconds / 3 + outage, server.fail_with, ["ok"]).start()
            while not is_complete("r"):
                time.sleep(0.2)
        return row(rate, workers, server)


def set_up(folder: str, url: str, server: str, rate: int) -> None:
    """Point this process and its children at a new home, a broker and the server."""
    limits = {"chat": {"per_second": rate, "per_minute": None, "max_concurrency": None}}
    told = {"HOME": f"{folder}/var", "BROKER_URL": url, "CHAT_BASE_URL": server, "CHAT_API_KEY": "k"}
    for name, value in {**told, "LIMITS": json.dumps(limits)}.items():
        os.environ[f"VOTEQUEUE_{name}"] = value
    for made in (settings.load, engine.engine, broker.client):
        made.cache_clear()
    broker.app.conf.broker_url = url


@contextmanager
def running(workers: int, folder: str) -> Iterator[None]:
    """Have worker processes."""
    command = [sys.executable, "-m", "producers.cli", "worker", "reason"]
    said = Path(folder) / "log"
    with said.open("wb") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(workers)]
        waiting.until(lambda: said.read_bytes().count(b" ready.") >= workers, said)
        yield
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def row(rate: int, workers: int, server: ChatServer) -> str:
    """Sum up what the server counted."""
    at = sorted(arrival.at for arrival in server.requests)
    took = at[-1] - at[0]
    refused = sum(arrival.outcome != "ok" for arrival in server.requests)
    late = sum(moment >= at[-1] - 5 for moment in at) / 5
    used = (len(at) - 1) / took / rate
    cells = [workers, rate, f"{rate * took:.0f}", len(at), refused, server.most_in(1.0)]
    return f"| {' | '.join(map(str, cells))} | {100 * used:.1f} % | {100 * late / rate:.1f} % |"


if __name__ == "__main__":
    main()
