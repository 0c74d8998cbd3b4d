"""`workers.infer` over a generator without an engine."""

import threading

from shared.broker import app
from shared.settings import Settings
from tests.chaos.generators import FastGenerator, SimulatedGpu
from tests.fakes import FakeRetriever, FakeScorer
from workers import wiring
from workers.inference.rounds import Rounds
from workers.ports import Generator


def fast_rounds(settings: Settings, _: threading.Event) -> tuple[Rounds, Generator]:
    """Build what the infer queue stands on, without weights."""
    generator = SimulatedGpu.of_environment() or FastGenerator()
    return Rounds(generator, FakeScorer(), lambda _: FakeRetriever()), generator


wiring.rounds = fast_rounds

from workers import infer  # noqa: E402  (only now does `rounds` mean ours)

__all__ = ["app", "infer"]
