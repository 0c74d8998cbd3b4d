"""Figures of the rounds of `votequeue improve`, from its runs, which are named by round: ``mine-2-votes``.

table("mine", 2)  ->  ["", "round 1", "round 2"], [["training part: questions", "228", "228"], ...]
"""

from producers import run_progress
from producers.reports import (
    matched_questions,
    paired_comparison,
    render,
    render_comparison,
    render_reports,
    revote,
)
from producers.reports.paired_comparison import ComparedRun, Comparison
from shared.ledger import models, runs

NOTE = (
    "Models in use were chosen by held-out and validation figures. Test figures are only reported: no round "
    "trains on the test part, and no model is chosen by it (a scorer that proves worse than the majority is "
    "switched off). Intervals: 95 %, bootstrap by entry."
)


def adapter_of(run: str) -> str:
    """Name the adapter of a run's votes, or ``none``."""
    return str(runs.get_run(run).options["lora"])


def validations(loop: str, number: int) -> dict[str, str]:
    """Name a round's runs on the validation part by adapter: that of its votes, and its own."""
    result = run_progress.progress_of(f"{loop}-{number}-lora").result or {}
    adapters = adapter_of(f"{loop}-{number}-votes"), result["model"]
    return {adapter: f"{loop}-validation-{adapter}" for adapter in adapters}


def trial(loop: str, number: int) -> Comparison | None:
    """Compare a round's adapter with the one before; ``None``: none was trained, or the same one again."""
    if runs.find_run(f"{loop}-{number}-lora") is None or len(validations(loop, number)) < 2:
        return None
    return paired_comparison.compare([*validations(loop, number).values()])


def is_better(comparison: Comparison | None) -> bool:
    """Tell whether the second run is shown to be better: the interval of the difference is above zero."""
    difference = comparison.runs[1].difference if comparison else None
    return bool(difference and difference.interval and difference.interval[0] > 0)


def page(loop: str, count: int) -> str:
    """Render the first rounds as a Markdown page."""
    return "\n\n".join([f"# Rounds of {loop}", render.markdown_table(*table(loop, count)), NOTE]) + "\n"


def table(loop: str, count: int) -> tuple[list[str], list[list[str]]]:
    """Give headings and rows for the first rounds of a loop, which have ended: a column for each round.

    Raises:
        UserError: a run has no usable votes.
    """
    tests = [f"{loop}-{number}-test" for number in range(1, count + 1)]
    compared = paired_comparison.of_matches(tests, matched_questions.match(tests))
    columns = [_figures(loop, number, run) for number, run in enumerate(compared.runs, start=1)]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return ["", *(f"round {number}" for number in range(1, count + 1))], rows


def _figures(loop: str, number: int, answers: ComparedRun) -> dict[str, str]:
    used = runs.get_run(answers.name).options
    scorer = models.chosen("scorer", used["scorer"])
    rule = render_reports.describe_rule(scorer) if scorer else "majority"
    result = run_progress.progress_of(f"{loop}-{number}-scorer").result or {}
    voted = revote.revote(f"{loop}-{number}-votes")
    tested = {row.name: render_reports.cells(row) for row in revote.revote(answers.name).rows}
    _, right, interval, points, p, *_, tokens, _ = render_comparison.cells(answers)
    return {
        "training part: questions": str(voted.questions),
        **{f"training part: {name}": cell for name, cell in render_reports.page_rows(voted)[1:]},
        "scorer": result["model"],
        "held out": render_reports.describe_metrics(result),
        "verdict": result["verdict"],
        "adapter": _adapter(trial(loop, number)),
        "test part: questions": f"{answers.right.of} of {answers.questions}",
        "in use": f"{used['scorer']}, {rule}, {used['lora']}",
        "test: majority": ", ".join(filter(None, tested["majority"][1:3])),
        "test: rule in use": ", ".join(filter(None, (right, interval))),
        "test: points over round 1": f"{points}, p {p}" if points else "",
        "test: tokens a question": tokens,
    }


def _adapter(trial: Comparison | None) -> str:
    if trial is None:
        return "no new one"
    before, tried = (run.name.partition("-validation-")[2] for run in trial.runs)
    verdict = "in use" if is_better(trial) else "not in use: not shown to be better"
    points = render_comparison.cells(trial.runs[1])[3]
    return f"{tried}: {points} points over {before} in validation; {verdict}"
