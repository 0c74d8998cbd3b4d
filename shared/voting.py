"""Voting: from votes to one answer, or to another round.

    [Vote("B", 0.9), Vote("A", 0.2), Vote("B", 0.7)], GATE  ->  Answer("B", "majority", 2)

Self-consistency (Wang et al. 2022, arXiv:2203.11171) with a verifier whose scores void votes (Cobbe et al.
2021, arXiv:2110.14168) or weigh them (DiVeRSe, Li et al. 2022, arXiv:2206.02336). Votes of several runs can
have weights (`shared.vote_weights`).
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

CONSTANT = "A"
# Scores are clipped to this distance from 0 and 1, so that no vote outweighs a hundred others.
SUREST = 0.01
Fallback = Literal["majority", "constant"]


class VotingMode(enum.StrEnum):
    """The use of a vote's score: the registry of modes, one line each.

    ``voids``: votes below a threshold are void. ``weighs``: votes count by their scores.
    """

    meaning: str
    voids: bool
    weighs: bool

    def __new__(cls, word: str, meaning: str = "", voids: bool = False, weighs: bool = False) -> "VotingMode":
        """Create a mode; its value is its name."""
        mode = str.__new__(cls, word)
        mode._value_, mode.meaning, mode.voids, mode.weighs = word, meaning, voids, weighs
        return mode

    MAJORITY = "majority", "nothing", False, False
    GATE = "gate", "a vote below the threshold is void", True, False
    WEIGHTED = "weighted", "a vote counts as much as its odds", False, True
    GATE_WEIGHTED = "gate-weighted", "both", True, True


SCORED = tuple(mode for mode in VotingMode if mode.voids or mode.weighs)  # the modes that use scores


@dataclass(frozen=True)
class Rule:
    """How votes become an answer: the use of scores, and the minimum score of an accepted vote."""

    use: VotingMode
    threshold: float

    def accepts(self, letter: str | None, score: float | None) -> bool:
        """Tell whether a vote counts: it has a letter, and its score does not void it."""
        return letter is not None and (score is None or not self.use.voids or score >= self.threshold)


# The rule of the reference, whose scorer gives 0 or 1.
GATE = Rule(VotingMode.GATE, 0.5)
PLAIN = Rule(VotingMode.MAJORITY, 0.0)


class Outcome(enum.StrEnum):
    """How an answer was determined."""

    MAJORITY = "majority"
    WEIGHTED = "weighted majority"
    UNSCORED = "unscored majority"
    DEFAULT = "default"
    # At a run's deadline: from the votes that there were; there were none with a letter.
    DEADLINE = "at the deadline"
    DEADLINE_DEFAULT = "default at the deadline"
    # Never recorded: it follows from a run's calibration, which may change.
    ABSTAINED = "abstained"


DEFAULTS = (Outcome.DEFAULT, Outcome.DEADLINE_DEFAULT)  # no vote stands behind such an answer


class Vote(NamedTuple):
    """One vote: its letter, its score, and its weight.

    ``score`` is the scorer's probability that the text is sound, ``None`` without a scorer. ``weight`` is
    what the vote counts whatever its score, at least 0; a sampled vote counts 1.
    """

    letter: str | None
    score: float | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Answer:
    """A letter, how it was determined, and the number of votes for it."""

    letter: str
    how: Outcome
    support: int


def decide(votes: Sequence[Vote], rule: Rule) -> Answer | None:
    """Take the majority of the accepted votes, by count or by odds; ``None`` asks for another round.

    A vote counts its weight; by odds, its weight times score / (1 - score), which grows faster than the
    score. The letter with the higher odds wins a tie of counts; the letter with the higher count wins a tie
    of odds. Then the letter with more votes wins, then the one seen first.
    """
    accepted = [vote for vote in votes if rule.accepts(vote.letter, vote.score)]
    if rule.use not in SCORED:
        # In this mode, scores must not break ties either.
        accepted = [Vote(vote.letter, None, vote.weight) for vote in accepted]
    if all(vote.score is None for vote in accepted):
        equal = all(vote.weight == 1 for vote in accepted)
        return _majority(accepted, Outcome.UNSCORED if equal else Outcome.WEIGHTED, weighs=False)
    return _majority(
        accepted, Outcome.WEIGHTED if rule.use.weighs else Outcome.MAJORITY, weighs=rule.use.weighs
    )


def fall_back(votes: Sequence[Vote], fallback: Fallback) -> Answer:
    """Answer a question without any accepted vote, from all ``votes`` of all its rounds."""
    answer = _majority(votes, Outcome.UNSCORED, weighs=False) if fallback == "majority" else None
    return answer or Answer(CONSTANT, Outcome.DEFAULT, 0)


def revote(rounds: Sequence[Sequence[Vote]], rule: Rule, fallback: Fallback) -> tuple[Answer, int]:
    """Answer like a worker that samples these rounds in turn; give the answer and the rounds used.

    If no round gives an answer, the fallback does, after all rounds.
    """
    for taken, votes in enumerate(rounds, start=1):
        if (answer := decide(votes, rule)) is not None:
            return answer, taken
    return fall_back([vote for votes in rounds for vote in votes], fallback), len(rounds)


def _majority(votes: Sequence[Vote], how: Outcome, *, weighs: bool) -> Answer | None:
    read = [vote for vote in votes if vote.letter is not None]
    if not read:
        return None
    by_letter: dict[str | None, list[Vote]] = {}
    # Votes of weight 0 break no tie, and decide only where there are no others.
    for vote in [vote for vote in read if vote.weight] or read:
        by_letter.setdefault(vote.letter, []).append(vote)
    letter = next(iter(by_letter))
    if len(by_letter) > 1:
        # max returns the first of equal letters, and dictionaries keep the order of insertion.
        letter = max(by_letter, key=lambda candidate: _strength(by_letter[candidate], weighs))
    return Answer(str(letter), how, [vote.letter for vote in votes].count(letter))


def _strength(votes: Sequence[Vote], weighs: bool) -> tuple[float, float, int]:
    # fsum does not depend on the order of the votes, which therefore breaks no tie.
    count = math.fsum([vote.weight for vote in votes])
    total = math.fsum([vote.weight * odds(vote.score) for vote in votes])
    return (total, count, len(votes)) if weighs else (count, total, len(votes))


def odds(score: float | None) -> float:
    """Give the odds of a clipped score; 0 without a score."""
    if score is None:
        return 0.0
    sure = min(max(score, SUREST), 1 - SUREST)
    return sure / (1 - sure)
