"""The seeds of requests to vLLM, over a fake engine: each vote has its own, however a round is split."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.options import Sampling
from workers.models import vllm_generator
from workers.models.vllm_engine import RawVote, VllmEngine
from workers.models.vllm_generator import VllmGenerator
from workers.ports import Step


class FakeEngine:
    """Has no model; uses seeds unless it is a CPU's."""

    def __init__(self, seeds: bool = True) -> None:
        self._seeds = seeds

    def usable_seed(self, seed: int | None) -> int | None:
        """Keep a seed, or drop it."""
        return seed if self._seeds else None

    async def asking(self, adapter: str | None, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Give as many votes as are asked for."""

        async def ask(source: Any, parameters: Any, progress: Any) -> list[RawVote]:
            return [RawVote("答案是：A", 5, "stop")] * int(parameters.n)

        return await work(ask)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[list[int | None]]:
    """Collect the seeds of each request's votes, as vLLM derives them: counted up from the request's."""
    used: list[list[int | None]] = []

    def parameters(sampling: Sampling, limit: int, seed: int | None, stop: list[str]) -> Any:
        used.append([None if seed is None else seed + at for at in range(sampling.votes)])
        return SimpleNamespace(n=sampling.votes, max_tokens=limit, stop=stop)

    monkeypatch.setattr(vllm_generator, "sampling_params", parameters)
    return used


def sample(engine: FakeEngine, seed: int | None, *requests: tuple[int, int]) -> None:
    generator = VllmGenerator(cast(VllmEngine, engine))
    for first, votes in requests:
        asyncio.run(generator.sample("题", Sampling(votes=votes), seed, step=Step(first)))


@pytest.mark.parametrize("requests", [[(0, 5)], [(0, 3), (3, 1), (4, 1)], [(at, 1) for at in range(5)]])
def test_a_round_has_the_same_seeds_however_it_is_split(
    seeds: list[list[int | None]], requests: list[tuple[int, int]]
) -> None:
    sample(FakeEngine(), 40, *requests)
    assert [seed for of_request in seeds for seed in of_request] == [40, 41, 42, 43, 44]


def test_without_a_seed_or_where_the_engine_has_none_there_is_none(seeds: list[list[int | None]]) -> None:
    sample(FakeEngine(), None, (3, 1))
    sample(FakeEngine(seeds=False), 40, (3, 1))
    assert seeds == [[None], [None]]
