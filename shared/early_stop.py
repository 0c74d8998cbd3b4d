"""Early stop: whether the votes of a round that are still to come can change its answer.

    [Vote("B"), Vote("B"), Vote("B"), PendingVote(), PendingVote()], by majority  ->  fixed

The answer is that of `voting.decide`, which is asked what it would say. A letter grows stronger with each of
its votes, with their scores and weights, and with the earliest of their places. So a letter that can still
become the answer becomes it if all votes to come are the strongest ones for it: one trial a letter suffices.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.voices import REASONING
from shared.voting import Answer, Vote


@dataclass(frozen=True)
class PendingVote:
    """A vote that is still to come; ``voice`` is the way in which it is asked for and read."""

    voice: str = REASONING


@dataclass(frozen=True)
class StopRule:
    """Tells when no vote to come can change the answer of a round: its letters, and how votes decide it.

    ``strongest`` gives, for a voice and a letter, the vote with the highest score that may come. If its score
    depends on the letter alone, this is the only one.
    """

    letters: str
    decide: Callable[[Sequence[Vote]], Answer | None]
    strongest: Callable[[str, str], Vote]

    def is_fixed(self, votes: Sequence[Vote | PendingVote]) -> bool:
        """Tell whether all votes to come leave the letter of the answer as it is, or that there is none.

        ``votes`` are in the order of their places, which breaks ties.
        """
        if all(isinstance(vote, Vote) for vote in votes):
            return True
        # As if no vote to come had a letter.
        letter = self._letter(votes)
        return all(self._letter(self._with(votes, other, len(votes))) == letter for other in self.letters)

    def votes_needed(self, votes: Sequence[Vote | PendingVote]) -> int:
        """Count the votes that must come at least before the answer is fixed; 0: it is."""
        if self.is_fixed(votes):
            return 0
        coming = sum(isinstance(vote, PendingVote) for vote in votes)

        def could_fix(count: int) -> bool:
            return any(self.is_fixed(self._with(votes, letter, count)) for letter in self.letters)

        # An answer that is fixed stays so. The last vote fixes it in any case.
        return 1 + bisect.bisect_left(range(1, coming), True, key=could_fix)

    def _with(self, votes: Sequence[Vote | PendingVote], letter: str, count: int) -> list[Vote | PendingVote]:
        """Let the next ``count`` votes to come be the strongest ones for a letter."""
        filled: list[Vote | PendingVote] = []
        for vote in votes:
            if isinstance(vote, PendingVote) and count:
                count -= 1
                filled.append(self.strongest(vote.voice, letter))
            else:
                filled.append(vote)
        return filled

    def _letter(self, votes: Sequence[Vote | PendingVote]) -> str | None:
        answer = self.decide([vote for vote in votes if isinstance(vote, Vote)])
        return answer.letter if answer else None
