"""Which faults befall a run, and when.

    SCENARIOS["storm"].faults(random.Random(7), 120.0)  ->  [(1.2, "kill", 0.0), (2.4, "kill", 0.0), ...]

Each fault is (seconds after the start, what, seconds until it is undone).
"""

import random
from dataclasses import dataclass, field

Fault = tuple[float, str, float]
UNDONE_BY_ITSELF = 0.0
ONCE = 1e9  # seconds between two of a kind


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
    ledgers: tuple[str, ...] = ("sqlite", "postgresql")
    rate: int = 100  # questions for each second, so that they last as long as the faults
    usual: bool = True  # played unless others are asked for
    settle: float = 60.0  # seconds for the broker to be cleared, once all is answered
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
    "calm": Scenario((Every("kill", 20, 5), Every("stop", 60, 12, PAST_LEASE), Every("flush", 60, 30)), 45),
    "storm": Scenario(
        (Every("kill", 1.2, 1.2), Every("stop", 25, 10, PAST_LEASE), Every("flush", 40, 20)),
        45,
        poison=True,
        rate=50,
    ),
    "drain": Scenario((Every("tell", 0.7, 1),), 30, rate=150),
    "broker": Scenario(
        (Every("kill", 20, 5), Every("broker", 6, 4, (0, 3)), Every("broker away", ONCE, 30, (20, 20))),
        50,
        ledgers=("sqlite",),
    ),
    "outage": Scenario((Every("kill", 20, 5), Every("ledger", 45, 10, (5, 30))), 50, ledgers=("postgresql",)),
    "frozen": Scenario(
        (
            Every("kill", 10, 5),
            Every("frozen sweep", ONCE, 8, (40, 40)),
            Every("frozen items", ONCE, 30, (20, 20)),
        ),
        50,
        ledgers=("postgresql",),
    ),
    "short": Scenario(
        (Every("kill", 1.2, 1), Every("flush", ONCE, 6), Every("broker", ONCE, 9, (0, 1))),
        12,
        poison=True,
        rate=25,
        usual=False,
        settle=0.0,
    ),
    "dark": Scenario(
        (Every("kill", 20, 5), Every("ledger dark", ONCE, 10, (30, 30))),
        45,
        ledgers=("postgresql",),
        usual=False,
    ),
}
