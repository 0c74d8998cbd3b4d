"""What `--examples-per entry` saves: `python -m tests.bench.shared_prefill DATA EXAMPLES [--votes 5]`.

Answers the questions of DATA with examples per question, then per entry, in one worker with one engine, whose
prefix cache is emptied before each run. Prints for each run the prompt tokens that were asked for (those of a
question once for each vote), those that the engine computed instead of finding them in its prefix cache,
and the votes' tokens, in all and per second. The last row is the ratio of the second run to the first.
Compare their answers with `votequeue compare`, in the folder of `--keep`.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from producers import cli, run_progress
from producers.reports import render
from shared import broker
from shared.jobs import Infer
from shared.ledger import engine, schema
from tests import valkey

WAYS = ("question", "entry")
SLOTS = 64
HEADINGS = ["examples per", "asked", "computed", "share", "generated", "seconds", "tokens/s"]


@dataclass
class PrefillCounter:
    """Counts prompt tokens; `VllmCounter` adds to it what vLLM reports for each step of its engine."""

    asked: int = 0
    computed: int = 0

    def add(self, asked: int, computed: int) -> None:
        """Count the prompts of one step."""
        self.asked += asked
        self.computed += computed


class VllmCounter:
    """A stat logger of vLLM; its methods and their arguments are vLLM's."""

    def __init__(self, counter: PrefillCounter) -> None:
        self._counter = counter

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Count the prompts whose computation has ended in a step."""
        if iteration_stats is not None:
            prompts = iteration_stats.prompt_token_stats
            self._counter.add(prompts.total, prompts.computed)

    def log_engine_initialized(self) -> None:
        """Log nothing."""

    def log(self) -> None:
        """Log nothing."""

    def record_sleep_state(self, *_: Any) -> None:
        """Log nothing."""


@dataclass(frozen=True)
class Figures:
    """What a run took."""

    asked: int
    computed: int
    generated: int
    seconds: float

    @property
    def speed(self) -> float:
        """Give the votes' tokens per second."""
        return self.generated / self.seconds


def rows(first: Figures, second: Figures) -> list[list[str]]:
    """Write a row for each run, and their ratio."""
    written = [
        [
            way,
            *map(str, (run.asked, run.computed)),
            f"{run.computed / run.asked:.3f}",
            str(run.generated),
            f"{run.seconds:.1f}",
            f"{run.speed:.1f}",
        ]
        for way, run in zip(WAYS, (first, second), strict=True)
    ]
    shares = [run.computed / run.asked for run in (first, second)]
    ratios = [
        second.asked / first.asked,
        second.computed / first.computed,
        shares[1] / shares[0],
        second.generated / first.generated,
        second.seconds / first.seconds,
        second.speed / first.speed,
    ]
    return [*written, ["ratio", *(f"{ratio:.3f}" for ratio in ratios)]]


def compare(
    data: Path,
    examples: Path,
    options: Sequence[str],
    answer: Callable[[Infer], str],
    counter: PrefillCounter,
    empty_cache: Callable[[], object],
) -> list[Figures]:
    """Answer all questions both ways; give the figures of both runs."""
    # The index of the examples is built once, and belongs to neither run.
    _enqueue("warm", data, examples, "question", [*options, "--limit", "1"])
    _answer("warm", answer)
    figures = []
    for way in WAYS:
        _enqueue(way, data, examples, way, options)
        empty_cache()
        counter.asked = counter.computed = 0
        begun = time.monotonic()
        _answer(way, answer)
        seconds = time.monotonic() - begun
        figures.append(Figures(counter.asked, counter.computed, _generated(way), seconds))
    return figures


def _enqueue(run: str, data: Path, examples: Path, way: str, options: Sequence[str]) -> None:
    chosen = ["--examples-per", way, "--max-attempts", "1", "--scorer", "none", "--lora", "none", *options]
    arguments = ["enqueue", "infer", str(data), "--examples", str(examples), "--run", run, *chosen]
    if cli.main(arguments) != 0:
        sys.exit(1)


def _answer(run: str, answer: Callable[[Infer], str]) -> None:
    """Deliver the messages of a run in order, to as many slots as a worker has."""
    with ThreadPoolExecutor(SLOTS) as slots:
        for reply in slots.map(
            answer, [Infer(run=run, item=at) for at in range(run_progress.count_items(run))]
        ):
            if reply.startswith(("lost", "dead", "given back")):
                sys.exit(f"run {run}: {reply}")
    run_progress.require_finished(run)


def _generated(run: str) -> int:
    with engine.reading() as connection:
        query = sa.select(sa.func.sum(schema.votes.c.tokens)).where(schema.votes.c.run == run)
        return connection.scalar(query) or 0


def counted_engines(counter: PrefillCounter) -> list[Any]:
    """Let the engines that are built from now on report to a counter; give the list of these engines."""
    from vllm.v1.engine.async_llm import AsyncLLM

    build, engines = AsyncLLM.from_engine_args, list[Any]()

    def build_counted(*arguments: Any, **named: Any) -> Any:
        engines.append(build(*arguments, **named, stat_loggers=[lambda *_: VllmCounter(counter)]))
        return engines[-1]

    AsyncLLM.from_engine_args = build_counted  # type: ignore[method-assign]
    return engines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--keep", type=Path, help="home folder to keep, with both runs")
    parser.add_argument("--votes", default="5", help="votes per question")
    parser.add_argument("--max-tokens", default="1024", help="maximum length of a vote")
    chosen = parser.parse_args()
    options = ["--votes", chosen.votes, "--max-tokens", chosen.max_tokens]
    counter = PrefillCounter()
    with tempfile.TemporaryDirectory() as folder, valkey.running() as url:
        os.environ |= {"VOTEQUEUE_HOME": str(chosen.keep or folder), "VOTEQUEUE_BROKER_URL": url}
        broker.app.conf.broker_url = url
        engines = counted_engines(counter)
        from workers.infer import Answering

        worker = Answering()
        worker.start()

        def empty_cache() -> None:
            for each in engines:
                asyncio.run_coroutine_threadsafe(each.reset_prefix_cache(), worker._loop).result()

        try:
            figures = compare(chosen.data, chosen.examples, options, worker.answer, counter, empty_cache)
        finally:
            worker.release()
            worker.close()
    render.table(rows(*figures), HEADINGS)


if __name__ == "__main__":
    main()
