"""What the shared limiter gets through: `python -m tests.bench.limits [--seconds 60] [--rates 5,20] [...]`.

Worker processes of 16 threads make calls through the real gateway, over HTTP, to a server that allows so
many a second in any window and refuses what is beyond. The baseline is a limiter for each process.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from multiprocessing.synchronize import Event as Flag

from shared import broker, settings
from shared.errors import Throttled, Unavailable
from shared.jobs import Reason
from shared.ledger import calls
from shared.providers import Limits, Price, Usage
from tests import valkey
from tests.servers import counting
from tests.servers.counting import OK, SLOW_DOWN, Allowance, CountingServer
from workers import wiring
from workers.gateway.gateway import Gateway
from workers.gateway.limiter import RedisLimiter
from workers.gateway.permit import RedisPermit
from workers.ports import Interrupted, Needs, Prompt, Reply, Service

THREADS = 16
ARRIVING = 2.0  # seconds within which all of a worker's threads have something to do
OUTAGE = 5.0
PROMPT = Prompt("题" * 300, 200, 0.7)


@dataclass(frozen=True)
class HttpChat:
    """A chat model whose calls a counting server answers."""

    service: Service
    url: str

    def complete(self, prompt: Prompt) -> Reply:
        status, delay = counting.call(self.url, "m", seconds=0.05)
        if status == SLOW_DOWN:
            raise Throttled("too many calls", delay)
        return Reply("答案是：A", Usage(300, 100))


class Alone(RedisLimiter):
    """The limiter of a process that knows of no other and heeds no refusal."""

    @contextmanager
    def admit(self, service: Service, needs: Needs) -> Iterator[RedisPermit]:
        with super().admit(service, needs) as turn:
            yield Deaf(turn)


class Deaf(RedisPermit):
    """A turn that does not hear that it should slow down."""

    def __init__(self, turn: RedisPermit) -> None:
        vars(self).update(vars(turn))

    def slow_down(self, delay: float | None, message: str) -> None:
        pass


@dataclass(frozen=True)
class Setup:
    """One measurement."""

    shared: bool
    processes: int
    rate: int
    seconds: float
    outage: bool = False


def work(setup: Setup, url: str, ready: Barrier, over: Flag) -> None:
    """Be one worker process: call until told that it is over."""
    stopping = threading.Event()
    account = "bench" if setup.shared else f"bench{os.getpid()}"
    model = HttpChat(Service("chat", "m", account, Limits(per_second=setup.rate), Price()), url)
    limiter = (RedisLimiter if setup.shared else Alone)(broker.client(), stopping)
    sys.setswitchinterval(wiring.SWITCH_INTERVAL)
    gateway, numbers = Gateway(limiter), itertools.count(os.getpid() * 1_000_000)

    def calling() -> None:
        with counting.disconnected():
            # What is done for the first time takes longer: none of it may delay a thread's first call.
            counting.connect(url)
            broker.ping()
            calls.spent("bench")
            ready.wait()
            # Messages come to a worker one after another.
            time.sleep(random.uniform(0.0, ARRIVING))
            while True:
                try:
                    gateway.chat(Reason(run="bench", item=next(numbers)), "B:1:m", model, PROMPT)
                except Unavailable:
                    continue  # a limiter that heeds no refusal has met many in a row
                except Interrupted:
                    return

    with ThreadPoolExecutor(THREADS) as pool:
        working = [pool.submit(calling) for _ in range(THREADS)]
        over.wait()
        stopping.set()
        for thread in working:
            thread.result()


def measure(setup: Setup) -> str:
    """Let the workers of one measurement work; give its row of the table."""
    broker.client().flushall()
    context = multiprocessing.get_context("spawn")
    ready, over = context.Barrier(setup.processes * THREADS + 1), context.Event()
    with CountingServer(Allowance(per_second=setup.rate)) as server:
        workers = [
            context.Process(target=work, args=(setup, server.url, ready, over))
            for _ in range(setup.processes)
        ]
        for worker in workers:
            worker.start()
        ready.wait()
        row = _outage(setup, server) if setup.outage else _steady(setup, server)
        over.set()
        for worker in workers:
            worker.join()
    return row


def _steady(setup: Setup, server: CountingServer) -> str:
    time.sleep(setup.seconds + 1.0)
    begun = min(server.times())
    arrivals = [at for at in server.times() if at < begun + setup.seconds]
    answered = sum(at < begun + setup.seconds for at in server.times(status=OK))
    allowed = round(setup.rate * setup.seconds)
    kind = "shared" if setup.shared else "alone"
    return (
        f"{kind:7} {setup.processes:9} {setup.rate:5}/s {allowed:8} {len(arrivals):6} "
        f"{len(arrivals) - answered:8} {server.most_within(1.0):11} {answered / allowed:7.1%}"
    )


def _outage(setup: Setup, server: CountingServer) -> str:
    time.sleep(setup.seconds / 3)
    server.refuse_for(OUTAGE)
    over = time.monotonic() + OUTAGE
    time.sleep(setup.seconds)
    refused = server.times(status=SLOW_DOWN)
    answered = server.times(status=OK)
    first = next((at for at in answered if at > over), None)
    full = next((at for at in answered if at > over and _rate(answered, at) >= 0.95 * setup.rate), None)
    hit = ", ".join(f"{at - over + OUTAGE:.1f}" for at in refused[:12])
    return (
        f"{setup.processes} processes at {setup.rate}/s, all refused for {OUTAGE:g} s: "
        f"{len(refused)} calls hit it (at {hit} s); then the first answer came after {_after(first, over)}, "
        f"95 % of the rate after {_after(full, over)}"
    )


def _rate(times: list[float], at: float, window: float = 5.0) -> float:
    return sum(at <= other < at + window for other in times) / window


def _after(at: float | None, over: float) -> str:
    return "never" if at is None else f"{at - over:.1f} s"


@contextmanager
def services() -> Iterator[None]:
    """Have a broker and a ledger for all processes."""
    with valkey.running() as url, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VOTEQUEUE_HOME": folder, "VOTEQUEUE_BROKER_URL": url}
        settings.load.cache_clear()
        calls.set_budget("bench", None)
        yield


def main() -> int:
    """Measure every combination, then the recovery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rates", default="5,20")
    parser.add_argument("--processes", default="1,4,8")
    parser.add_argument("--skip", default="", help="of: shared, alone, outage")
    chosen = parser.parse_args()
    rates, processes = (list(map(int, given.split(","))) for given in (chosen.rates, chosen.processes))
    with services():
        print("limiter processes    rate  allowed   made  refused  most in 1 s    used", flush=True)
        for shared, rate, count in itertools.product((True, False), rates, processes):
            if ("shared" if shared else "alone") not in chosen.skip:
                print(measure(Setup(shared, count, rate, chosen.seconds)), flush=True)
        if "outage" not in chosen.skip:
            for rate in rates:
                setup = Setup(True, max(processes), rate, chosen.seconds)
                print(measure(dataclasses.replace(setup, outage=True)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
