"""Votes -> one answer, or the decision to ask again.

    [Vote("B", True, 0.9), Vote("A", False, 0.2), Vote("B", True, 0.7)]  ->  Answer("B", Outcome.MAJORITY, 2)

Self-consistency (Wang et al. 2022, arXiv:2203.11171) with a verifier that voids unsound votes (Cobbe et al.
2021, arXiv:2110.14168). Where letters and scores come from is not known here.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CONSTANT = "A"
Fallback = Literal["majority", "constant"]


class Outcome(enum.StrEnum):
    """How an answer came about."""

    MAJORITY = "majority"
    UNSCORED = "unscored majority"
    DEFAULT = "default"


@dataclass(frozen=True)
class Vote:
    """One sampled opinion: the letter read from it, whether it counts, and its score.

    ``score`` is the scorer's probability that the text is sound, ``None`` where no scorer judged it.
    """

    letter: str | None
    accepted: bool
    score: float | None = None


@dataclass(frozen=True)
class Answer:
    """A letter, how it came about, and how many votes stand behind it."""

    letter: str
    how: Outcome
    support: int


def decide(votes: Sequence[Vote]) -> Answer | None:
    """Take the majority of the accepted votes; ``None`` asks for another round.

    A tie goes to the letter with the higher summed score, then to the one seen first.
    """
    accepted = [vote for vote in votes if vote.accepted and vote.letter is not None]
    scored = any(vote.score is not None for vote in accepted)
    return _majority(accepted, Outcome.MAJORITY if scored else Outcome.UNSCORED)


def fall_back(votes: Sequence[Vote], fallback: Fallback) -> Answer:
    """Answer a question none of whose votes was ever accepted, from all ``votes`` of all its rounds."""
    answer = _majority(votes, Outcome.UNSCORED) if fallback == "majority" else None
    return answer or Answer(CONSTANT, Outcome.DEFAULT, 0)


def _majority(votes: Sequence[Vote], how: Outcome) -> Answer | None:
    count: dict[str, int] = {}
    total: dict[str, float] = {}
    for vote in votes:
        if vote.letter is not None:
            count[vote.letter] = count.get(vote.letter, 0) + 1
            total[vote.letter] = total.get(vote.letter, 0.0) + (vote.score or 0.0)
    if not count:
        return None
    # max keeps the first of equals, and dictionaries keep the order of first sight.
    letter = max(count, key=lambda known: (count[known], total[known]))
    return Answer(letter, how, count[letter])
