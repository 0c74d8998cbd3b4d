"""Compute the figures of a training: curve, speed and result.

report_of("judge")  ->  TrainingReport(step=120, of=300, loss=0.61, steps_a_minute=4.2, eta=2571.0, ...)
"""

from dataclasses import dataclass, field
from typing import Any

from producers import console, run_progress
from producers.run_progress import RunProgress
from shared.errors import UserError
from shared.ledger import runs, training_log
from shared.ledger.runs import Run
from shared.ledger.training_log import LoggedStep

PACE_STEPS = 30  # logged steps over which the speed is measured


@dataclass
class TrainingReport:
    """A training's progress; times in seconds; ``curve`` has all logged steps.

    ``saved`` is the step of the last checkpoint.
    """

    run: str
    source: str
    options: dict[str, Any]
    progress: RunProgress = field(repr=False)
    step: int | None = None
    of: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    auc: float | None = None
    steps_a_minute: float | None = None
    eta: float | None = None
    saved: int | None = None
    result: dict[str, Any] | None = None
    curve: list[LoggedStep] = field(default_factory=list, repr=False)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps and values of a logged metric."""
        logged = [step for step in self.curve if name in step.metrics]
        return [step.step for step in logged], [float(step.metrics[name]) for step in logged]

    def last(self, name: str) -> float | None:
        """Return the last value of a logged metric."""
        _, values = self.series(name)
        return values[-1] if values else None


def report_of(name: str) -> TrainingReport:
    """Return the progress of a training.

    Raises:
        UserError: there is no such run, or it is not a training.
    """
    run = require_training(name)
    progress = run_progress.progress_of(name)
    report = TrainingReport(name, run.source, run.options, progress, result=progress.result)
    report.curve = training_log.curve(name)
    if report.curve:
        report.step, report.of = report.curve[-1].step, report.curve[-1].total_steps
        report.loss, report.learning_rate = report.last("loss"), report.last("learning_rate")
        report.auc = report.last("eval_auc")
        saved, _ = report.series("saved")
        report.saved = saved[-1] if saved else None
        report.steps_a_minute = _pace(report.curve)
    if progress.open and report.steps_a_minute and report.of is not None and report.step is not None:
        report.eta = 60 * (report.of - report.step) / report.steps_a_minute
    return report


def summary(report: TrainingReport) -> str:
    """Summarize the progress of a training in one line."""
    parts = [f"step {report.step} of {report.of}"]
    parts += [
        f"{word} {value:.3g}"
        for word, value in [
            ("loss", report.loss),
            ("learning rate", report.learning_rate),
            ("held-out AUC", report.auc),
        ]
        if value is not None
    ]
    text = ", ".join(parts)
    if report.steps_a_minute is not None:
        text += f"; {report.steps_a_minute:.1f} steps/min"
        text += f", about {console.span(report.eta)} left" if report.eta is not None else ""
    return text + (
        f"; checkpoint at step {report.saved}" if report.saved is not None else "; no checkpoint yet"
    )


def require_training(name: str) -> Run:
    """Look up a train run.

    Raises:
        UserError: there is no such run, or it is not a train run.
    """
    run = runs.get_run(name)
    if run.kind != "train":
        raise UserError(f"run {name!r} is a {run.kind} run, which trains no model")
    return run


def _pace(curve: list[LoggedStep]) -> float | None:
    recent = curve[-PACE_STEPS:]
    minutes = (recent[-1].recorded_at - recent[0].recorded_at) / 60
    done = recent[-1].step - recent[0].step
    return done / minutes if minutes > 0 and done > 0 else None
