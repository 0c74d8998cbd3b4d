"""Which faults befall a run, and when.

    SCENARIOS["storm"].faults(random.Random(7), 120.0)  ->  [(1.2, "kill", 0.0), (2.4, "kill", 0.0), ...]

Each fault is (seconds after the start, what, seconds until it is undone).
"""

import random
from dataclasses import dataclass, field

Fault = tuple[float, str, float]
UNDONE_BY_ITSELF = 0.0


@dataclass(frozen=True)
class Every:
    """A fault that recurs: first after ``first`` seconds, undone after ``lasts`` (at random)."""

    what: str
    seconds: float
    first: float
    lasts: tuple[float, float] = (UNDONE_BY_ITSELF, UNDONE_BY_ITSELF)


@dataclass(frozen=True)
class Scenario:
    """Faults, whether one question is poison, and how long the faults last unless told otherwise."""

    every: tuple[Every, ...]
    seconds: float
    poison: bool = False
    rate: int = 50  # questions for each second, so that they last as long as the faults
    only: str | None = None  # the one kind of ledger that it makes sense for
    settings: dict[str, str] = field(default_factory=dict)

    def faults(self, chance: random.Random, seconds: float) -> list[Fault]:
        """Draw the faults of a run."""
        drawn = []
        for each in self.every:
            at = each.first
            while at < seconds:
                drawn.append((at, each.what, chance.uniform(*each.lasts)))
                at += each.seconds * chance.uniform(0.9, 1.1)
        return sorted(drawn)


PAST_LEASE = (17.0, 22.0)
SCENARIOS = {
    "calm": Scenario((Every("kill", 20, 5), Every("stop", 60, 30, PAST_LEASE), Every("flush", 60, 45)), 90),
    "storm": Scenario(
        (Every("kill", 1.2, 1.2), Every("stop", 25, 10, PAST_LEASE), Every("flush", 40, 20)), 120, poison=True
    ),
    "broker": Scenario(
        (Every("kill", 20, 5), Every("broker", 12, 8, (0, 4)), Every("broker away", 1e9, 50, (40, 40))), 95
    ),
    "outage": Scenario((Every("kill", 20, 5), Every("ledger", 60, 10, (5, 40))), 60, only="postgresql"),
    "dark": Scenario((Every("kill", 20, 5), Every("ledger dark", 1e9, 15, (40, 40))), 60, only="postgresql"),
    "frozen": Scenario(
        (
            Every("kill", 10, 5),
            Every("frozen sweep", 1e9, 10, (40, 40)),
            Every("frozen items", 1e9, 60, (20, 20)),
        ),
        85,
    ),
}
