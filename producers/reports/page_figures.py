"""What the page of a run shows besides texts: headline figures with intervals, charts, a row per question.

    PageFigures(run).summary  ->  {"headline": [{"label": "accuracy of one vote", "right": 118, ...}], ...}

The page's script draws the charts from the data here. Definitions are those of `inference_report`.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from producers import merged_answers
from producers.calibrated_answers import CalibratedAnswers
from producers.reports import (
    confidence_intervals,
    inference_plots,
    inference_report,
    render,
    render_api_usage,
    render_reports,
    summaries,
)
from producers.reports.inference_report import Figures, Verdict
from producers.reports.shares import Share
from shared import voting
from shared.ledger import votes
from shared.ledger.runs import Run
from shared.ledger.votes import QuestionResult
from shared.voting import Vote

# The columns of the table of questions; shares are from 0 to 1, `answered` in seconds since the first claim.
COLUMNS = (
    *("key", "text", "right", "answer", "verdict", "outcome", "agreement", "confidence", "probability"),
    *("rounds", "votes", "tokens", "answered", "before"),
)
MAJORITY = "accuracy of the first round's majority"
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
            "charts": _charts(report),
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
            outcome, verdict = inference_report.ended(
                result, probability is not None and probability < threshold
            )
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
            (MAJORITY, figures.majority, self._majority),
            ("accuracy of one vote", figures.one_vote, self._one),
            ("some first-round vote right", figures.some_vote_right, self._some),
        ]
        told = [measure.figure(label, share) for label, share, measure in shares if share.of]
        for each in told:
            if figures.guessed and each["label"] == MAJORITY:
                each["note"] = render_reports.GUESSED.format(figures.guessed)
        if figures.agreement is not None:
            agreement = self._agreement.figure("agreement (majority's share)", Share())
            told.append({**agreement, "value": figures.agreement})
        answered = Share(figures.answered, figures.questions)
        return [_Measure().figure("questions answered", answered), *told]

    def _cost(self) -> list[tuple[str, str]]:
        figures, prompts = self._figures, votes.count_prompt_tokens(self._run.name)
        services = render_api_usage.service_rows(figures.services) if figures.services else []
        return [
            ("tokens of prompts, each once for all its votes", f"{prompts:,}" if prompts else "not recorded"),
            ("tokens sampled", f"{figures.tokens:,}"),
            ("tokens sampled per question", f"{figures.tokens / max(1, figures.questions):.1f}"),
            *services,
        ]


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _charts(figures: Figures) -> dict[str, Any]:
    right, wrong = figures.scorer.right_scores, figures.scorer.wrong_scores
    scored = right and wrong and len(right) + len(wrong) >= inference_plots.FEW
    return {
        # Of first rounds: votes, votes for the commonest letter, its verdict, and questions.
        "agreement": [
            (first.votes, first.agreeing, first.verdict.value, times)
            for first, times in figures.first_rounds.items()
        ],
        "letters": {
            "votes": figures.vote_letters,
            "answers": figures.answer_letters,
            "right answers": figures.right_letters,
        },
        "calibration": render.plain(figures.calibration),
        "scorer": inference_plots.reliability(right, wrong) if scored else [],
    }
