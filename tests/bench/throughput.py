"""The queue against the bare engine: `python -m tests.bench.throughput DATA EXAMPLES [--keep FOLDER]`.

Answers the questions of DATA through `enqueue infer` and one worker, then gives the very same prompts, once,
to vLLM's `LLM.generate`, and prints both rates and their ratio. One session, one engine at a time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared import vllm_environment
from shared.prompt_files import PromptTemplate
from shared.prompts import FewShotExample, PromptQuestion
from tests import valkey

RUN = "throughput"


def main() -> int:
    """Measure both, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--keep", type=Path, help="home folder to keep, for `votequeue report`")
    parser.add_argument("--no-baseline", action="store_true", help="leave the bare engine out")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VOTEQUEUE_HOME"] = str(chosen.keep or Path(folder))
        through_queue(chosen.data, chosen.examples, folder)
        figures = rates()
        if not chosen.no_baseline:
            figures |= bare()
            figures["ratio"] = figures["queue_tokens_per_second"] / figures["bare_tokens_per_second"]
        print(json.dumps(figures))
    return 0


def through_queue(data: Path, examples: Path, folder: str) -> None:
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
            enqueue = [*votequeue, "enqueue", "infer", str(data), "--examples", str(examples), "--run", RUN]
            subprocess.run(enqueue, check=True)
            subprocess.run([*votequeue, "status", RUN, "--watch"], check=True)
            worker.terminate()


def rates() -> dict[str, Any]:
    """Read from the ledger what the run sampled, and how long it took from first claim to last settling."""
    import sqlalchemy as sa

    from shared.ledger import engine, schema

    tried, voted = schema.attempts.c, schema.votes.c
    with engine.reading() as connection:
        begun, ended = connection.execute(
            sa.select(sa.func.min(tried.claimed_at), sa.func.max(tried.ended_at)).where(tried.run == RUN)
        ).one()
        tokens = connection.scalar(sa.select(sa.func.sum(voted.tokens)).where(voted.run == RUN)) or 0
    return {
        "queue_tokens": tokens,
        "queue_seconds": ended - begun,
        "queue_tokens_per_second": tokens / (ended - begun),
    }


def bare() -> dict[str, Any]:
    """Give the run's prompts to `LLM.generate`, all at once, with the same sampling."""
    from shared import settings
    from shared.dataset import Entry
    from shared.ledger import prompt_store, runs
    from shared.options import Sampling
    from workers import wiring
    from workers.models import embedding, retrieval, vllm_generator

    run, loaded = runs.get_run(RUN), settings.load()
    sampling = Sampling.of_record(run.options)
    model = wiring.weights(loaded.model, loaded)
    retriever = retrieval.QdrantRetriever(
        retrieval.open_client(None, None),
        embedding.load_embedder("static", Path(model)),
        "static",
        runs.load_examples,
    )
    template = prompt_store.of_votes(sampling.prompt)
    entries = [Entry.model_validate_json(text) for text in runs.load_entries(RUN)]
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
        begun = time.monotonic()
        outputs = bare_engine.generate(
            texts, vllm_generator.sampling_params(sampling, sampling.max_tokens, None, []), use_tqdm=False
        )
        seconds = time.monotonic() - begun
    finally:
        # Left to itself, its process would wait for work, and this one for its end.
        bare_engine.llm_engine.engine_core.shutdown()
    tokens = sum(len(vote.token_ids) for output in outputs for vote in output.outputs)
    return {"bare_tokens": tokens, "bare_seconds": seconds, "bare_tokens_per_second": tokens / seconds}


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
