"""Figures of a run's voices: the votes of each, how programs ended, and what agreement is worth.

    VoiceReport(voices={"reasoning": VoiceFigures(...), "program": ...}, agree=Share(9, 10))

Accuracies are those of the first round of labelled questions, without the scorer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from producers.reports.shares import Share
from shared import voices, voting
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.voting import PLAIN, Vote


@dataclass
class VoiceFigures:
    """The votes of one voice.

    ``read``: votes with a letter. ``right``: right votes of those. ``outcomes`` counts how programs ended.
    ``repaired``: programs that were asked for again, and those of them that have a letter now.
    """

    votes: int = 0
    tokens: int = 0
    read: Share = field(default_factory=Share)
    one_vote: Share = field(default_factory=Share)
    right: Share = field(default_factory=Share)
    majority: Share = field(default_factory=Share)
    some_vote_right: Share = field(default_factory=Share)
    outcomes: Counter[str] = field(default_factory=Counter)
    repaired: Share = field(default_factory=Share)


@dataclass
class VoiceReport:
    """The voices of a run; ``agree``: questions whose first votes of all voices name the same letter."""

    voices: dict[str, VoiceFigures] = field(default_factory=dict)
    agree: Share = field(default_factory=Share)

    def count(self, result: QuestionResult, times: int = 1) -> None:
        """Add the votes of as many equal questions, without their tokens."""
        for vote in result.votes:
            figures = self.voices.setdefault(vote.voice, VoiceFigures())
            figures.votes += times
            figures.read.add(vote.letter is not None, times=times)
            if vote.outcome is not None:
                figures.outcomes[vote.outcome] += times
            if vote.first_outcome is not None:
                figures.repaired.add(vote.letter is not None, times=times)
        if result.gold is not None and result.votes:
            self._count_right(result.first_round, result.gold, times)

    def leave_out_votes(self, stop: str) -> None:
        """Remove what needs whole rounds; a stop at agreement needs the first votes of all voices itself."""
        if stop == "exact":
            self.agree = Share()
        for figures in self.voices.values():
            for share in ("one_vote", "right", "majority", "some_vote_right"):
                setattr(figures, share, Share())

    def _count_right(self, first: Sequence[RecordedVote], gold: str, times: int) -> None:
        by_voice: dict[str, list[RecordedVote]] = {}
        for vote in first:
            by_voice.setdefault(vote.voice, []).append(vote)
        for voice, votes in by_voice.items():
            figures, right = self.voices[voice], sum(vote.letter == gold for vote in votes)
            figures.one_vote.add(right, len(votes), times)
            figures.right.add(right, sum(vote.letter is not None for vote in votes), times)
            # Without any letter there is no answer: the run's fallback would only guess one.
            plain = voting.decide([Vote(vote.letter) for vote in votes], PLAIN)
            figures.majority.add(plain is not None and plain.letter == gold, times=times)
            figures.some_vote_right.add(right > 0, times=times)
        letter = voices.agreed((vote.voice, vote.letter) for vote in first)
        if letter is not None:
            self.agree.add(letter == gold, times=times)
