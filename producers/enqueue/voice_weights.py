"""Learn what a vote of each kind counts, and how often agreeing first votes are right, on labelled runs.

    learn("mine,more")  ->  Learned({"program result": (1.9, ...), "reasoning": (0.7, ...)}, (0.83, ...), ...)

A kind is a voice with the outcome of its program. Only first rounds count. Values are by fold, as in
`shared.vote_weights`: a labelled question gets those that were learned without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from producers import console, run_progress
from shared import dataset, voices, vote_weights, voting
from shared.errors import UserError
from shared.ledger import votes
from shared.ledger.votes import RecordedVote
from shared.vote_weights import UNLABELLED, FoldCount
from shared.voting import PLAIN, Vote


@dataclass(frozen=True)
class Learned:
    """The weights of votes by kind, and the share of agreements that are right, by fold.

    Of ``questions`` labelled questions, the first votes of all voices agree in ``agreeing``; of these, the
    majority of all votes differs in ``differing``. Without their other votes, ``saved`` of all ``votes``
    would not have been sampled.
    """

    weights: dict[str, tuple[float, ...]]
    agreement: tuple[float, ...]
    questions: int
    agreeing: int
    differing: int
    votes: int
    saved: int

    @property
    def note(self) -> str:
        """Say what was learned, and what a stop at agreement would do on the labelled questions."""
        known = ", ".join(f"{kind} {weights[UNLABELLED]:.2f}" for kind, weights in self.weights.items())
        note = f"weights learned on {console.count(self.questions, 'question')}: {known}"
        if not self.agreeing:
            return note
        return (
            f"{note}; the first votes of the voices agree on {self.agreeing} of them, and are right with "
            f"probability {self.agreement[UNLABELLED]:.2f}: a stop there would save {self.saved} of "
            f"{self.votes} votes, and change {console.count(self.differing, 'answer')}"
        )


@dataclass(frozen=True)
class _Labelled:
    """The first round of a labelled question."""

    fold: int
    gold: str
    options: int
    votes: list[RecordedVote]

    @property
    def agreed(self) -> str | None:
        return voices.agreed((vote.voice, vote.letter) for vote in self.votes)

    @property
    def majority(self) -> str | None:
        answer = voting.decide([Vote(vote.letter) for vote in self.votes], PLAIN)
        return answer.letter if answer else None

    def count(self, letters: list[str]) -> FoldCount:
        """Count right letters among some of the votes'."""
        return self.fold, letters.count(self.gold), len(letters), len(letters) / self.options


def learn(names: str) -> Learned:
    """Learn from labelled runs, whose names are separated by commas.

    Raises:
        UserError: there is no such run, it stopped rounds early, or no question has a right letter and votes.
    """
    rounds = [each for name in names.split(",") for each in _labelled(name.strip())]
    if not rounds:
        raise UserError(f"--weights-from {names}: no question there has a right letter and votes")
    kinds = sorted({vote.kind for each in rounds for vote in each.votes if vote.letter is not None})
    agreeing = [each for each in rounds if each.agreed is not None]
    counts = [each.count([str(each.agreed)]) for each in agreeing]
    return Learned(
        {kind: vote_weights.by_fold([_of_kind(each, kind) for each in rounds]) for kind in kinds},
        vote_weights.shares_by_fold(counts),
        len(rounds),
        len(agreeing),
        sum(each.majority != each.agreed for each in agreeing),
        sum(len(each.votes) for each in rounds),
        sum(len(each.votes) - len({vote.voice for vote in each.votes}) for each in agreeing),
    )


def _of_kind(labelled: _Labelled, kind: str) -> FoldCount:
    return labelled.count([vote.letter for vote in labelled.votes if vote.letter and vote.kind == kind])


def _labelled(name: str) -> Iterator[_Labelled]:
    run_progress.require_questions(name)
    run_progress.require_finished(name)
    run_progress.require_whole_rounds(name, f"--weights-from {name}")
    for result in votes.of_run(name):
        if result.gold is not None and result.votes:
            fold = vote_weights.fold(dataset.unit(result.entry), labelled=True)
            options = len(result.entry.questions[result.question].options)
            yield _Labelled(fold, result.gold, options, result.first_round)
