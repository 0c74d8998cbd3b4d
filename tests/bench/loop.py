"""The queue against a loop over batches, on a simulated GPU: `python -m tests.bench.loop RUN`.

RUN is a finished run with whole rounds. Its votes are sampled again: its texts, in the time that they take
where a step is as long for one sequence as for 256 (`tests.chaos.generators.SimulatedGpu`). The loop takes 16
questions, samples their votes, waits for the slowest, decides, and takes the next 16. The queue is a real
worker with ledger and broker: with whole rounds, with `--stop exact` in waves, and with `--stop exact` and
all votes at once, where votes in flight are aborted. It prints answers/s, the ratio to the loop, and how many
answers are the same. Questions repeat until there are enough.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from producers import run_progress
from shared import voting
from shared.jobs import Infer
from shared.ledger import votes
from shared.options import Sampling
from shared.voting import PLAIN, Vote
from tests.bench.scaling import SETTINGS
from tests.chaos import generators, servers, stage
from tests.chaos.generators import SimulatedGpu

BATCH = 16
WAYS = {
    "queue": [],
    "queue, exact stop, waves": ["--stop", "exact"],
    "queue, exact stop, all at once": ["--stop", "exact", "--first-wave"],
}
_TOOK = sa.text("SELECT min(claimed_at), max(ended_at) FROM attempts WHERE run = :run")
_ANSWERS = sa.text("SELECT number, letter FROM answers WHERE run = :run ORDER BY number")


@dataclass(frozen=True)
class Recorded:
    """A question as a line of a data set, its votes as texts with tokens, and what they decide."""

    line: dict[str, object]
    votes: list[tuple[str, int]]
    letter: str


def recorded(run: str, count: int | None) -> list[Recorded]:
    """Read the first votes of each question, at most so many."""
    run_progress.require_questions(run)
    run_progress.require_whole_rounds(run, "sampling again")
    found = []
    for told in votes.of_run(run, texts=True):
        cast = [vote for vote in told.votes if vote.attempt == 1 and vote.voice == "reasoning"][:count]
        if cast:
            question = told.entry.questions[told.question].model_dump(exclude_none=True)
            line = {"problem": told.entry.problem, "questions": [question]}
            letters = [Vote(vote.letter) for vote in cast]
            answer = voting.decide(letters, PLAIN) or voting.fall_back(letters, "majority")
            found.append(Recorded(line, [(vote.text, vote.tokens) for vote in cast], answer.letter))
    if not found or len({len(each.votes) for each in found}) > 1:
        sys.exit(f"run {run}: its questions must have equally many votes")
    return found


async def loop(questions: list[Recorded], count: int, step: float) -> float:
    """Answer that many questions in batches, each as slow as its slowest vote; give the seconds."""
    gpu = SimulatedGpu([each.votes for each in questions], step)
    sampling = Sampling(votes=len(questions[0].votes))
    begun = time.monotonic()
    for first in range(0, count, BATCH):
        batch = range(first, min(first + BATCH, count))
        jobs = [Infer(run="loop", item=number) for number in batch]
        await asyncio.gather(*(gpu.sample("", sampling, None, job=job) for job in jobs))
    return time.monotonic() - begun


def queue(folder: Path, store: servers.Ledger, way: str, data: Path, count: int) -> tuple[float, list[str]]:
    """Answer the questions with the worker that is ready; give the seconds, and the letters."""
    run = way.replace(", ", "-").replace(" ", "-")
    options = [*WAYS[way], *([str(count)] if WAYS[way][-1:] == ["--first-wave"] else [])]
    command = [sys.executable, "-m", "producers.cli", "enqueue", "infer", str(data), "--run", run]
    fixed = ["--votes", str(count), "--max-attempts", "1", "--scorer", "none", "--lora", "none"]
    subprocess.run([*command, *fixed, *options], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    while stage.count_open(store.url) != 0:
        time.sleep(0.5)
    with sa.create_engine(store.url, poolclass=sa.NullPool).connect() as connection:
        begun, ended = connection.execute(_TOOK, {"run": run}).one()
        return ended - begun, [letter for _, letter in connection.execute(_ANSWERS, {"run": run})]


def main() -> int:
    """Print a row for the loop and for each way of the queue."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--votes", type=int, help="the first of each question; default: all")
    parser.add_argument("--step", type=float, default=0.005, help="seconds that a token takes")
    chosen = parser.parse_args()
    questions, count = recorded(chosen.run, chosen.votes), chosen.questions
    right = [questions[number % len(questions)].letter for number in range(count)]
    print(f"{'way':32} answers/s  ratio  same answers")
    looped = asyncio.run(loop(questions, count, chosen.step))
    print(f"{'loop':32} {count / looped:9.1f}  1.000  {count} of {count}", flush=True)
    with tempfile.TemporaryDirectory(prefix="loop-") as name:
        folder = Path(name)
        data = write(folder, questions, count)
        os.environ |= {generators.VOTES: str(folder / "votes.json"), generators.STEP: str(chosen.step)}
        # Cold: a fork would keep the settings and the ledger that RUN is in.
        with stage.set_up(folder, "sqlite", 1, SETTINGS, cold=True) as (_, store, _):
            for way in WAYS:
                seconds, letters = queue(folder, store, way, data, len(questions[0].votes))
                same = sum(one == other for one, other in zip(letters, right, strict=True))
                print(
                    f"{way:32} {count / seconds:9.1f}  {looped / seconds:5.3f}  {same} of {count}", flush=True
                )
    return 0


def write(folder: Path, questions: list[Recorded], count: int) -> Path:
    """Write the votes for the worker, and a data set with as many questions."""
    texts = json.dumps([each.votes for each in questions], ensure_ascii=False)
    (folder / "votes.json").write_text(texts, "utf-8")
    data = folder / "data.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for number in range(count):
            line = {"id": f"q{number}", **questions[number % len(questions)].line}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return data


if __name__ == "__main__":
    sys.exit(main())
