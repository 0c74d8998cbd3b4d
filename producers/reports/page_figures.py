"""What the page of a run shows besides texts: headline figures with intervals, charts, a row per question.

    PageFigures(run).summary  ->  {"headline": [{"label": "accuracy of one vote", "right": 118, ...}], ...}

Charts are data, which the page's script draws. Definitions are those of `inference_report`.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from producers import merged_answers
from producers.calibrated_answers import CalibratedAnswers
from producers.reports import confidence_intervals, inference_plots, render_api_usage, summaries
from producers.reports.calibration_report import Part
from producers.reports.inference_report import NO_LETTER, Figures, Verdict
from producers.reports.shares import Share
from shared import voting
from shared.ledger import votes
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.ledger.votes import QuestionResult
from shared.voting import Outcome, Vote

# The columns of the table of questions; shares are from 0 to 1, `answered` in seconds since the first claim.
COLUMNS = (
    *("key", "text", "right", "answer", "verdict", "outcome", "agreement", "confidence", "probability"),
    *("rounds", "votes", "tokens", "answered", "before"),
)
_SHOWN = 120  # characters of a question in the table


@dataclass
class _Measure:
    """A share of which an interval is wanted: of each question its unit, and its counts."""

    units: list[str] = field(default_factory=list)
    counts: "array[float]" = field(default_factory=lambda: array("d"))
    sizes: "array[int]" = field(default_factory=lambda: array("l"))

    def add(self, unit: str, count: float, size: int = 1) -> None:
        self.units.append(unit)
        self.counts.append(count)
        self.sizes.append(size)

    def figure(self, label: str, share: Share) -> dict[str, Any]:
        """Give a headline figure with its 95 % interval, if it has one."""
        interval = confidence_intervals.by_unit(self.units, self.counts, self.sizes)
        return {"label": label, "right": share.right, "of": share.of, "interval": interval}


class PageFigures:
    """The figures of a run, read as they are now."""

    def __init__(self, run: Run) -> None:
        """Compute them. Raises as `summaries.of_run`."""
        report = summaries.of_run(run.name)
        if not isinstance(report, Figures):
            raise TypeError(f"run {run.name!r} has no questions")
        self._run, self._figures = run, report
        self._one, self._majority, self._final, self._some, self._agreement = (_Measure() for _ in range(5))
        self.rows = list(self._rows())
        self.summary = {
            "run": run.name,
            "source": run.source,
            "enqueued": run.created_at,
            "columns": COLUMNS,
            "headline": self._headline(),
            "figures": summaries.rows(report),
            "charts": list(_charts(report)),
            "cost": self._cost(),
        }

    def _rows(self) -> Iterator[list[Any]]:
        run, calibrated = self._run, CalibratedAnswers(self._run)
        threshold = calibrated.calibration.threshold if calibrated.calibration else 0.0
        origins = merged_answers.chain(run)[1:]
        former = merged_answers.of_run(origins[0]) if origins else ()
        before = {each.answer.key: each.answer.letter for _, answers in former for each in answers}
        begun_at = min((claims.begun_at for claims in votes.count_claims(run.name)), default=0.0)
        for result in votes.of_run(run.name):
            probability = None
            if calibrated.calibration is not None and result.letter is not None:
                cast = result.entry, result.question, result.votes, result.letter
                probability = calibrated.probability(*cast)
            outcome, verdict = _ended(result, probability is not None and probability < threshold)
            agreement = self._measure(result, verdict)
            yield [
                result.key,
                " ".join(result.entry.questions[result.question].question.split())[:_SHOWN],
                result.gold,
                result.letter,
                verdict.value,
                outcome,
                _rounded(agreement),
                _rounded(result.agreement),
                _rounded(probability),
                result.attempt,
                len(result.votes),
                sum(map(attrgetter("tokens"), result.votes)) + result.aborted_tokens,
                None if result.answered_at is None else round(result.answered_at - begun_at, 1),
                before.get(result.key),
            ]

    def _measure(self, result: QuestionResult, verdict: Verdict) -> float | None:
        """Measure a question for the intervals; give the agreement of its first round."""
        unit, gold, first = result.text.unit, result.gold, result.first_round
        if verdict in (Verdict.RIGHT, Verdict.WRONG):
            self._final.add(unit, verdict is Verdict.RIGHT)
        if not first or result.unfinished:
            return None
        read = Counter(vote.letter for vote in first if vote.letter is not None)
        agreement = max(read.values()) / len(first) if read else None
        if agreement is not None:
            self._agreement.add(unit, agreement)
        if gold is not None:
            right = sum(vote.letter == gold for vote in first)
            majority = voting.fall_back([Vote(vote.letter) for vote in first], "majority")
            self._one.add(unit, right, len(first))
            self._majority.add(unit, majority.letter == gold)
            self._some.add(unit, right > 0)
        return agreement

    def _headline(self) -> list[dict[str, Any]]:
        figures = self._figures
        given = "the answers given" if figures.abstained else "the final answer"
        shares = [
            (f"accuracy of {given}", figures.final, self._final),
            ("accuracy of the first round's majority", figures.majority, self._majority),
            ("accuracy of one vote", figures.one_vote, self._one),
            ("some first-round vote right", figures.some_vote_right, self._some),
        ]
        told = [measure.figure(label, share) for label, share, measure in shares if share.of]
        if figures.agreement is not None:
            agreement = self._agreement.figure("agreement (majority's share)", Share())
            told.append({**agreement, "value": figures.agreement})
        answered = Share(figures.answered, figures.questions)
        return [_Measure().figure("questions answered", answered), *told]

    def _cost(self) -> list[tuple[str, str]]:
        figures, prompts = self._figures, votes.count_prompt_tokens(self._run.name)
        services = render_api_usage.service_rows(figures.services) if figures.services else []
        return [
            ("tokens of prompts", f"{prompts:,}" if prompts else "not recorded"),
            ("tokens sampled", f"{figures.tokens:,}"),
            ("tokens sampled per question", f"{figures.tokens / max(1, figures.questions):.1f}"),
            *services,
        ]


def _ended(result: QuestionResult, abstains: bool) -> tuple[str, Verdict]:
    """Give how a question ended, and whether its answer is right."""
    if result.letter is None:
        return ("given up" if result.state == State.DEAD else "still open"), Verdict.UNANSWERED
    if abstains:
        return Outcome.ABSTAINED, Verdict.UNANSWERED
    if result.gold is None:
        return str(result.how), Verdict.UNKNOWN
    return str(result.how), Verdict.RIGHT if result.letter == result.gold else Verdict.WRONG


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


# Charts


def _charts(figures: Figures) -> Iterator[dict[str, Any]]:
    """Describe the charts that have data: bars with series, or points with intervals."""
    firsts = figures.first_rounds
    if (size := max((first.votes for first in firsts), default=0)) > 1:
        tally: Counter[tuple[int, Verdict]] = Counter()
        for first, times in firsts.items():
            tally[first.agreeing, first.verdict] += times
        counts = range(1, size + 1)
        bars = {verdict: [tally[count, verdict] for count in counts] for verdict in Verdict}
        x = f"votes for the commonest letter, of {size} in the first round"
        yield _stacked("Agreement of votes and right answers", x, counts, bars)
    hows = sorted(figures.outcomes, key=lambda how: -figures.outcomes[how].total())
    ended = {verdict: [figures.outcomes[how][verdict] for how in hows] for verdict in Verdict}
    yield _stacked("How the questions ended", "outcome", hows, ended)
    yield from _letters(figures)
    rounds = sorted(figures.rounds)
    if rounds:
        taken = {"answered": [figures.rounds[attempt] for attempt in rounds]}
        yield _bars("Rounds until the answer", "round", "questions", rounds, taken)
    if (calibration := figures.calibration) is not None:
        reliability = [(part.probability, part) for part in calibration.bins]
        yield _points(
            "Reliability", "probability (mean of a bin)", "share of right answers", reliability, True
        )
        risk = [(part.coverage, part) for part in calibration.surest]
        yield _points("Risk against coverage", "share answered, the surest first", "share wrong", risk, False)
    right, wrong = figures.scorer.right_scores, figures.scorer.wrong_scores
    if right and wrong and len(right) + len(wrong) >= inference_plots.FEW:
        bins = [
            (score, Part(score, 0.0, Share(round(share * count), int(count)), None))
            for score, share, count in inference_plots.reliability(right, wrong)
        ]
        yield _points(
            "Calibration of the scorer", "score (mean of a bin)", "share of right votes", bins, True
        )


def _letters(figures: Figures) -> Iterator[dict[str, Any]]:
    series = {
        "votes": figures.vote_letters,
        "answers": figures.answer_letters,
        "right answers": figures.right_letters,
    }
    letters = sorted({letter for counts in series.values() for letter in counts} - {NO_LETTER})
    letters += [NO_LETTER] if figures.vote_letters[NO_LETTER] else []
    shares = {
        f"{name} ({counts.total()})": [100 * counts[letter] / counts.total() for letter in letters]
        for name, counts in series.items()
        if counts
    }
    if shares:
        yield {**_bars("Letters", "letter", "% of each", letters, shares), "grouped": True}


def _stacked(title: str, x: str, bars: Sequence[object], series: dict[Verdict, list[int]]) -> dict[str, Any]:
    named = {verdict.value: values for verdict, values in series.items() if any(values)}
    return _bars(title, x, "questions", bars, named)


def _bars(title: str, x: str, y: str, bars: Sequence[object], series: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "x": x, "y": y, "bars": list(map(str, bars)), "series": series}


def _points(
    title: str, x: str, y: str, parts: Sequence[tuple[float, Part]], diagonal: bool
) -> dict[str, Any]:
    points = [(at, part.share.value, *(part.interval or (None, None)), part.share.of) for at, part in parts]
    return {"title": title, "x": x, "y": y, "points": points, "diagonal": diagonal}
