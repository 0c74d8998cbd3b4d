"""Figures of an `infer` run: accuracy, agreement, rounds, tokens, time, workers.

    figures("round1")  ->  Figures(questions=64, one_vote=Share(118, 320), majority=Share(31, 64), ...)

"One vote" and "majority" refer to the first round of each question, without the scorer; "final" is the
recorded answer. If rounds were stopped early, their votes are no fair sample: figures of single votes and of
their agreement are left out. `inference_plots` draws the figures, `render_reports` prints them.
"""

import enum
import itertools
import statistics
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from producers import run_progress
from producers.calibrated_answers import CalibratedAnswers
from producers.reports.shares import Share
from producers.reports.voice_figures import VoiceReport
from shared import metrics, voting
from shared.ledger import vote_spending, votes
from shared.ledger.claims import FORCED
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, State
from shared.ledger.vote_spending import Balance
from shared.ledger.votes import QuestionResult, RecordedVote, VoteSource
from shared.voting import Outcome, Vote

NO_LETTER = "none"  # label for votes without a letter
_MOST_KINDS = 10_000  # of questions in memory
# What is counted of a vote; its score and its tokens are measured.
_COUNTED = itemgetter(
    *map(
        RecordedVote._fields.index,
        ("attempt", "letter", "accepted", "scorer", "letter_source", "voice", "outcome", "first_outcome"),
    )
)


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
    right_scores: "array[float]" = field(default_factory=lambda: array("d"), repr=False)
    wrong_scores: "array[float]" = field(default_factory=lambda: array("d"), repr=False)


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
    cancelled: int = 0
    # When all questions were to have an answer, by the ledger's clock.
    deadline_at: float | None = None
    # When the texts of its votes were dropped.
    texts_dropped_at: float | None = None
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
    # Data of the plots.
    first_rounds: Counter[FirstRound] = field(default_factory=Counter, repr=False)
    outcomes: defaultdict[str, Counter[Verdict]] = field(
        default_factory=lambda: defaultdict(Counter), repr=False
    )
    vote_letters: Counter[str] = field(default_factory=Counter, repr=False)
    answer_letters: Counter[str] = field(default_factory=Counter, repr=False)
    right_letters: Counter[str] = field(default_factory=Counter, repr=False)

    @property
    def guessed(self) -> int:
        """Count the labelled questions whose first round has no letter, for which the majority takes A."""
        read = (times for first, times in self.first_rounds.items() if first.verdict is not Verdict.UNKNOWN)
        return self.majority.of - sum(read)


def figures(run: str) -> Figures:
    """Compute a run's figures from the ledger.

    Raises:
        UserError: there is no such run, or it is not an infer run.
    """
    record = run_progress.require_questions(run)
    figures, measures = Figures(run, record.source), _Measures()
    figures.deadline_at, figures.texts_dropped_at = record.deadline, record.texts_dropped_at
    sources: Counter[tuple[str | None, str | None, str | None]] = Counter()
    for (result, abstains), times in _kinds(measures.of(figures.scorer, record)):
        _count_state(figures, result, abstains, times)
        _count_votes(figures, result, times)
        _count_sources(sources, result, times)
        figures.voices.count(result, times)
        if result.gold is not None:
            _count_votes_right(figures, result, result.gold, times)
            _count_judgement(figures.scorer, result, result.gold, times)
    for voice, tokens in measures.tokens.items():
        figures.voices.voices[voice].tokens = tokens
    figures.tokens += measures.tokens.total()
    if figures.stopped:
        _leave_out_votes(figures, record.options["stop"])
    if figures.first_rounds:
        shares = [first.agreeing / first.votes for first in figures.first_rounds]
        figures.agreement = statistics.fmean(shares, figures.first_rounds.values())
    figures.scorer.auc = metrics.auc(figures.scorer.right_scores, figures.scorer.wrong_scores)
    figures.sources = votes.named_sources(sources)
    if budget := record.options.get("vote_budget"):
        figures.balance = vote_spending.balance(run, budget)
    _count_claims(figures, run, measures.answered_at)
    return figures


@dataclass
class _Measures:
    """What differs between questions that count the same: tokens by voice, and the last answer's time."""

    tokens: Counter[str] = field(default_factory=Counter)
    answered_at: float | None = None

    def of(self, judgement: Judgement, run: Run) -> Iterator[tuple[QuestionResult, bool]]:
        """Measure a run's questions; pass them on, each with whether it abstains."""
        calibrated, tokens = CalibratedAnswers(run), self.tokens
        right, wrong = judgement.right_scores, judgement.wrong_scores
        for result in votes.of_run(run.name):
            gold = result.gold
            for vote in result.votes:
                tokens[vote.voice] += vote.tokens
                if gold is not None and vote.score is not None and vote.letter is not None:
                    (right if vote.letter == gold else wrong).append(vote.score)
            if result.letter is not None and result.answered_at is not None:
                self.answered_at = max(self.answered_at or 0.0, result.answered_at)
            yield result, calibrated.abstains(result)


def _kinds(
    results: Iterator[tuple[QuestionResult, bool]],
) -> Iterator[tuple[tuple[QuestionResult, bool], int]]:
    """Give one of the questions that count the same, and their number: large runs have few kinds of them.

    All that the figures count of a question must be in its kind.
    """
    kinds: dict[tuple[object, ...], list[Any]] = {}
    for result, abstains in results:
        cast = tuple(map(_COUNTED, result.votes))
        scores = [vote.score for vote in result.votes]
        scored = tuple(score is not None for score in scores) if None in scores else ()
        sampled = tuple(source[1:] for source in result.rounds)  # all but the question's number
        ended = result.state, result.attempt, result.letter, result.how
        kind = (abstains, result.gold, *ended, cast, scored, sampled)
        if (known := kinds.get(kind)) is not None:
            known[1] += 1
            continue
        if len(kinds) == _MOST_KINDS:
            yield from map(tuple, kinds.values())
            kinds.clear()
        kinds[kind] = [(result, abstains), 1]
    yield from map(tuple, kinds.values())


def _leave_out_votes(figures: Figures, stop: str) -> None:
    """Remove what describes votes of whole rounds: single votes, the first round, agreement and scorer."""
    for share in ("one_vote", "majority", "some_vote_right", "with_forced", "without_forced"):
        setattr(figures, share, Share())
    figures.scorer, figures.first_rounds = Judgement(), Counter()
    figures.voices.leave_out_votes(stop)


def _count_state(figures: Figures, result: QuestionResult, abstains: bool, times: int) -> None:
    unfinished, aborted_tokens = result.unfinished, result.aborted_tokens
    figures.questions += times
    figures.stopped += times * (unfinished > 0)
    figures.unfinished += times * unfinished
    figures.aborted_tokens += times * aborted_tokens
    figures.tokens += times * aborted_tokens
    figures.open += times * (result.state in OPEN)
    figures.dead += times * (result.state == State.DEAD)
    figures.cancelled += times * (result.state == State.CANCELLED)
    if result.gold is not None:
        figures.right_letters[result.gold] += times
    outcome, verdict = ended(result, abstains)
    figures.outcomes[outcome][verdict] += times
    if result.letter is None:
        return
    figures.rounds[result.attempt] += times
    if abstains:
        figures.abstained += times
        return
    figures.answer_letters[result.letter] += times
    figures.answered += times
    figures.how[str(result.how)] += times
    if result.gold is not None:
        figures.final.add(result.letter == result.gold, times=times)


def _count_votes(figures: Figures, result: QuestionResult, times: int) -> None:
    figures.votes += len(result.votes) * times
    for vote in result.votes:
        figures.unreadable.add(vote.letter is None, times=times)
        figures.accepted.add(vote.accepted, times=times)
        figures.vote_letters[vote.letter or NO_LETTER] += times
        if vote.letter is not None:
            letters = figures.forced_letters if vote.letter_source == FORCED else figures.read_letters
            letters[vote.letter] += times
    first = result.first_round
    # Ties go to the letter seen first, as in the plain majority.
    for letter, agreeing in Counter(vote.letter for vote in first if vote.letter is not None).most_common(1):
        figures.first_rounds[FirstRound(len(first), agreeing, _verdict(letter, result.gold))] += times


def _count_sources(
    sources: Counter[tuple[str | None, str | None, str | None]], result: QuestionResult, times: int
) -> None:
    sampled = {(each.attempt, each.voice): (each.generator, each.adapter) for each in result.rounds}
    for vote in result.votes:
        generator, adapter = sampled.get((vote.attempt, vote.voice), (None, None))
        sources[generator, adapter, vote.scorer] += times


def ended(result: QuestionResult, abstains: bool) -> tuple[str, Verdict]:
    """Give how a question ended, and whether its answer is right."""
    if result.letter is None:
        words = {State.DEAD: "given up", State.CANCELLED: "cancelled"}
        return words.get(State(result.state), "still open"), Verdict.UNANSWERED
    if abstains:
        return Outcome.ABSTAINED, Verdict.UNANSWERED
    return str(result.how), _verdict(result.letter, result.gold)


def _verdict(letter: str, gold: str | None) -> Verdict:
    if gold is None:
        return Verdict.UNKNOWN
    return Verdict.RIGHT if letter == gold else Verdict.WRONG


def _count_votes_right(figures: Figures, result: QuestionResult, gold: str, times: int) -> None:
    """Count the votes of the first round, and plain majorities: of it, and of all votes."""
    if not result.votes:
        return
    first = result.first_round
    right = sum(vote.letter == gold for vote in first)
    figures.one_vote.add(right, len(first), times)
    figures.some_vote_right.add(right > 0, times=times)
    read = [vote for vote in result.votes if vote.letter_source != FORCED]
    counted = [
        (figures.majority, first),
        (figures.with_forced, result.votes),
        (figures.without_forced, read),
    ]
    for share, votes_of in counted:
        answer = voting.fall_back([Vote(vote.letter) for vote in votes_of], "majority")
        share.add(answer.letter == gold, times=times)


def _count_judgement(judgement: Judgement, result: QuestionResult, gold: str, times: int) -> None:
    for vote in result.votes:
        if vote.score is None or vote.letter is None:
            continue
        name = f"{'accepted' if vote.accepted else 'void'}_{'right' if vote.letter == gold else 'wrong'}"
        setattr(judgement, name, getattr(judgement, name) + times)


def _count_claims(figures: Figures, run: str, answered_at: float | None) -> None:
    workers = votes.count_claims(run)
    figures.workers = {each.worker: Worker(each.claims, each.ended, each.lost) for each in workers}
    figures.losses.lost = sum(each.lost for each in workers)
    recoveries = [
        claim.claimed_at - lost.ended_at
        for _number, claims in itertools.groupby(votes.lost_claims_of(run), key=attrgetter("number"))
        for lost, claim in itertools.pairwise(claims)
        if lost.lost and lost.ended_at is not None
    ]
    if recoveries:
        figures.losses.taken_again = len(recoveries)
        figures.losses.median_seconds = statistics.median(recoveries)
        figures.losses.longest_seconds = max(recoveries)
    if workers and answered_at is not None:
        figures.wall_seconds = answered_at - min(each.begun_at for each in workers)
        figures.tokens_per_second = figures.tokens / max(figures.wall_seconds, 1e-3)
