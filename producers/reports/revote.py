"""Compare all voting modes on recorded votes; nothing is sampled.

    revote("test")  ->  Revote("test", "scorer-3f9c01ab12cd", rows=[Row("gate", Share(150, 275), ...)], ...)

Questions about problems in the scorer's training data are left out.
"""

import operator
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from producers import run_progress
from producers.reports import confidence_intervals
from producers.reports.confidence_intervals import Interval
from producers.reports.shares import Share
from shared import metrics, vote_weights, voting
from shared.errors import UserError
from shared.kind_weights import BY_KIND
from shared.ledger import models, votes
from shared.ledger.models import Model
from shared.ledger.votes import QuestionResult, RecordedVote
from shared.options import Sampling
from shared.voting import PLAIN, SCORED, Rule, Vote

ONE_VOTE, ORACLE = "one vote", "some vote right"


@dataclass
class Row:
    """One voting mode: its accuracy with interval, and its mean rounds and tokens.

    ``over_majority`` is the gain over the plain majority, with ``over_interval``, on the same questions.
    """

    name: str
    threshold: float | None = None
    right: Share = field(default_factory=Share)
    interval: Interval | None = None
    over_majority: float | None = None
    over_interval: Interval | None = None
    rounds: float | None = None
    tokens: float | None = None


@dataclass
class Revote:
    """All voting modes on a run's questions; ``auc`` is the scorer's over readable votes.

    ``unlabelled``, ``learned`` and ``otherwise`` count the questions left out: without a gold answer, about
    problems that the scorer was trained on, scored by another scorer or by none. The votes of questions that
    ``stopped`` early are no fair sample: single votes and the AUC are left out, and another rule than the
    run's might answer whole rounds otherwise.
    """

    run: str
    scorer: str | None
    questions: int = 0
    unlabelled: int = 0
    learned: int = 0
    otherwise: int = 0
    stopped: int = 0
    auc: float | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass
class _Tally:
    """The answers of one rule to all questions: which are right, and the rounds and tokens they took.

    ``weighs``: votes count the weights of their kinds.
    """

    name: str
    rule: Rule
    weighs: bool = False
    right: "array[int]" = field(default_factory=lambda: array("b"))
    rounds: int = 0
    tokens: int = 0

    def add(self, gold: str, rounds: list[list[Vote]], tokens: list[int], fallback: voting.Fallback) -> None:
        """Answer a question like a worker with this rule; ``tokens`` are those of its rounds."""
        answer, taken = voting.revote(rounds, self.rule, fallback)
        self.right.append(answer.letter == gold)
        self.rounds += taken
        self.tokens += sum(tokens[:taken])


def _weighed(rounds: list[list[RecordedVote]], weighing: Sampling | None, unit: str) -> list[list[Vote]]:
    """Give the votes of rounds; ``weighing``: with the weights of their kinds, learned without their fold."""
    if weighing is None:
        return [[Vote(vote.letter, vote.score) for vote in votes] for votes in rounds]
    fold = vote_weights.fold(unit, labelled=True)
    return [
        [Vote(vote.letter, vote.score, weighing.kind_weight(vote.kind, fold)) for vote in votes]
        for votes in rounds
    ]


@dataclass
class _Cases:
    """Numbers of all questions, in order: their entry, and of their first round the votes and right votes."""

    entries: "array[int]" = field(default_factory=lambda: array("l"))
    votes: "array[int]" = field(default_factory=lambda: array("l"))
    right: "array[int]" = field(default_factory=lambda: array("l"))
    right_scores: "array[float]" = field(default_factory=lambda: array("d"))
    wrong_scores: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, result: QuestionResult, entry: int) -> None:
        """Add a question."""
        first, gold = result.first_round, result.gold
        self.entries.append(entry)
        self.votes.append(len(first))
        self.right.append(sum(vote.letter == gold for vote in first))
        for vote in result.votes:
            if vote.letter is not None and vote.score is not None:
                (self.right_scores if vote.letter == gold else self.wrong_scores).append(vote.score)


def revote(name: str, scorer: str | None = None) -> Revote:
    """Answer a run's labelled questions with all voting modes, using the recorded scores.

    ``scorer`` names the scorer to use, by default the one that scored most votes.

    Raises:
        UserError: there is no such run or scorer, or the run has no votes on labelled questions.
    """
    run = run_progress.require_questions(name)
    sampling = Sampling.of_record(run.options)
    if sampling.weights is not None:
        raise UserError(
            f"run {name!r} weighs votes by their runs, which --revote cannot: see `votequeue report {name}`, "
            "or combine the runs with --combine plain"
        )
    model = _model(name, scorer)
    if model is not None:
        sampling = model.weighing(sampling)
    comparison = Revote(name, model.name if model else None)
    cases, tallies = _count(comparison, model, sampling)
    if not cases.entries:
        raise UserError(f"run {name!r}: no labelled question has usable votes{_why(comparison)}")
    comparison.questions = len(cases.entries)
    comparison.rows = list(_rows(cases, tallies))
    if comparison.stopped:
        comparison.rows = [row for row in comparison.rows if row.name not in (ONE_VOTE, ORACLE)]
    elif model:
        comparison.auc = metrics.auc(cases.right_scores, cases.wrong_scores)
    return comparison


def _count(comparison: Revote, model: Model | None, sampling: Sampling) -> tuple[_Cases, list[_Tally]]:
    weighing = sampling if sampling.kind_weights else None
    cases, tallies, entries = _Cases(), _tallies(model, weighing is not None), dict[str, int]()
    for result, gold in _results(comparison, model):
        unit, rounds = result.text.unit, result.votes_by_round
        cases.add(result, entries.setdefault(unit, len(entries)))
        tokens = [sum([vote.tokens for vote in votes]) for votes in rounds]
        plain = _weighed(rounds, None, unit)
        weighed = _weighed(rounds, weighing, unit) if weighing else plain
        for tally in tallies:
            tally.add(gold, weighed if tally.weighs else plain, tokens, sampling.fallback)
    return cases, tallies


def _tallies(model: Model | None, weighs: bool) -> list[_Tally]:
    tallies = [_Tally("majority", PLAIN)]
    if weighs:
        tallies.append(_Tally(BY_KIND, PLAIN, weighs))
    if model:
        tallies += [_Tally(str(use), Rule(use, model.threshold(use)), weighs) for use in SCORED]
    return tallies


def _model(run: str, wanted: str | None) -> Model | None:
    if wanted is not None:
        return models.get(wanted, "scorer")
    judge = votes.main_scorer(run)
    return models.get(judge, "scorer") if judge else None


def _results(comparison: Revote, model: Model | None) -> Iterator[tuple[QuestionResult, str]]:
    learned = models.problems(model.name) if model else set()
    for result in votes.of_run(comparison.run):
        if not result.votes:
            continue
        if (gold := result.gold) is None:
            comparison.unlabelled += 1
        elif learned and result.problem_identity in learned:
            comparison.learned += 1
        elif model is not None and any(vote.scorer != model.name for vote in result.votes):
            comparison.otherwise += 1
        else:
            comparison.stopped += result.unfinished > 0
            yield result, gold


def _why(comparison: Revote) -> str:
    reasons = [
        (comparison.unlabelled, "have no gold answer"),
        (comparison.learned, f"are about problems that {comparison.scorer} was trained on"),
        (comparison.otherwise, f"were not scored by {comparison.scorer}"),
    ]
    left_out = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
    return f" ({left_out})" if left_out else ""


# Voting modes


def _rows(cases: _Cases, tallies: Sequence[_Tally]) -> Iterator[Row]:
    yield _row(ONE_VOTE, cases, cases.right, cases.votes)
    plain = tallies[0]
    for tally in tallies:
        row = _row(tally.name, cases, tally.right)
        row.threshold = tally.rule.threshold if tally.rule.use.voids else None
        row.rounds, row.tokens = tally.rounds / len(tally.right), tally.tokens / len(tally.right)
        if tally is not plain:
            gains = array("b", map(operator.sub, tally.right, plain.right))
            row.over_majority = sum(gains) / len(gains)
            row.over_interval = confidence_intervals.by_unit(cases.entries, gains)
        yield row
    yield _row(ORACLE, cases, array("b", map(bool, cases.right)))


def _row(name: str, cases: _Cases, right: Sequence[int], sizes: Sequence[int] | None = None) -> Row:
    interval = confidence_intervals.by_unit(cases.entries, right, sizes)
    return Row(name, right=Share(sum(right), sum(sizes or [len(right)])), interval=interval)
