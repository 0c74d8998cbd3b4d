"""Plots of a training (curves, calibration) and of a revote (voting modes side by side).

    draw(course, Path("out"))  ->  [Path("out/loss.png"), Path("out/learning_rate.png"), ...]

The figures come from `training_report` and `revote`.
"""

from pathlib import Path
from typing import Any

from producers.reports import inference_plots
from producers.reports.revote import Revote, Row
from producers.reports.training_report import TrainingReport


def draw(training: TrainingReport, folder: Path) -> list[Path]:
    """Draw the training curves: loss, learning rate, held-out AUC; and the calibration."""
    save = inference_plots.save
    plots = [
        ("loss.png", "Loss", {"training": "loss", "held out": "eval_loss"}),
        ("learning_rate.png", "Learning rate", {"": "learning_rate"}),
        ("auc.png", "AUC on held-out texts", {"": "eval_auc"}),
    ]
    paths = [path for name, *how in plots if save(path := folder / name, _curve, training, *how)]
    bins = (training.result or {}).get("calibration")
    if bins and save(path := folder / "calibration.png", _calibration, bins):
        paths.append(path)
    return paths


def _curve(axes: Any, training: TrainingReport, title: str, lines: dict[str, str]) -> bool:
    series = {label: training.series(name) for label, name in lines.items()}
    # A curve needs two points.
    if not any(len(steps) > 1 for steps, _ in series.values()):
        return False
    for label, (steps, values) in series.items():
        axes.plot(steps, values, marker="o" if len(steps) < 20 else None, markersize=3, label=label or None)
    axes.set(title=title, xlabel="steps", ylabel=title)
    if len(series) > 1:
        inference_plots.legend(axes)
    return True


def _calibration(axes: Any, bins: inference_plots.Bins) -> bool:
    inference_plots.calibration(axes, bins, "held-out votes")
    axes.set_title("Calibration on held-out votes")
    return True


def draw_comparison(comparison: Revote, folder: Path) -> list[Path]:
    """Draw the voting modes side by side, with their intervals."""
    path = folder / "ways.png"
    inference_plots.save(path, _modes, [row for row in comparison.rows if row.right.value is not None])
    return [path]


def _modes(axes: Any, rows: list[Row]) -> bool:
    values = [100 * (row.right.value or 0) for row in rows]
    axes.bar([row.name for row in rows], values, width=0.6, yerr=_errors(rows), capsize=3)
    axes.set(title="Right answers by the use of the scores", ylabel="% of questions", ylim=(0, 100))
    axes.tick_params(axis="x", labelrotation=20)
    return True


def _errors(rows: list[Row]) -> list[list[float]]:
    low, high = [], []
    for row in rows:
        value = row.right.value or 0
        ends = row.interval or (value, value)
        low.append(100 * max(value - ends[0], 0))
        high.append(100 * max(ends[1] - value, 0))
    return [low, high]
