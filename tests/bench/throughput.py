"""The queue against the bare engine: `python -m tests.bench.throughput DATA EXAMPLES [--ways WAY,...]`.

Answers the questions of DATA through `enqueue infer` and one worker, once for each way. Then it gives the
prompts of the first way to vLLM's `LLM.generate`: all at once, and with ``--loop`` 16 questions at a time, so
that each batch is as slow as its slowest vote. It prints a line of JSON for each, and at last the ratios:
tokens/s to all at once, answers/s to the loop. Each begins with an empty prefix cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shared import vllm_environment
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, PromptQuestion
from tests import valkey

WAYS = {
    "whole-rounds": [],
    "exact-stop": ["--stop", "exact"],
    "exact-stop-by-entry": ["--stop", "exact", "--examples-per", "entry"],
}
BATCH = 16  # questions of the loop


def main() -> int:
    """Measure each way, and print a line of JSON for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--ways", default="whole-rounds", help=", ".join(WAYS))
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--keep", type=Path, help="home folder to keep, for `votequeue report` and `compare`")
    chosen = parser.parse_args()
    ways = chosen.ways.split(",")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VOTEQUEUE_HOME"] = str(chosen.keep or Path(folder))
        found = {}
        for way in ways:
            through_queue(way, chosen.data, chosen.examples, folder)
            tell(found, way, rates(way))
        for way, figures in bare(ways[0], chosen.loop):
            tell(found, way, figures)
    ratios = {f"{way} to bare": ratio(found, "tokens", way, "bare") for way in ways}
    if chosen.loop:
        ratios |= {f"{way} to loop": ratio(found, "questions", way, "loop") for way in (*ways, "bare")}
    print(json.dumps(ratios))
    return 0


def tell(found: dict[str, dict[str, float]], way: str, figures: dict[str, float]) -> None:
    """Keep the figures of a way, and print them."""
    found[way] = figures
    print(json.dumps({"way": way, **figures}), flush=True)


def ratio(found: dict[str, dict[str, float]], what: str, way: str, other: str) -> float:
    """Compare how many of something two ways do in a second."""
    mine, theirs = (found[each][what] / found[each]["seconds"] for each in (way, other))
    return round(mine / theirs, 3)


def through_queue(way: str, data: Path, examples: Path, folder: str) -> None:
    """Answer everything with one worker; it is started first, so that loading it is not measured."""
    votequeue = [sys.executable, "-m", "producers.cli"]
    log = Path(folder) / "worker.log"
    with valkey.running() as url, log.open("wb") as file:
        os.environ["VOTEQUEUE_BROKER_URL"] = url
        with subprocess.Popen([*votequeue, "worker", "infer"], stdout=file, stderr=file) as worker:
            while b"ready: batches of" not in log.read_bytes():
                if worker.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.5)
            enqueue = [*votequeue, "enqueue", "infer", str(data), "--examples", str(examples), "--run", way]
            for command in ([*enqueue, *WAYS[way]], [*votequeue, "status", way, "--watch"]):
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            worker.terminate()


def rates(run: str) -> dict[str, float]:
    """Read from the ledger what a run sampled, and how long it took from first claim to last settling."""
    import sqlalchemy as sa

    from shared.ledger import engine, schema

    tried, voted = schema.attempts.c, schema.votes.c
    with engine.reading() as connection:
        begun, ended = connection.execute(
            sa.select(sa.func.min(tried.claimed_at), sa.func.max(tried.ended_at)).where(tried.run == run)
        ).one()
        tokens = connection.scalar(sa.select(sa.func.sum(voted.tokens)).where(voted.run == run)) or 0
        questions = connection.scalar(
            sa.select(sa.func.count(sa.distinct(tried.number))).where(tried.run == run)
        )
    return {"questions": questions or 0, "tokens": tokens, "seconds": ended - begun}


def bare(of: str, looping: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Give a run's prompts to `LLM.generate` with the same sampling, all at once, and in a loop."""
    from shared import settings
    from shared.dataset import Entry
    from shared.ledger import prompt_store, runs
    from shared.options import Sampling
    from workers import wiring
    from workers.models import embedding, retrieval, vllm_generator

    run, loaded = runs.get_run(of), settings.load()
    sampling = Sampling.of_record(run.options)
    model = wiring.weights(loaded.model, loaded)
    retriever = retrieval.QdrantRetriever(
        retrieval.open_client(None, None),
        embedding.load_embedder("static", Path(model)),
        "static",
        runs.load_examples,
    )
    template = prompt_store.of_votes(sampling.prompt)
    entries = [Entry.model_validate_json(text) for text in runs.load_entries(of)]
    asked = [runs.asked(entry, index) for entry in entries for index in range(len(entry.questions))]
    nearest = retriever.nearest(run.examples or "", asked, sampling.num_examples, sampling.same_problem)
    vllm_environment.set_defaults(loaded.kv_cache_gib)
    from vllm import LLM

    limits = {"max_model_len": loaded.max_model_len, "max_num_seqs": 320, "enforce_eager": True}
    bare_engine = LLM(model=model, dtype=vllm_environment.cpu_dtype(), enable_prefix_caching=True, **limits)
    try:
        room = loaded.max_model_len - sampling.max_tokens
        count = bare_engine.get_tokenizer().encode
        texts = [
            fitting(template, question, found, lambda text: len(count(text)) <= room)
            for question, found in zip(asked, nearest, strict=True)
        ]
        stops = list(prompt_store.stops(sampling))
        for way, size in {"bare": len(texts), **({"loop": BATCH} if looping else {})}.items():
            bare_engine.reset_prefix_cache()
            begun, tokens = time.monotonic(), 0
            for first in range(0, len(texts), size):
                outputs = bare_engine.generate(
                    texts[first : first + size],
                    vllm_generator.sampling_params(sampling, sampling.max_tokens, None, stops),
                    use_tqdm=False,
                )
                tokens += sum(len(vote.token_ids) for output in outputs for vote in output.outputs)
            seconds = time.monotonic() - begun
            yield way, {"questions": len(texts), "tokens": tokens, "seconds": seconds}
    finally:
        # Left to itself, its process would wait for work, and this one for its end.
        bare_engine.llm_engine.engine_core.shutdown()


def fitting(
    template: PromptTemplate,
    asked: PromptQuestion,
    examples: Sequence[FewShotExample],
    fits: Callable[[str], bool],
) -> str:
    """Write a question's prompt with as many of its examples as fit, as a worker does."""
    shown = list(examples)
    while not fits(text := template.completion(asked, shown)) and shown:
        shown.pop()
    return text


if __name__ == "__main__":
    sys.exit(main())
