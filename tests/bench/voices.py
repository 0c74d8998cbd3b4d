"""Compare numbers of votes of each voice on the votes that a labelled run has on record; nothing is sampled.

    python -m tests.bench.voices RUN reasoning=5 reasoning=5,program=5 --weights-from LABELLED --agreement 0.6

answers the questions by the first votes of each voice, as if only these had been asked for: by the plain
majority, with the weights of LABELLED, and with a stop where the first votes of all voices agree. Where
programs were repaired, ``unrepaired`` answers without the repairs. Differences are from the first line, with
95 % intervals by entry. A question without any letter counts as wrong.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from producers import run_progress
from producers.enqueue import voice_weights
from producers.enqueue.voice_weights import Learned
from producers.reports import confidence_intervals, render
from shared import dataset, kind_weights, voices, vote_weights, voting
from shared.ledger import votes
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.voting import PLAIN, Vote

HEADINGS = ["votes", "counted", "right", "over the first line", "some vote right", "votes", "tokens"]


@dataclass
class Line:
    """One way to answer: right answers, those some vote of which is right, votes and tokens, by question."""

    asked: str
    counted: str
    right: list[int] = field(default_factory=list)
    possible: list[int] = field(default_factory=list)
    votes: list[int] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)

    def add(self, result: QuestionResult, taken: Sequence[RecordedVote], weights: Sequence[float]) -> None:
        """Answer one question by some of its votes."""
        counted = [Vote(vote.letter, None, weight) for vote, weight in zip(taken, weights, strict=True)]
        answer = voting.decide(counted, PLAIN)
        self.right.append(int(answer is not None and answer.letter == result.gold))
        self.possible.append(int(any(vote.letter == result.gold for vote in taken)))
        self.votes.append(len(taken))
        self.tokens.append(sum(vote.tokens for vote in taken))


def first(result: QuestionResult, wanted: dict[str, int]) -> list[RecordedVote]:
    """Give the first votes of each voice in the first round.

    Raises:
        SystemExit: there are fewer.
    """
    found = []
    for voice, count in wanted.items():
        of_voice = [vote for vote in result.first_round if vote.voice == voice]
        if len(of_voice) < count:
            raise SystemExit(f"question {result.key} has {len(of_voice)} votes of {voice}, not {count}")
        found += of_voice[:count]
    return found


def unrepaired(vote: RecordedVote) -> RecordedVote:
    """Give a vote as it was before its repair: without a letter, and without the tokens of the repair.

    The record has the tokens of both texts together; they are split by the texts' lengths.
    """
    if vote.first_text is None:
        return vote
    share = len(vote.first_text) / max(1, len(vote.first_text) + len(vote.text))
    return vote._replace(letter=None, outcome=vote.first_outcome, tokens=round(vote.tokens * share))


def lines(
    results: Sequence[QuestionResult], asked: Sequence[str], learned: Learned | None, agreement: float
) -> Iterator[Line]:
    """Answer all questions in each way."""
    for name in asked:
        wanted = voices.parse(name)
        taken = [first(result, wanted) for result in results]
        yield _answered(Line(name, "plain"), results, taken)
        if any(vote.first_text is not None for vote in itertools.chain(*taken)):
            before = [list(map(unrepaired, votes)) for votes in taken]
            yield _answered(Line(name, "unrepaired"), results, before)
        if learned is not None and len(wanted) > 1:
            yield _answered(Line(name, "weights"), results, taken, learned)
            stopped = [
                _stopped(result, votes, learned, agreement)
                for result, votes in zip(results, taken, strict=True)
            ]
            yield _answered(Line(name, "agreement"), results, stopped)
            yield _answered(Line(name, "agreement, weights"), results, stopped, learned)


def _answered(
    line: Line,
    results: Sequence[QuestionResult],
    taken: Sequence[Sequence[RecordedVote]],
    learned: Learned | None = None,
) -> Line:
    for result, of_question in zip(results, taken, strict=True):
        fold = _fold(result)
        weights = [
            kind_weights.weight(learned.weights, vote.kind, fold) if learned else 1.0 for vote in of_question
        ]
        line.add(result, of_question, weights)
    return line


def _fold(result: QuestionResult) -> int:
    return vote_weights.fold(dataset.unit(result.entry), labelled=True)


def _stopped(
    result: QuestionResult, taken: list[RecordedVote], learned: Learned, agreement: float
) -> list[RecordedVote]:
    """Give the first vote of each voice where they agree and this is likely enough to be right."""
    letter = voices.agreed((vote.voice, vote.letter) for vote in taken)
    if letter is None or learned.agreement[_fold(result)] < agreement:
        return taken
    return list({vote.voice: vote for vote in reversed(taken)}.values())[::-1]


def rows(found: Sequence[Line], units: Sequence[str]) -> Iterator[list[str]]:
    """Write each line with its difference from the first one."""
    count = len(units)
    for line in found:
        gains = [now - before for now, before in zip(line.right, found[0].right, strict=True)]
        interval = confidence_intervals.by_unit(units, gains)
        span = f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})" if interval else ""
        yield [
            line.asked,
            line.counted,
            f"{sum(line.right)} of {count}, {100 * sum(line.right) / count:.1f} %",
            "" if line is found[0] else f"{100 * sum(gains) / count:+.1f}{span}",
            f"{100 * sum(line.possible) / count:.1f} %",
            f"{sum(line.votes) / count:.2f}",
            f"{sum(line.tokens) / count:.0f}",
        ]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("asked", nargs="+", metavar="VOICES", help="such as reasoning=3,program=2")
    parser.add_argument("--weights-from", metavar="RUNS")
    parser.add_argument("--agreement", type=float, default=0.9, metavar="P")
    given = parser.parse_args()
    run_progress.require_questions(given.run)
    found = [each for each in votes.of_run(given.run, texts=True) if each.gold is not None and each.votes]
    learned = voice_weights.learn(given.weights_from) if given.weights_from else None
    if learned is not None:
        render.text(learned.note)
    units = [dataset.unit(result.entry) for result in found]
    render.table(list(rows(list(lines(found, given.asked, learned, given.agreement)), units)), HEADINGS)


if __name__ == "__main__":
    main()
