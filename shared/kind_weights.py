"""What a vote of each kind counts, and how often agreeing first votes are right, learned on labelled rounds.

    by_kind(rounds)  ->  {"program result": (1.9, 1.8, ...), "reasoning": (0.7, 0.8, ...)}

A kind is a voice with the outcome of its program. Values are by fold, as in `shared.vote_weights`: a labelled
question gets those that were learned without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared import voices, vote_weights
from shared.vote_weights import FoldCount

BY_KIND = "weights by kind"  # the majority, with votes that count by their kind


class ReadVote(Protocol):
    """A vote of a round: its voice, its kind, and its letter."""

    @property
    def voice(self) -> str:
        """Name its voice."""

    @property
    def kind(self) -> str:
        """Name its voice and outcome."""

    @property
    def letter(self) -> str | None:
        """Give its letter, or none."""


@dataclass(frozen=True)
class LabelledRound:
    """The votes of a labelled question's first round; ``options`` is the number of the question's options."""

    fold: int
    gold: str
    options: int
    votes: Sequence[ReadVote]

    @property
    def agreed(self) -> str | None:
        """Give the letter on which the first votes of all voices agree, or none."""
        return voices.agreed((vote.voice, vote.letter) for vote in self.votes)

    def count(self, letters: Sequence[str]) -> FoldCount:
        """Count right letters among some of the votes'."""
        return self.fold, list(letters).count(self.gold), len(letters), len(letters) / self.options


def by_kind(rounds: Sequence[LabelledRound]) -> dict[str, tuple[float, ...]]:
    """Learn the weights of votes by kind, for each fold: the log-odds that they are right, over chance."""
    kinds = sorted({vote.kind for each in rounds for vote in each.votes if vote.letter is not None})
    return {kind: vote_weights.by_fold([_of_kind(each, kind) for each in rounds]) for kind in kinds}


def weight(weights: Mapping[str, Sequence[float]], kind: str, fold: int) -> float:
    """Give the weight of a vote of a kind; 0 for a kind of which nothing is known."""
    return weights[kind][fold] if kind in weights else 0.0


def agreement(rounds: Sequence[LabelledRound]) -> tuple[float, ...]:
    """Estimate the share of right letters among those on which first votes agree, for each fold."""
    agreed = [(each, letter) for each in rounds if (letter := each.agreed) is not None]
    return vote_weights.shares_by_fold([each.count([letter]) for each, letter in agreed])


def _of_kind(labelled: LabelledRound, kind: str) -> FoldCount:
    return labelled.count([vote.letter for vote in labelled.votes if vote.letter and vote.kind == kind])
