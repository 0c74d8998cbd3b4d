"""vLLM's own metrics, from a real engine on tiny weights, at the worker's /metrics."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers import sample
from tests import valkey, waiting
from tests.conftest import Command
from tests.e2e.conftest import Start, is_complete
from tests.integration.test_prometheus import answers, expressions, get, queried

ENGINE = {"kv_cache_gib": 1, "max_model_len": 2048, "max_tokens": 16}


@pytest.mark.slow
def test_a_worker_passes_the_metrics_of_its_engine_on(
    home: Path, on_broker: str, weights: Path, start_worker: Start, votequeue: Command
) -> None:
    data, port = home / "data.jsonl", valkey.free_port()
    sample.write(sample.generate(4, seed=2), data)
    worker = start_worker("infer", model=weights, metrics_port=port, **ENGINE)
    url = f"http://127.0.0.1:{port}/metrics"
    # Metrics are served while the model is loaded, too.
    waiting.until(lambda: answers(url), worker.log)
    assert total(get(url), "votequeue_worker_ready") == 0
    worker.await_ready()
    assert votequeue("enqueue", "infer", data, "--run", "r", "--votes", 3, "--max-tokens", 16).code == 0
    waiting.until(lambda: is_complete("r"), worker.log)

    text = get(url)
    assert total(text, "votequeue_worker_ready") == 1
    # Both count the same tokens.
    generated = total(text, "vllm:generation_tokens_total")
    assert generated == total(text, "votequeue_generated_tokens_total") > 0
    # The engine counts a prompt for each of its three votes.
    assert total(text, "vllm:prompt_tokens_total") == 3 * total(text, "votequeue_prompt_tokens_total") > 0
    assert total(text, "vllm:prefix_cache_hits_total") > 0
    assert total(text, "vllm:num_requests_running") == 0
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    queries = {name for said in expressions() for name in queried(said) if name.startswith("vllm:")}
    assert queries
    assert queries <= exposed


def total(text: str, name: str) -> float:
    """Sum up a metric over its labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name)
