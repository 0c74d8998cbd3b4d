"""vLLM's own metrics, from a real engine on tiny weights, behind the worker's /metrics."""

import asyncio
import re
from pathlib import Path

import prometheus_client
import pytest

from shared.options import Sampling
from tests.integration.test_prometheus import expressions, queried
from workers.models.vllm_engine import EngineOptions, VllmEngine
from workers.models.vllm_generator import VllmGenerator

REGISTRY = prometheus_client.REGISTRY


def value(name: str) -> float:
    """Sum up a metric over its labels."""
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name == name)


@pytest.mark.slow
def test_the_engine_counts_in_the_workers_registry(home: Path, weights: Path) -> None:
    options = EngineOptions(str(weights), "tiny", home, kv_cache_gib=1, max_model_len=512, metrics=True)
    sampling = Sampling(votes=3, max_tokens=8)

    async def sample() -> int:
        generator = VllmGenerator(VllmEngine(options))
        await generator.start()
        try:
            votes = [
                vote for _ in range(2) for vote in await generator.sample("甲比乙高。" * 20, sampling, None)
            ]
            return sum(vote.tokens for vote in votes)
        finally:
            await generator.stop()

    tokens = asyncio.run(sample())
    assert value("vllm:generation_tokens_total") == tokens
    assert value("vllm:prompt_tokens_total") > 0
    # The second request has the prompt of the first.
    assert value("vllm:prefix_cache_hits_total") > 0
    assert value("vllm:num_requests_running") == 0

    text = prometheus_client.generate_latest(REGISTRY).decode()
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    queries = {name for said in expressions() for name in queried(said) if name.startswith("vllm:")}
    assert queries
    assert queries <= exposed
