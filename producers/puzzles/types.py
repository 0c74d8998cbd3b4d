"""The types that all puzzle families share.

    Chain(("f(0)=2。", "f(1)=2×f(0)+1=5。"), "5")

A family draws a world, renders it, and derives a right chain and chains with one slip from the same code;
a separate solver decides which option holds. `sample` assigns the option letters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from producers.puzzles.languages import Language
from shared.errors import VotequeueError


class Unproved(VotequeueError):
    """A chain and the solver disagree, which is a bug in the generator."""


@dataclass(frozen=True)
class Chain:
    """Steps of reasoning, whole sentences, and the option text they end at."""

    steps: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class Query:
    """One question: its right chain, chains with one slip, more wrong options, the solver's verdict."""

    ask: str
    right: Chain
    slips: tuple[Chain, ...]
    spare: tuple[str, ...]
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class Puzzle:
    """One problem text and its questions."""

    problem: str
    queries: tuple[Query, ...]


Maker = Callable[[Random, int, Language], Puzzle | None]
"""Draws one puzzle of a difficulty (1-3) in a language; None if the draw is not a valid puzzle.

The draws must not depend on the language.
"""


def statement(
    rng: Random, language: Language, scene: str, lines: Sequence[str], rules: Sequence[str] = ()
) -> str:
    """Lay out a problem: the scene, numbered facts, then numbered rules under their own heading."""
    parts = [scene + language.space + rng.choice(language.leads), number(lines)]
    if rules:
        parts += [rng.choice(language.rules), number(rules)]
    return "\n\n".join([*parts, rng.choice(language.outros)])


def number(lines: Sequence[str]) -> str:
    """Number lines from 1, one a line."""
    return "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))


def puzzle(problem: str, queries: Sequence[Query | None], wanted: int) -> Puzzle | None:
    """Keep the first `wanted` distinct valid questions; None if there are too few."""
    fair: dict[str, Query] = {}
    for query in queries:
        if query is not None:
            fair.setdefault(query.ask, query)
    chosen = tuple(fair.values())[:wanted]
    return Puzzle(problem, chosen) if len(chosen) == wanted else None
