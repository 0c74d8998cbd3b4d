"""Compare the answers of several runs on the questions that they share.

    compare(["base", "chat"])  ->  Comparison([ComparedRun("base", ...), ...], questions=275, ...)

Accuracies are compared on labelled questions that all runs have answered, each run with the first one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from producers import run_progress
from producers.reports import confidence_intervals, matched_questions
from producers.reports.confidence_intervals import Interval
from producers.reports.matched_questions import Match
from producers.reports.shares import Share
from shared.errors import UserError
from shared.ledger import models, votes

# The lower bounds of the groups by agreement, in percent of a question's votes.
AGREEMENTS = (0, 40, 60, 80, 100)


@dataclass(frozen=True)
class Flip:
    """A question on which two runs give different answers."""

    key: str
    gold: str
    before: str
    after: str


@dataclass(frozen=True)
class Group:
    """Some of the questions: how many are right ``before`` (in the first run) and ``after``, and flips."""

    by: str
    value: str
    before: Share
    after: Share
    won: int
    lost: int


@dataclass(frozen=True)
class Difference:
    """A run compared with the first one.

    ``gain`` is the difference of the accuracies, with its interval; ``p`` is McNemar's exact, two-sided.
    ``won`` are the questions that only this run answers right, ``lost`` those that only the first one does;
    ``both_wrong``: different wrong answers.
    """

    gain: float
    interval: Interval | None
    p: float
    won: list[Flip]
    lost: list[Flip]
    both_wrong: list[Flip]
    groups: list[Group]


@dataclass
class ComparedRun:
    """One run on the shared questions.

    ``questions`` are all of the run; ``unanswered`` the shared ones without an answer in it. ``same`` counts
    the answers that equal the first run's, labelled or not; ``agreement`` is the mean share of a question's
    votes that name its answer, ``None`` if rounds were stopped early; ``tokens`` is the mean per question.
    """

    name: str
    questions: int
    unanswered: int = 0
    same: Share = field(default_factory=Share)
    right: Share = field(default_factory=Share)
    interval: Interval | None = None
    agreement: float | None = None
    tokens: float | None = None
    letters: Counter[str] = field(default_factory=Counter)
    difference: Difference | None = None


@dataclass
class Comparison:
    """Several runs on the same questions.

    ``shared`` questions are in all runs; ``questions`` of them, in ``entries`` entries, are compared. The
    others are ``unanswered`` in a run, ``unlabelled``, labelled differently (``contradictory``), or about
    problems that a run's scorer or adapter was trained on (``learned``).
    """

    runs: list[ComparedRun]
    shared: int = 0
    questions: int = 0
    entries: int = 0
    unanswered: int = 0
    unlabelled: int = 0
    contradictory: int = 0
    learned: int = 0


def compare(names: Sequence[str]) -> Comparison:
    """Compare runs on the questions that they share.

    Raises:
        UserError: there is no such run, one is named twice, or they share no answered question.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError("name at least two different runs to compare")
    for name in names:
        run_progress.require_questions(name)
    return of_matches(names, matched_questions.match(names))


def of_matches(names: Sequence[str], matches: Sequence[Match]) -> Comparison:
    """Compare runs on their matched questions; raises as `compare` if no question is answered in all."""
    answered = [match for match in matches if match.answered]
    if not answered:
        raise UserError(f"no question is answered in all runs ({', '.join(names)}): wait for their answers")
    runs = [_described(name, at, matches, answered) for at, name in enumerate(names)]
    comparison = Comparison(runs, shared=len(matches), unanswered=len(matches) - len(answered))
    _compare(comparison, list(_labelled(comparison, answered)))
    return comparison


def _described(name: str, at: int, matches: Sequence[Match], answered: Sequence[Match]) -> ComparedRun:
    """Compute what needs no right letters."""
    answers = [match.answers[at] for match in answered]
    whole = not votes.count_stopped(name)
    agreements = [answer.agreement for answer in answers if answer.agreement is not None]
    same = sum(match.answers[at].letter == match.answers[0].letter for match in answered)
    return ComparedRun(
        name,
        questions=run_progress.count_items(name),
        unanswered=sum(match.answers[at].letter is None for match in matches),
        same=Share(same, len(answered)),
        agreement=sum(agreements) / len(agreements) if agreements and whole else None,
        tokens=sum(answer.tokens for answer in answers) / len(answers),
        letters=Counter(sorted(str(answer.letter) for answer in answers)),
    )


def _labelled(comparison: Comparison, matches: Sequence[Match]) -> Iterator[Match]:
    """Choose the questions on which accuracies can be compared; count the others."""
    learned = _learned(comparison)
    for match in matches:
        if not match.golds:
            comparison.unlabelled += 1
        elif len(match.golds) > 1:
            comparison.contradictory += 1
        elif match.problem in learned:
            comparison.learned += 1
        else:
            yield match


def _learned(comparison: Comparison) -> set[str]:
    """Give the problems that the runs' scorers and adapters were trained on."""
    # The adapters of a combination's votes are on record with its runs.
    runs = {name for run in comparison.runs for name in (run.name, *run_progress.combined_runs(run.name))}
    sources = [source for name in runs for source in votes.count_sources(name)]
    names = {name for source in sources for name in (source.scorer, source.adapter) if name}
    return set().union(*map(models.problems, names))


def _compare(comparison: Comparison, matches: Sequence[Match]) -> None:
    units = [match.unit for match in matches]
    comparison.questions, comparison.entries = len(matches), len(set(units))
    for at, run in enumerate(comparison.runs):
        right = [match.right(at) for match in matches]
        run.right = Share(sum(right), len(right))
        run.interval = confidence_intervals.by_unit(units, right)
        if at and matches:
            run.difference = difference(matches, at)


def difference(matches: Sequence[Match], at: int) -> Difference:
    """Compare the run at a place with the first one, on labelled questions (at least one)."""
    gains = [match.right(at) - match.right(0) for match in matches]
    won, lost = _flips(matches, at, False, True), _flips(matches, at, True, False)
    return Difference(
        gain=sum(gains) / len(matches),
        interval=confidence_intervals.by_unit([match.unit for match in matches], gains),
        p=mcnemar(len(won), len(lost)),
        won=won,
        lost=lost,
        both_wrong=_flips(matches, at, False, False),
        groups=list(_groups(matches, at)),
    )


def _flips(matches: Sequence[Match], at: int, before: bool, after: bool) -> list[Flip]:
    """List the questions with different answers that are right as stated ``before`` and ``after``."""
    return [
        Flip(match.key, match.gold, str(match.answers[0].letter), str(match.answers[at].letter))
        for match in matches
        if match.answers[0].letter != match.answers[at].letter
        and (match.right(0), match.right(at)) == (before, after)
    ]


def mcnemar(won: int, lost: int) -> float:
    """Return McNemar's exact two-sided p: the binomial test that flips go both ways equally often.

    McNemar 1947. Questions count as independent of each other.
    """
    if not won + lost:
        return 1.0
    return float(confidence_intervals.scipy_stats().binomtest(won, won + lost).pvalue)


def _groups(matches: Sequence[Match], at: int) -> Iterator[Group]:
    """Split the questions by right letter, number of options, and agreement of the first run's votes."""
    ways: dict[str, Callable[[Match], str]] = {
        "right letter": lambda match: match.gold,
        "options": lambda match: f"{match.options:2}",
        "agreement": lambda match: agreement(match.answers[0].agreement),
    }
    for by, value_of in ways.items():
        grouped: dict[str, list[Match]] = {}
        for match in matches:
            grouped.setdefault(value_of(match), []).append(match)
        for value in sorted(grouped):
            yield _group(by, value.strip(), grouped[value], at)


def _group(by: str, value: str, matches: Sequence[Match], at: int) -> Group:
    pairs = [(match.right(0), match.right(at)) for match in matches]
    before, after = (Share(sum(column), len(matches)) for column in zip(*pairs, strict=True))
    return Group(by, value, before, after, pairs.count((False, True)), pairs.count((True, False)))


def agreement(share: float | None) -> str:
    """Name the group of an agreement, so that the names sort by it."""
    if share is None:
        return "unknown"
    low = max(bound for bound in AGREEMENTS if 100 * share >= bound - 1e-6)
    above = next((bound for bound in AGREEMENTS if bound > low), None)
    return f"{low:3} %" if above is None else f"{low:3} to under {above} %"
