"""Select and print the report of a run of any kind.

    print_summary(of_run("mine"))

Each kind of run has a module that computes its figures and functions that render them.
"""

from producers.reports import (
    api_usage,
    calibration_report,
    combination,
    generation_report,
    inference_report,
    render,
    render_api_usage,
    render_reports,
    training_report,
)
from producers.reports.generation_report import GenerationReport
from producers.reports.inference_report import Figures
from producers.reports.render import Rows
from producers.reports.revote import Revote
from producers.reports.training_report import TrainingReport
from shared.jobs import DATA_QUEUES
from shared.ledger import runs

Summary = Figures | GenerationReport | TrainingReport | Revote


def of_run(run: str) -> Figures | GenerationReport | TrainingReport:
    """Compute the report of a run.

    Raises:
        UserError: there is no such run.
    """
    kind = runs.get_run(run).kind
    if kind in DATA_QUEUES:
        return generation_report.figures(run)
    if kind == "train":
        return training_report.report_of(run)
    figures, record = inference_report.figures(run), runs.get_run(run)
    figures.services = api_usage.of_run(record) if record.calls_services else None
    figures.combination = combination.of_run(record)
    figures.calibration = calibration_report.of_run(record)
    return figures


def rows(summary: Summary) -> Rows:
    """Return all figures as rows of one table."""
    match summary:
        case GenerationReport():
            return render_api_usage.page_rows(summary)
        case TrainingReport():
            return render_reports.training_rows(summary)
        case Revote():
            return render_reports.page_rows(summary)
        case Figures():
            return render_reports.inference_rows(summary)


def print_summary(summary: Summary) -> None:
    """Print the figures."""
    match summary:
        case GenerationReport():
            render_api_usage.report(summary)
        case Revote():
            render_reports.report(summary)
        case _:
            render.table(rows(summary), [f"run {summary.run}", ""])
