"""Write a report to a folder: report.md, report.json and, if matplotlib is installed, plots.

    save(figures, Path("out"))  ->  [Path("out/report.md"), Path("out/report.json"), ...]

Plots use English labels only, because their font may lack the characters of a run's name.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from producers import console, output_files
from producers.reports import (
    generation_report,
    inference_plots,
    render,
    render_comparison,
    summaries,
    training_plots,
)
from producers.reports.generation_report import GenerationReport
from producers.reports.inference_report import Figures
from producers.reports.paired_comparison import Comparison
from producers.reports.revote import Revote
from producers.reports.summaries import Summary
from producers.reports.training_report import TrainingReport
from shared import dataset
from shared.errors import UserError

TITLE = "Report of run {run}"
PAGE, DATA = "report.md", "report.json"


def save(summary: Summary, folder: Path, force: bool = False) -> list[Path]:
    """Write a report's files; return their paths.

    Raises:
        UserError: the folder cannot be made or written, or a run reads one of these files and ``force``
            is false.
    """
    page, data = folder / PAGE, folder / DATA
    replaced = [folder / name for name in inference_plots.NAMES] if isinstance(summary, Figures) else []
    for path in (page, data, *replaced):
        output_files.require_free(path, force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Draw into a temporary folder first, so that a full disk leaves old plots intact.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report.") as workshop:
            drawn = draw(summary, Path(workshop))
            plots = [folder / path.name for path in drawn]
            for path in plots:
                output_files.require_free(path, force)
            for unmoved, path in zip(drawn, plots, strict=True):
                unmoved.replace(path)
        for path in replaced:
            # Remove plots of an older report that this one does not have.
            if path not in plots:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from None
    _write(folder, render.markdown(TITLE.format(run=summary.run), summaries.rows(summary), plots), summary)
    return [page, data, *plots]


def save_comparison(comparison: Comparison, folder: Path, force: bool = False) -> list[Path]:
    """Write the page and the data of a comparison; raises as `save`."""
    for name in (PAGE, DATA):
        output_files.require_free(folder / name, force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from None
    _write(folder, render_comparison.page(comparison), comparison)
    return [folder / PAGE, folder / DATA]


def _write(folder: Path, page: str, summary: object) -> None:
    with dataset.writing(folder / PAGE) as file:
        file.write(page)
    with dataset.writing(folder / DATA) as file:
        file.write(json.dumps(render.plain(summary), ensure_ascii=False, indent=2) + "\n")


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Draw the plots of a run: answers, calls over time, training curves, or a comparison."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        console.note("no plots: matplotlib is not installed (pip install 'votequeue[report]')")
        return []
    match summary:
        case GenerationReport():
            return _calls(Figure, summary, folder / "calls.png")
        case TrainingReport():
            return training_plots.draw(Figure, summary, folder)
        case Revote():
            return [training_plots.draw_comparison(Figure, summary, folder / "ways.png")]
        case Figures():
            return inference_plots.draw(Figure, summary, folder)


def _calls(figure: Any, report: GenerationReport, path: Path) -> list[Path]:
    counted = generation_report.by_minute(report)
    if len(counted) < 3:
        # Too few bars to add to the table.
        return []
    drawn = figure(figsize=(6, 3.5), layout="constrained")
    axes = drawn.subplots()
    minutes = range(max(counted, default=0) + 1)
    axes.bar(minutes, [counted[minute] for minute in minutes], width=1.0, align="edge")
    axes.set(title="Calls over time", xlabel="minutes since the first call", ylabel="calls a minute")
    drawn.savefig(path, dpi=120)
    return [path]
