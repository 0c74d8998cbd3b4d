"""Print the calibration of a run's answers.

("right with mean probability 0.65", "14/20  70.0 % (50.0 to 88.2)")
"""

from producers import console
from producers.reports import render
from producers.reports.calibration_report import CalibrationReport, Part
from producers.reports.render import Rows
from shared.options import Calibration


def rows(calibration: Calibration) -> Rows:
    """Return what a calibration was learned on, and when questions abstain, as rows."""
    learned = f"{console.count(calibration.questions, 'question')} in {', '.join(calibration.runs)}"
    abstain = f"below probability {calibration.threshold:.2f}" if calibration.threshold else "never"
    if calibration.max_error is not None:
        abstain = "always" if calibration.threshold >= 1 else abstain
        abstain += f"; at most {100 * calibration.max_error:g} % of the answers wrong, with 95 % confidence"
    return [("probabilities learned on", learned), ("questions abstain", abstain)]


def report_rows(report: CalibrationReport) -> Rows:
    """Return reliability, and risk against coverage, as rows."""
    found = [*rows(report.calibration), ("probabilities tested on", ", ".join(report.labelled))]
    found += [(f"right with mean probability {part.probability:.2f}", _share(part)) for part in report.bins]
    found += [(f"wrong of the surest {100 * part.coverage:.0f} %", _share(part)) for part in report.surest]
    given = [("wrong of the answers given", _share(report.given))] if report.given else []
    return [*found, *given]


def _share(part: Part) -> str:
    return render.percent(part.share) + (f" ({render.points(part.interval)})" if part.interval else "")
