"""Compare all voting modes on recorded votes; nothing is sampled.

    revote("test")  ->  Revote("test", "scorer-3f9c01ab12cd", rows=[Row("gate", Share(150, 275), ...)], ...)

Questions about problems in the scorer's training data are left out.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from producers import run_progress
from producers.reports import confidence_intervals
from producers.reports.confidence_intervals import Interval
from producers.reports.shares import Share
from shared import dataset, metrics, vote_weights, voting
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


@dataclass(frozen=True)
class _Case:
    """A question's gold letter, entry, and votes by rounds."""

    gold: str
    entry: str
    rounds: list[list[RecordedVote]]

    def votes(self, weighing: Sampling | None = None) -> list[list[Vote]]:
        """Give its votes; ``weighing``: with the weights of their kinds, learned without its fold."""
        fold = vote_weights.fold(self.entry, labelled=True)
        return [
            [
                Vote(vote.letter, vote.score, weighing.kind_weight(vote.kind, fold) if weighing else 1.0)
                for vote in votes
            ]
            for votes in self.rounds
        ]


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
    cases = list(_cases(comparison, model))
    if not cases:
        raise UserError(f"run {name!r}: no labelled question has usable votes{_why(comparison)}")
    comparison.questions = len(cases)
    rows = _rows(cases, model, sampling)
    if comparison.stopped:
        comparison.rows = [row for row in rows if row.name not in (ONE_VOTE, ORACLE)]
    else:
        comparison.rows = list(rows)
        comparison.auc = _auc(cases) if model else None
    return comparison


def _model(run: str, wanted: str | None) -> Model | None:
    if wanted is not None:
        return models.get(wanted, "scorer")
    judge = votes.main_scorer(run)
    return models.get(judge, "scorer") if judge else None


def _cases(comparison: Revote, model: Model | None) -> Iterator[_Case]:
    learned = models.problems(model.name) if model else set()
    for result in votes.of_run(comparison.run):
        if not result.votes:
            continue
        if result.gold is None:
            comparison.unlabelled += 1
        elif dataset.identity(result.entry.problem) in learned:
            comparison.learned += 1
        elif model is not None and any(vote.scorer != model.name for vote in result.votes):
            comparison.otherwise += 1
        else:
            comparison.stopped += result.unfinished > 0
            yield _Case(result.gold, dataset.unit(result.entry), _rounds(result))


def _rounds(result: QuestionResult) -> list[list[RecordedVote]]:
    return [list(group) for _, group in itertools.groupby(result.votes, key=attrgetter("attempt"))]


def _why(comparison: Revote) -> str:
    reasons = [
        (comparison.unlabelled, "have no gold answer"),
        (comparison.learned, f"are about problems that {comparison.scorer} was trained on"),
        (comparison.otherwise, f"were not scored by {comparison.scorer}"),
    ]
    left_out = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
    return f" ({left_out})" if left_out else ""


def _auc(cases: Sequence[_Case]) -> float | None:
    scores: dict[bool, list[float]] = {True: [], False: []}
    for case in cases:
        for vote in itertools.chain(*case.rounds):
            if vote.letter is not None and vote.score is not None:
                scores[vote.letter == case.gold].append(vote.score)
    return metrics.auc(scores[True], scores[False])


# Voting modes


def _rows(cases: Sequence[_Case], model: Model | None, sampling: Sampling) -> Iterator[Row]:
    first = [case.rounds[0] for case in cases]
    one = [sum(vote.letter == case.gold for vote in votes) for case, votes in zip(cases, first, strict=True)]
    yield _row(ONE_VOTE, None, cases, one, sizes=[len(votes) for votes in first])
    plain, rounds, tokens = _answers(cases, PLAIN, sampling)
    yield _finished(_row("majority", None, cases, plain), rounds, tokens)
    weighing = sampling if sampling.kind_weights else None
    rules = [(BY_KIND, PLAIN)] if weighing else []
    if model:
        rules += [(str(use), Rule(use, model.threshold(use))) for use in SCORED]
    for name, rule in rules:
        right, rounds, tokens = _answers(cases, rule, sampling, weighing)
        row = _row(name, rule.threshold if rule.use.voids else None, cases, right)
        gains = [now - before for now, before in zip(right, plain, strict=True)]
        row.over_majority = sum(gains) / len(cases)
        row.over_interval = _interval(cases, gains, [1] * len(cases))
        yield _finished(row, rounds, tokens)
    some = [
        int(any(vote.letter == case.gold for vote in votes)) for case, votes in zip(cases, first, strict=True)
    ]
    yield _row(ORACLE, None, cases, some)


def _answers(
    cases: Sequence[_Case], rule: Rule, sampling: Sampling, weighing: Sampling | None = None
) -> tuple[list[int], list[int], list[int]]:
    """Answer all questions by one rule; return correctness, rounds and tokens of each."""
    right, rounds, tokens = [], [], []
    for case in cases:
        answer, taken = voting.revote(case.votes(weighing), rule, sampling.fallback)
        right.append(int(answer.letter == case.gold))
        rounds.append(taken)
        tokens.append(sum(vote.tokens for votes in case.rounds[:taken] for vote in votes))
    return right, rounds, tokens


def _row(
    name: str,
    threshold: float | None,
    cases: Sequence[_Case],
    right: Sequence[int],
    sizes: Sequence[int] | None = None,
) -> Row:
    of = sizes or [1] * len(cases)
    return Row(name, threshold, Share(sum(right), sum(of)), _interval(cases, right, of))


def _finished(row: Row, rounds: Sequence[int], tokens: Sequence[int]) -> Row:
    row.rounds = sum(rounds) / len(rounds)
    row.tokens = sum(tokens) / len(tokens)
    return row


def _interval(cases: Sequence[_Case], counts: Sequence[float], sizes: Sequence[int]) -> Interval | None:
    return confidence_intervals.by_unit([case.entry for case in cases], counts, sizes)
