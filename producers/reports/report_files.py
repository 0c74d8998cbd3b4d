"""Write a report to a folder (report.md, report.json and, if matplotlib is installed, plots), or as a page.

    save(figures, Path("out"))  ->  [Path("out/report.md"), Path("out/report.json"), ...]

Plots use English labels only, because their font may lack the characters of a run's name.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from producers import console, output_files, run_progress
from producers.reports import (
    generation_report,
    inference_plots,
    render,
    render_comparison,
    run_page,
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


def save(summary: Summary | Comparison, folder: Path, force: bool = False) -> list[Path]:
    """Write the files of a report or a comparison; return their paths.

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
    if isinstance(summary, Comparison):
        text = render_comparison.page(summary)
    else:
        text = render.markdown(TITLE.format(run=summary.run), summaries.rows(summary), plots)
    with dataset.writing(page) as file:
        file.write(text)
    with dataset.writing(data) as file:
        file.write(json.dumps(render.plain(summary), ensure_ascii=False, indent=2) + "\n")
    return [page, data, *plots]


def save_page(run: str, path: Path, force: bool = False) -> int:
    """Write the page of an infer run to a file; return the number of its questions.

    Raises:
        UserError: as `run_page.write`, the file cannot be written, or a run reads it and ``force`` is false.
    """
    run_progress.require_questions(run)
    dataset.require_writable(path)
    output_files.require_free(path, force)
    with dataset.writing(path) as file:
        return run_page.write(run, file)


def draw(summary: Summary | Comparison, folder: Path) -> list[Path]:
    """Draw the plots of a report: answers, calls over time, training curves, or voting modes."""
    if isinstance(summary, Comparison):
        return []
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        console.note("no plots: matplotlib is not installed (pip install 'votequeue[report]')")
        return []
    match summary:
        case GenerationReport():
            return [path] if inference_plots.save(path := folder / "calls.png", _calls, summary) else []
        case TrainingReport():
            return training_plots.draw(summary, folder)
        case Revote():
            return training_plots.draw_comparison(summary, folder)
        case Figures():
            return inference_plots.draw(summary, folder)


def _calls(axes: Any, report: GenerationReport) -> bool:
    counted = generation_report.by_minute(report)
    if len(counted) < 3:
        return False  # so few bars add nothing to the table
    minutes = range(max(counted, default=0) + 1)
    axes.bar(minutes, [counted[minute] for minute in minutes], width=1.0, align="edge")
    axes.set(title="Calls over time", xlabel="minutes since the first call", ylabel="calls a minute")
    return True
