"""Figures of an `infer` run: accuracy, agreement, rounds, tokens, time, workers.

    figures("round1")  ->  Figures(questions=64, one_vote=Share(118, 320), majority=Share(31, 64), ...)

"One vote" and "majority" are over each question's first round of votes, before any scorer; "final" is the
answer given. `inference_plots` draws the figures, `render_reports` prints them.
"""

import enum
import itertools
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

from producers import run_progress
from shared import metrics, voting
from shared.ledger import votes
from shared.ledger.schema import OPEN, State
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.voting import Vote

NO_LETTER = "none"  # beside the letters


class Known(enum.Enum):
    """Whether an answer is right, where there is one and that is known."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class FirstRound:
    """A question's first round: its votes, how many give the commonest letter, and whether that is right."""

    votes: int
    agreeing: int
    known: Known


@dataclass
class Share:
    """How many of how many."""

    right: int = 0
    of: int = 0

    def add(self, right: int | bool, of: int = 1) -> None:
        """Count ``right`` among ``of`` more."""
        self.right += int(right)
        self.of += of

    @property
    def value(self) -> float | None:
        """Give the share as a number from 0 to 1; ``None`` of nothing."""
        return self.right / self.of if self.of else None


@dataclass
class Judgement:
    """The scorer against the truth, over votes with a score, a letter and a known right answer."""

    accepted_right: int = 0
    accepted_wrong: int = 0
    void_right: int = 0
    void_wrong: int = 0
    auc: float | None = None
    right_scores: list[float] = field(default_factory=list, repr=False)
    wrong_scores: list[float] = field(default_factory=list, repr=False)


@dataclass
class Losses:
    """Claims whose worker died or whose engine failed, and how soon somebody else took them (seconds)."""

    lost: int = 0
    taken_again: int = 0
    median_seconds: float | None = None
    longest_seconds: float | None = None


@dataclass
class Worker:
    """What one worker did: questions claimed, claims that it saw through, claims lost with it."""

    claims: int = 0
    ended: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Source:
    """How many votes came from one model; ``None``: there was none, or it is not on record."""

    model: str | None
    weights: str | None
    engine: str | None
    adapter: str | None
    scorer: str | None
    votes: int


@dataclass
class Figures:
    """All figures of a run; times in seconds."""

    run: str
    source: str
    questions: int = 0
    answered: int = 0
    dead: int = 0
    open: int = 0
    one_vote: Share = field(default_factory=Share)
    majority: Share = field(default_factory=Share)
    final: Share = field(default_factory=Share)
    some_vote_right: Share = field(default_factory=Share)
    how: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    agreement: float | None = None
    unreadable: Share = field(default_factory=Share)
    accepted: Share = field(default_factory=Share)
    scorer: Judgement = field(default_factory=Judgement)
    # Votes by what sampled and scored them: model, weights, engine, adapter, scorer; None: not on record.
    sources: list[Source] = field(default_factory=list)
    tokens: int = 0
    wall_seconds: float | None = None
    tokens_per_second: float | None = None
    workers: dict[str, Worker] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)
    answer_times: list[float] = field(default_factory=list, repr=False)
    # What the pictures are drawn from.
    first_rounds: list[FirstRound] = field(default_factory=list, repr=False)
    outcomes: defaultdict[str, Counter[Known]] = field(
        default_factory=lambda: defaultdict(Counter), repr=False
    )
    vote_letters: Counter[str] = field(default_factory=Counter, repr=False)
    answer_letters: Counter[str] = field(default_factory=Counter, repr=False)
    right_letters: Counter[str] = field(default_factory=Counter, repr=False)


def figures(run: str) -> Figures:
    """Work out a run's figures from the ledger.

    Raises:
        UserError: there is no such run, or it answers no questions.
    """
    found = Figures(run, run_progress.require_questions(run).source)
    for told in votes.of_run(run):
        _count_state(found, told)
        _count_votes(found, told)
        if told.gold is not None:
            _count_first_round(found, told, told.gold)
            _count_judgement(found.scorer, told, told.gold)
    if found.first_rounds:
        found.agreement = statistics.fmean(first.agreeing / first.votes for first in found.first_rounds)
    found.scorer.auc = metrics.auc(found.scorer.right_scores, found.scorer.wrong_scores)
    found.sources = [Source(*counted) for counted in votes.count_sources(run)]
    _count_claims(found, run)
    return found


def _count_state(found: Figures, told: QuestionResult) -> None:
    found.questions += 1
    found.open += told.state in OPEN
    found.dead += told.state == State.DEAD
    if told.gold is not None:
        found.right_letters[told.gold] += 1
    if told.letter is None:
        found.outcomes["given up" if told.state == State.DEAD else "still open"][Known.UNANSWERED] += 1
        return
    found.outcomes[str(told.how)][_known(told.letter, told.gold)] += 1
    found.answer_letters[told.letter] += 1
    found.answered += 1
    found.how[str(told.how)] += 1
    found.rounds[told.attempt] += 1
    if told.answered_at is not None:
        found.answer_times.append(told.answered_at)
    if told.gold is not None:
        found.final.add(told.letter == told.gold)


def _count_votes(found: Figures, told: QuestionResult) -> None:
    for vote in told.votes:
        found.tokens += vote.tokens
        found.unreadable.add(vote.letter is None)
        found.accepted.add(vote.accepted)
        found.vote_letters[vote.letter or NO_LETTER] += 1
    first = first_round(told)
    # The first seen of equals, as in the plain majority.
    for letter, agreeing in Counter(vote.letter for vote in first if vote.letter is not None).most_common(1):
        found.first_rounds.append(FirstRound(len(first), agreeing, _known(letter, told.gold)))


def _known(letter: str, gold: str | None) -> Known:
    if gold is None:
        return Known.UNKNOWN
    return Known.RIGHT if letter == gold else Known.WRONG


def first_round(told: QuestionResult) -> list[RecordedVote]:
    """Give the votes of a question's first round."""
    return [vote for vote in told.votes if vote.attempt == told.votes[0].attempt]


def _count_first_round(found: Figures, told: QuestionResult, gold: str) -> None:
    first = first_round(told)
    if not first:
        return
    right = sum(vote.letter == gold for vote in first)
    found.one_vote.add(right, len(first))
    plain = voting.fall_back([Vote(vote.letter, True) for vote in first], "majority")
    found.majority.add(plain.letter == gold)
    found.some_vote_right.add(right > 0)


def _count_judgement(found: Judgement, told: QuestionResult, gold: str) -> None:
    for vote in told.votes:
        if vote.score is None or vote.letter is None:
            continue
        right = vote.letter == gold
        (found.right_scores if right else found.wrong_scores).append(vote.score)
        name = f"{'accepted' if vote.accepted else 'void'}_{'right' if right else 'wrong'}"
        setattr(found, name, getattr(found, name) + 1)


def _count_claims(found: Figures, run: str) -> None:
    begun: float | None = None
    recoveries: list[float] = []
    for _number, rows in itertools.groupby(votes.claims_of(run), key=attrgetter("number")):
        lost_at: float | None = None
        for row in rows:
            begun = min(begun or row.claimed_at, row.claimed_at)
            if lost_at is not None:
                recoveries.append(row.claimed_at - lost_at)
            lost = (row.outcome or "").startswith("lost")
            lost_at = row.ended_at if lost else None
            _count_worker(found.workers.setdefault(row.worker, Worker()), row.ended_at is not None, lost)
            found.losses.lost += lost
    if recoveries:
        found.losses.taken_again = len(recoveries)
        found.losses.median_seconds = statistics.median(recoveries)
        found.losses.longest_seconds = max(recoveries)
    if begun is not None and found.answer_times:
        found.wall_seconds = max(found.answer_times) - begun
        found.tokens_per_second = found.tokens / max(found.wall_seconds, 1e-3)
        found.answer_times = sorted(time - begun for time in found.answer_times)


def _count_worker(worker: Worker, ended: bool, lost: bool) -> None:
    worker.claims += 1
    worker.ended += ended and not lost
    worker.lost += lost
