"""What stopping rounds early saves on the votes that finished runs have on record; nothing is sampled.

    python -m tests.bench.early_stop RUN...

answers the questions again by the plain majority, and by each use of the recorded scores: from whole rounds,
in waves of the fewest votes that could decide (`workers.inference.waves`), one vote at a time, and with all
votes of a round at once, where those in flight are aborted. It prints votes and tokens a question, their
ratio to whole rounds, and how many answers are the same. All votes are taken to be sampled equally fast.

The scores of letters that no vote has are not on record. With a scorer that reads the letter only, such a
letter gets all that the others leave, which is the most that it can have.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from producers import run_progress
from producers.reports import render
from shared import voting
from shared.dataset import LETTERS
from shared.early_stop import PendingVote, StopRule
from shared.ledger import models, votes
from shared.ledger.votes import RecordedVote
from shared.options import Sampling
from shared.recipes import INPUTS
from shared.voting import PLAIN, SCORED, Answer, Fallback, Rule, Vote
from workers.inference import waves

WAYS = ("waves", "one vote at a time", "all at once")
HEADINGS = ["rule", "asked", "votes", "ratio", "tokens", "ratio", "same answers"]


@dataclass(frozen=True)
class Case:
    """A question: its letters, its rounds, and the highest score of a vote for each letter."""

    letters: str
    rounds: list[list[RecordedVote]]
    most: dict[str, float]
    fallback: Fallback


@dataclass
class Spent:
    """The votes and tokens of a question's rounds, and its answer."""

    votes: int = 0
    tokens: int = 0
    letter: str = ""


@dataclass
class Replay:
    """A round that gives its recorded votes when it is asked for them; it is a `waves.PartialRound`."""

    stop_rule: StopRule
    recorded: Sequence[RecordedVote]
    known: list[Vote | PendingVote] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        """Begin without votes."""
        self.known = [PendingVote() for _ in self.recorded]

    @property
    def coming(self) -> list[int]:
        """Give the places of the votes to come."""
        return [at for at, vote in enumerate(self.known) if isinstance(vote, PendingVote)]

    def is_fixed(self) -> bool:
        """Tell whether the answer is fixed."""
        return self.stop_rule.is_fixed(self.known)

    def votes_needed(self) -> int:
        """Count the votes needed at least."""
        return self.stop_rule.votes_needed(self.known)

    def add(self, places: Sequence[int], drawn: Sequence[RecordedVote]) -> None:
        """Count some votes."""
        for place, vote in zip(places, drawn, strict=True):
            self.known[place] = as_vote(vote)
            self.tokens += vote.tokens


def as_vote(vote: RecordedVote) -> Vote:
    """Take the letter and the score."""
    return Vote(vote.letter, vote.score)


def cases(run: str) -> Iterator[Case]:
    """Give the questions of a run with their rounds."""
    sampling = Sampling.of_record(run_progress.require_questions(run).options)
    run_progress.require_whole_rounds(run, "voting again")
    scorer = votes.main_scorer(run)
    kind = INPUTS.get(str(models.get(scorer, "scorer").options.get("input"))) if scorer else None
    for told in votes.of_run(run):
        if told.votes:
            letters = LETTERS[: len(told.entry.questions[told.question].options)]
            known = {vote.letter: vote.score for vote in told.votes if vote.letter and vote.score is not None}
            rest = max(0.0, 1 - sum(known.values())) if kind and kind.answers else 1.0
            most = {letter: known.get(letter, rest) if kind and kind.answers else 1.0 for letter in letters}
            yield Case(letters, told.votes_by_round, most, sampling.fallback)


def whole(case: Case, rule: Rule) -> Spent:
    """Answer from whole rounds."""
    rounds = [[as_vote(vote) for vote in one] for one in case.rounds]
    answer, taken = voting.revote(rounds, rule, case.fallback)
    cast_votes = [vote for one in case.rounds[:taken] for vote in one]
    return Spent(len(cast_votes), sum(vote.tokens for vote in cast_votes), answer.letter)


def stopped(case: Case, rule: Rule, way: str) -> Spent:
    """Answer from rounds that stop early."""

    def strongest(_: str, letter: str) -> Vote:
        return Vote(letter, case.most[letter])

    acceptable = any(rule.accepts(letter, case.most[letter]) for letter in case.letters)
    spent, earlier = Spent(), list[Vote]()
    for at, recorded in enumerate(case.rounds, start=1):
        final = at == len(case.rounds) or not acceptable

        def decide(
            cast_votes: Sequence[Vote], last: bool = final, before: tuple[Vote, ...] = tuple(earlier)
        ) -> Answer | None:
            answer = voting.decide(cast_votes, rule)
            return voting.fall_back([*before, *cast_votes], case.fallback) if last and not answer else answer

        replay = Replay(StopRule(case.letters, decide, strongest), recorded)
        spent.tokens += play(replay, way)
        known = [vote for vote in replay.known if isinstance(vote, Vote)]
        spent.votes += len(known)
        if (answer := decide(known)) is not None:
            spent.letter = answer.letter
            break
        earlier += known
    return spent


def play(replay: Replay, way: str) -> int:
    """Ask for a round's votes until its answer is fixed; give the tokens, aborted ones too."""
    if way == "all at once":
        return abort(replay)

    async def ask(places: Sequence[int]) -> Any:
        return [replay.recorded[place] for place in places]

    if way == "waves":
        asyncio.run(waves.sample(cast(Any, replay), ask, None, False))
    else:
        while not replay.is_fixed():
            replay.add([replay.coming[0]], [replay.recorded[replay.coming[0]]])
    return replay.tokens


def abort(replay: Replay) -> int:
    """Let all votes of a round grow together; the shortest is finished first."""
    order = sorted(range(len(replay.recorded)), key=lambda place: replay.recorded[place].tokens)
    length = 0
    for place in order:
        if replay.is_fixed():
            break
        length = replay.recorded[place].tokens
        replay.add([place], [replay.recorded[place]])
    return replay.tokens + length * len(replay.coming)


def rows(run: str) -> Iterator[list[str]]:
    """Compare all ways to ask, for each rule."""
    found, scorer = list(cases(run)), votes.main_scorer(run)
    model = models.get(scorer, "scorer") if scorer else None
    for rule in [PLAIN, *(Rule(use, model.threshold(use)) for use in SCORED if model)]:
        full = [whole(case, rule) for case in found]
        for way in ("whole rounds", *WAYS):
            spent = full if way == "whole rounds" else [stopped(case, rule, way) for case in found]
            same = sum(now.letter == before.letter for now, before in zip(spent, full, strict=True))
            cells = [
                *ratios([one.votes for one in spent], [one.votes for one in full]),
                *ratios([one.tokens for one in spent], [one.tokens for one in full]),
            ]
            yield [str(rule.use), way, *cells, f"{same} of {len(found)}"]


def ratios(counts: Sequence[int], of: Sequence[int]) -> tuple[str, str]:
    """Give the mean of counts, and its ratio to that of others."""
    return f"{sum(counts) / len(counts):.2f}", f"{sum(counts) / sum(of):.3f}"


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    for run in parser.parse_args().runs:
        render.text(f"run {run}")
        render.table(list(rows(run)), HEADINGS)


if __name__ == "__main__":
    main()
