"""Figures of an `infer` run: accuracy, agreement, rounds, tokens, time, workers.

    figures("round1")  ->  Figures(questions=64, one_vote=Share(118, 320), majority=Share(31, 64), ...)

"One vote" and "majority" refer to the first round of each question, without the scorer; "final" is the
recorded answer. If rounds were stopped early, their votes are no fair sample: figures of single votes and of
their agreement are left out. `inference_plots` draws the figures, `render_reports` prints them.
"""

import enum
import itertools
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from producers import run_progress
from producers.calibrated_answers import CalibratedAnswers
from producers.reports.shares import Share
from producers.reports.voice_figures import VoiceReport
from shared import metrics, voting
from shared.ledger import vote_spending, votes
from shared.ledger.claims import FORCED
from shared.ledger.schema import OPEN, State
from shared.ledger.vote_spending import Balance
from shared.ledger.votes import QuestionResult, VoteSource
from shared.voting import Outcome, Vote

NO_LETTER = "none"  # label for votes without a letter


class Verdict(enum.Enum):
    """Whether an answer is right."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class FirstRound:
    """A question's first round: votes, votes for the commonest letter, and whether that letter is right."""

    votes: int
    agreeing: int
    verdict: Verdict


@dataclass
class Judgement:
    """The scorer's verdicts compared with gold answers, over votes with a score and a letter."""

    accepted_right: int = 0
    accepted_wrong: int = 0
    void_right: int = 0
    void_wrong: int = 0
    auc: float | None = None
    right_scores: list[float] = field(default_factory=list, repr=False)
    wrong_scores: list[float] = field(default_factory=list, repr=False)


@dataclass
class Losses:
    """Lost claims (dead worker or failed engine), and seconds until the next claim."""

    lost: int = 0
    taken_again: int = 0
    median_seconds: float | None = None
    longest_seconds: float | None = None


@dataclass
class Worker:
    """One worker's claims: in total, ended and lost."""

    claims: int = 0
    ended: int = 0
    lost: int = 0


@dataclass
class Figures:
    """All figures of a run; times in seconds."""

    run: str
    source: str
    questions: int = 0
    answered: int = 0
    # Answers that a calibration withholds; the final ones are the others.
    abstained: int = 0
    dead: int = 0
    open: int = 0
    # Questions with a round that was stopped early, its votes that were never finished, and their tokens.
    stopped: int = 0
    unfinished: int = 0
    aborted_tokens: int = 0
    one_vote: Share = field(default_factory=Share)
    majority: Share = field(default_factory=Share)
    final: Share = field(default_factory=Share)
    some_vote_right: Share = field(default_factory=Share)
    how: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    agreement: float | None = None
    unreadable: Share = field(default_factory=Share)
    # Letters that were asked for, and those that were read; the plain majority's accuracy with the former and
    # without them.
    forced_letters: Counter[str] = field(default_factory=Counter)
    read_letters: Counter[str] = field(default_factory=Counter)
    with_forced: Share = field(default_factory=Share)
    without_forced: Share = field(default_factory=Share)
    voices: VoiceReport = field(default_factory=VoiceReport)
    accepted: Share = field(default_factory=Share)
    scorer: Judgement = field(default_factory=Judgement)
    # Votes by model, weights, engine, adapter and scorer; None: not recorded.
    sources: list[VoteSource] = field(default_factory=list)
    # An `api_usage.ApiUsage`, if the generator calls a provider: calls, usage and cost.
    services: Any = None
    # A `combination.Combination`, if the run combines the votes of others.
    combination: Any = None
    votes: int = 0
    # What the vote budget has left, if the run has one.
    balance: Balance | None = None
    # A `calibration_report.CalibrationReport`, if the run is calibrated.
    calibration: Any = None
    tokens: int = 0
    wall_seconds: float | None = None
    tokens_per_second: float | None = None
    workers: dict[str, Worker] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)
    answer_times: list[float] = field(default_factory=list, repr=False)
    # Data of the plots.
    first_rounds: list[FirstRound] = field(default_factory=list, repr=False)
    outcomes: defaultdict[str, Counter[Verdict]] = field(
        default_factory=lambda: defaultdict(Counter), repr=False
    )
    vote_letters: Counter[str] = field(default_factory=Counter, repr=False)
    answer_letters: Counter[str] = field(default_factory=Counter, repr=False)
    right_letters: Counter[str] = field(default_factory=Counter, repr=False)


def figures(run: str) -> Figures:
    """Compute a run's figures from the ledger.

    Raises:
        UserError: there is no such run, or it is not an infer run.
    """
    record = run_progress.require_questions(run)
    figures, calibrated = Figures(run, record.source), CalibratedAnswers(record)
    for result in votes.of_run(run):
        _count_state(figures, result, calibrated.abstains(result))
        _count_votes(figures, result)
        figures.voices.count(result)
        if result.gold is not None:
            _count_votes_right(figures, result, result.gold)
            _count_judgement(figures.scorer, result, result.gold)
    if figures.stopped:
        _leave_out_votes(figures, record.options["stop"])
    if figures.first_rounds:
        figures.agreement = statistics.fmean(first.agreeing / first.votes for first in figures.first_rounds)
    figures.scorer.auc = metrics.auc(figures.scorer.right_scores, figures.scorer.wrong_scores)
    figures.sources = votes.count_sources(run)
    if budget := record.options.get("vote_budget"):
        figures.balance = vote_spending.balance(run, budget)
    _count_claims(figures, run)
    return figures


def _leave_out_votes(figures: Figures, stop: str) -> None:
    """Remove what describes votes of whole rounds: single votes, the first round, agreement and scorer."""
    for share in ("one_vote", "majority", "some_vote_right", "with_forced", "without_forced"):
        setattr(figures, share, Share())
    figures.scorer, figures.first_rounds = Judgement(), []
    figures.voices.leave_out_votes(stop)


def _count_state(figures: Figures, result: QuestionResult, abstains: bool) -> None:
    figures.questions += 1
    figures.stopped += result.unfinished > 0
    figures.unfinished += result.unfinished
    figures.aborted_tokens += result.aborted_tokens
    figures.tokens += result.aborted_tokens
    figures.open += result.state in OPEN
    figures.dead += result.state == State.DEAD
    if result.gold is not None:
        figures.right_letters[result.gold] += 1
    if result.letter is None:
        figures.outcomes["given up" if result.state == State.DEAD else "still open"][Verdict.UNANSWERED] += 1
        return
    figures.rounds[result.attempt] += 1
    if result.answered_at is not None:
        figures.answer_times.append(result.answered_at)
    if abstains:
        figures.abstained += 1
        figures.outcomes[Outcome.ABSTAINED][Verdict.UNANSWERED] += 1
        return
    figures.outcomes[str(result.how)][_verdict(result.letter, result.gold)] += 1
    figures.answer_letters[result.letter] += 1
    figures.answered += 1
    figures.how[str(result.how)] += 1
    if result.gold is not None:
        figures.final.add(result.letter == result.gold)


def _count_votes(figures: Figures, result: QuestionResult) -> None:
    figures.votes += len(result.votes)
    for vote in result.votes:
        figures.tokens += vote.tokens
        figures.unreadable.add(vote.letter is None)
        figures.accepted.add(vote.accepted)
        figures.vote_letters[vote.letter or NO_LETTER] += 1
        if vote.letter is not None:
            letters = figures.forced_letters if vote.letter_source == FORCED else figures.read_letters
            letters[vote.letter] += 1
    first = result.first_round
    # Ties go to the letter seen first, as in the plain majority.
    for letter, agreeing in Counter(vote.letter for vote in first if vote.letter is not None).most_common(1):
        figures.first_rounds.append(FirstRound(len(first), agreeing, _verdict(letter, result.gold)))


def _verdict(letter: str, gold: str | None) -> Verdict:
    if gold is None:
        return Verdict.UNKNOWN
    return Verdict.RIGHT if letter == gold else Verdict.WRONG


def _count_votes_right(figures: Figures, result: QuestionResult, gold: str) -> None:
    """Count the votes of the first round, and plain majorities: of it, and of all votes."""
    if not result.votes:
        return
    first = result.first_round
    right = sum(vote.letter == gold for vote in first)
    figures.one_vote.add(right, len(first))
    figures.some_vote_right.add(right > 0)
    read = [vote for vote in result.votes if vote.letter_source != FORCED]
    counted = [
        (figures.majority, first),
        (figures.with_forced, result.votes),
        (figures.without_forced, read),
    ]
    for share, votes_of in counted:
        share.add(voting.fall_back([Vote(vote.letter) for vote in votes_of], "majority").letter == gold)


def _count_judgement(judgement: Judgement, result: QuestionResult, gold: str) -> None:
    for vote in result.votes:
        if vote.score is None or vote.letter is None:
            continue
        right = vote.letter == gold
        (judgement.right_scores if right else judgement.wrong_scores).append(vote.score)
        name = f"{'accepted' if vote.accepted else 'void'}_{'right' if right else 'wrong'}"
        setattr(judgement, name, getattr(judgement, name) + 1)


def _count_claims(figures: Figures, run: str) -> None:
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
            worker = figures.workers.setdefault(row.worker, Worker())
            worker.claims += 1
            worker.ended += row.ended_at is not None and not lost
            worker.lost += lost
            figures.losses.lost += lost
    if recoveries:
        figures.losses.taken_again = len(recoveries)
        figures.losses.median_seconds = statistics.median(recoveries)
        figures.losses.longest_seconds = max(recoveries)
    if begun is not None and figures.answer_times:
        figures.wall_seconds = max(figures.answer_times) - begun
        figures.tokens_per_second = figures.tokens / max(figures.wall_seconds, 1e-3)
        figures.answer_times = sorted(time - begun for time in figures.answer_times)
