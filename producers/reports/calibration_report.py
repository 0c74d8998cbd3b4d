"""How well the probabilities of answers hold: reliability, and risk against coverage.

    of_run(run)  ->  CalibrationReport(labelled=["mine"], bins=[Part(0.65, 0.1, Share(14, 20), ...)], ...)

The questions are the labelled ones of the run, or else those of the runs that it was calibrated on. Their
probabilities are learned without their fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from producers.calibrated_answers import CalibratedAnswers, Case
from producers.reports import confidence_intervals
from producers.reports.confidence_intervals import Interval
from producers.reports.shares import Share
from shared.ledger import runs
from shared.ledger.runs import Run
from shared.options import Calibration


@dataclass(frozen=True)
class Part:
    """Some of the questions: their probability, and the share of them that is right, or wrong.

    The probability is the mean of a bin, or the lowest of the surest questions. ``coverage`` is their share
    of all questions.
    """

    probability: float
    coverage: float
    share: Share
    interval: Interval | None


@dataclass(frozen=True)
class CalibrationReport:
    """Right answers by tenths of probability, and wrong ones among the surest questions.

    ``given`` are those that do not abstain; ``None``: all abstain, or none.
    """

    calibration: Calibration
    labelled: Sequence[str]
    bins: list[Part]
    surest: list[Part]
    given: Part | None


def of_run(run: Run) -> CalibrationReport | None:
    """Compute the report of a run, if it is calibrated."""
    own = CalibratedAnswers(run)
    if (calibration := own.calibration) is None:
        return None
    cases = list(own.cases())
    names = (run.name,) if cases else calibration.runs
    for name in () if cases else names:
        cases += CalibratedAnswers(runs.get_run(name)).cases()
    scored = sorted(((case.probability(calibration), case) for case in cases), key=lambda each: -each[0])

    def part(chosen: Sequence[tuple[float, Case]], probability: float, right: bool) -> Part:
        counted = [case.right == right for _, case in chosen]
        units = [case.unit for _, case in chosen]
        interval = confidence_intervals.by_unit(units, counted)
        if len(set(counted)) == 1:
            # Resampling shows no variation: take the exact bound of as many independent entries.
            edge = ((1 - confidence_intervals.LEVEL) / 2) ** (1 / len(set(units)))
            interval = (edge, 1.0) if counted[0] else (0.0, 1 - edge)
        return Part(probability, len(chosen) / len(scored), Share(sum(counted), len(counted)), interval)

    def surest(threshold: float) -> Part:
        return part([each for each in scored if each[0] >= threshold], threshold, right=False)

    tenths = [[each for each in scored if int(10 * each[0]) == tenth] for tenth in range(10)]
    thresholds = sorted({scored[len(scored) * tenth // 10 - 1][0] for tenth in range(1, 11)}, reverse=True)
    abstains = bool(scored) and 0 < calibration.threshold <= scored[0][0]
    return CalibrationReport(
        calibration=calibration,
        labelled=names,
        bins=[part(each, sum(known for known, _ in each) / len(each), right=True) for each in tenths if each],
        surest=[surest(threshold) for threshold in thresholds],
        given=surest(calibration.threshold) if abstains else None,
    )
