"""Learn what a vote of each kind counts, and how often agreeing first votes are right, on labelled runs.

    learn("mine,more")  ->  Learned({"program result": (1.9, ...), "reasoning": (0.7, ...)}, (0.83, ...), ...)

A kind is a voice with the outcome of its program. Only first rounds count. Values are by fold, as in
`shared.vote_weights`: a labelled question gets those that were learned without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from producers import console, run_progress
from shared import dataset, kind_weights, vote_weights, voting
from shared.errors import UserError
from shared.kind_weights import LabelledRound
from shared.ledger import votes
from shared.vote_weights import UNLABELLED
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


def learn(names: str) -> Learned:
    """Learn from labelled runs, whose names are separated by commas.

    Raises:
        UserError: there is no such run, it stopped rounds early, or no question has a right letter and votes.
    """
    rounds = [each for name in names.split(",") for each in _labelled(name.strip())]
    if not rounds:
        raise UserError(f"--weights-from {names}: no question there has a right letter and votes")
    agreeing = [(each, letter) for each in rounds if (letter := each.agreed) is not None]
    return Learned(
        kind_weights.by_kind(rounds),
        kind_weights.agreement(rounds),
        len(rounds),
        len(agreeing),
        sum(_majority(each) != letter for each, letter in agreeing),
        sum(len(each.votes) for each in rounds),
        sum(len(each.votes) - len({vote.voice for vote in each.votes}) for each, _ in agreeing),
    )


def _majority(labelled: LabelledRound) -> str | None:
    answer = voting.decide([Vote(vote.letter) for vote in labelled.votes], PLAIN)
    return answer.letter if answer else None


def _labelled(name: str) -> Iterator[LabelledRound]:
    run_progress.require_questions(name)
    run_progress.require_finished(name)
    run_progress.require_whole_rounds(name, f"--weights-from {name}")
    for result in votes.of_run(name):
        if result.gold is not None and result.votes:
            fold = vote_weights.fold(dataset.unit(result.entry), labelled=True)
            options = len(result.entry.questions[result.question].options)
            yield LabelledRound(fold, result.gold, options, result.first_round)
