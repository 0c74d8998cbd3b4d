"""Match the questions of several runs by key and text.

    match(["base", "chat"])  ->  [Match("p1#2", answers=[RunAnswer("B", "A", 0.6, 812), ...]), ...]

A question is shared if its key, and its text with its options, are the same in all runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from producers import console
from shared import dataset
from shared.errors import UserError
from shared.ledger import runs, votes
from shared.ledger.votes import QuestionResult


@dataclass(frozen=True)
class RunAnswer:
    """A run's answer to a question: right letter, its own letter, agreement and tokens of its votes.

    ``votes`` are the letters of its last round.
    """

    gold: str | None
    letter: str | None
    agreement: float | None
    tokens: int
    votes: tuple[str | None, ...] = ()


@dataclass
class Match:
    """A question that all runs share, with the answer of each.

    ``unit`` is what a bootstrap resamples, ``problem`` the `dataset.problem_identity`.
    """

    key: str
    unit: str
    problem: str
    options: int
    answers: list[RunAnswer] = field(default_factory=list)

    @property
    def golds(self) -> set[str]:
        """Collect the right letters that the runs' data give."""
        return {answer.gold for answer in self.answers if answer.gold is not None}

    @property
    def gold(self) -> str:
        """Return the right letter of a question with one."""
        (gold,) = self.golds
        return gold

    @property
    def answered(self) -> bool:
        """Tell whether all runs have an answer."""
        return all(answer.letter is not None for answer in self.answers)

    def right(self, run: int) -> bool:
        """Tell whether a run, by its place, answers a labelled question right."""
        return self.answers[run].letter == self.gold


def match(names: Sequence[str]) -> list[Match]:
    """Match the questions of runs, in the order of the first run.

    Raises:
        UserError: the runs share no question.
    """
    matches: dict[tuple[str, str], Match] = {}
    counts = []
    for at, name in enumerate(names):
        counts.append(0)
        for result in votes.of_run(name):
            counts[-1] += 1
            place = result.key, _identity(result)
            if at == 0:
                matches[place] = _match(result)
            if place in matches:
                matches[place].answers.append(_answer(result))
    shared = [each for each in matches.values() if len(each.answers) == len(names)]
    if not shared:
        sizes = ", ".join(f"{name} has {count}" for name, count in zip(names, counts, strict=True))
        raise UserError(
            f"the runs share no question: name runs over the same data; none of their questions has the "
            f"same key, text and options in all of them ({sizes})"
        )
    return shared


def match_same(names: Sequence[str]) -> list[Match]:
    """Match the questions of runs that must all have the same ones.

    Raises:
        UserError: a run has questions that another one lacks; the message counts them and names the first.
    """
    matches = match(names)
    shared = {each.key for each in matches}
    for name in names:
        if others := sorted(runs.keys_of(name) - shared):
            raise UserError(
                f"run {name!r} has {console.count(len(others), 'question')} that another run lacks or asks "
                f"otherwise (the first: {others[0]}): combine runs over the same questions"
            )
    return matches


def _identity(result: QuestionResult) -> str:
    question = result.entry.questions[result.question]
    return dataset.identity("\0".join([result.entry.problem, question.question, *question.options]))


def _match(result: QuestionResult) -> Match:
    entry = result.entry
    options = len(entry.questions[result.question].options)
    return Match(result.key, dataset.unit(entry), result.problem_identity, options)


def _answer(result: QuestionResult) -> RunAnswer:
    tokens = sum(vote.tokens for vote in result.votes) + result.aborted_tokens
    last = tuple(vote.letter for vote in result.last_round)
    return RunAnswer(result.gold, result.letter, result.agreement, tokens, last)
