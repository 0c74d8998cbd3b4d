"""Measure what scorers add to accuracy: `make accuracy`, or `make accuracy DATA=file.jsonl MODEL=name`.

    | way to answer | right | 95 % interval | points over the majority | rounds | tokens a question |

Votes are sampled once, on problems outside all training data, and answered with all voting modes: one vote,
the majority, the reference's scorer, ours, and an oracle. Every step is a real command. Results stay in
var/accuracy.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra import local, scenario
from infra.scenario import Stage
from shared import dataset
from shared.dataset import Line
from shared.errors import UserError

# Settings for two cores and one hour; existing variables take precedence.
PACE = {
    "VOTEQUEUE_MAX_TOKENS": "384",
    "VOTEQUEUE_MAX_MODEL_LEN": "4096",
    # The chat server's engine may share the only GPU.
    "VOTEQUEUE_GPU_MEMORY": "0.35",
}
PUZZLES = ("-n", "300", "--seed", "7", "--difficulty", "1", "--wrong")
TESTED, VOTED = 100, 40  # questions to test on, and to choose thresholds on
LEARNED_SHARE = 2 / 3  # share of entries for training; the rest is for testing
# The reference's recipe, reduced to fit two cores.
REFERENCE = ("--recipe", "reference", "--layers", "8", "--freeze-embeddings", "--epochs", "1")
ROUNDS = 2  # maximum rounds with a gate
STEPS = 10
THEIRS, OURS = "the reference's scorer", "our scorer"
HEADINGS = "| way to answer | right | 95 % | points over the majority | rounds | tokens a question |"
ROWS = {
    "one vote": "one vote",
    "majority": "majority of 5",
    "gate": "{}, gate",
    "weighted": "{}, weighted",
    "gate-weighted": "{}, gate then weighted",
    "some vote right": "oracle: some vote right",
}


def play(accuracy: Stage) -> None:
    """Run all steps; the services are always stopped at the end."""
    data = os.environ.get("DATA")
    with accuracy.step("get the weights"):
        accuracy.votequeue("weights")
    with accuracy.services():
        with accuracy.step("start broker, workers, the chat server and Flower", "supervisord"):
            accuracy.votequeue("up", "--detach", "--serve")
        with accuracy.step("split the data into training and test data"):
            files = _split(accuracy, Path(data) if data else _puzzles(accuracy))
        with accuracy.step("sample votes for choosing thresholds", "infer-1"):
            votes = _infer(accuracy, files["voted"], files["learned"], "votes", 1, "--scorer", "none")
        with accuracy.step("make the reference's data: wrong reasonings, and synonyms of all", "reason-1"):
            sources = _reference_data(accuracy, files["voted"])
        with accuracy.step("train the reference's scorer", "train-1"):
            reference = _train(accuracy, "reference", *REFERENCE, *sources)
        with accuracy.step("train ours", "train-1"):
            ours = _train(accuracy, "ours", "--from", votes, "--data", files["learned"])
        with accuracy.step("sample test votes with the reference's gate", "infer-1"):
            gate = ("--scorer", reference, "--use", "gate")
            tested = _infer(accuracy, files["tested"], files["learned"], "tested", ROUNDS, *gate)
        with accuracy.step("score the same votes with ours, and compare", "infer-1"):
            judged = _run_to_end(accuracy, "judged", "infer", tested, "--scorer", ours)
            lines = _comparison(accuracy, tested, judged)
    accuracy.print_times()
    _write(accuracy.folder / "accuracy.md", lines)


# Data


def _puzzles(accuracy: Stage) -> Path:
    path = accuracy.folder / "puzzles.jsonl"
    accuracy.votequeue("sample", *PUZZLES, "-o", path, "--force")
    return path


def _split(accuracy: Stage, data: Path) -> dict[str, Path]:
    """Split labelled entries into training data (some with votes) and test data."""
    lines = [line for line in dataset.scan(data) if isinstance(line, Line)]
    whole = [line for line in lines if all(question.answer for question in line.entry.questions)]
    at = round(len(whole) * LEARNED_SHARE)
    learned, rest = whole[:at], whole[at:]
    parts = {"learned": learned, "voted": _first(learned, VOTED), "tested": _first(rest, TESTED)}
    if not all(parts.values()):
        raise UserError(f"{data}: too few entries whose questions all have answers ({len(whole)})")
    files = {name: accuracy.folder / f"{name}.jsonl" for name in parts}
    if any(path.exists() and path.samefile(data) for path in files.values()):
        raise UserError(f"{data} would be overwritten: copy it out of {accuracy.folder} and use the copy")
    for name, path in files.items():
        with dataset.writing(path) as file:
            file.writelines(f"{line.text}\n" for line in parts[name])
        questions = sum(len(line.entry.questions) for line in parts[name])
        local.say(f"{path}: {len(parts[name])} entries, {questions} questions")
    return files


def _first(lines: Iterable[Line], questions: int) -> list[Line]:
    selected: list[Line] = []
    for line in lines:
        if sum(len(chosen.entry.questions) for chosen in selected) >= questions:
            break
        selected.append(line)
    return selected


def _reference_data(accuracy: Stage, data: Path) -> list[str | Path]:
    """Generate wrong reasonings and synonym versions; return all training sources."""
    sources: list[str | Path] = ["--data", data]
    texts: list[str | Path] = [data]
    if not any(question.wrong for entry in dataset.read(data) for question in entry.questions):
        wrong = _run_to_end(accuracy, "wrong", "reason", data, "--label", "wrong", "--provider", "local")
        sources += ["--from", wrong]
        texts.append(wrong)
    for at, text in enumerate(texts, start=1):
        sources += [
            "--from",
            _run_to_end(accuracy, f"synonyms-{at}", "translate", text, "--strategy", "synonym"),
        ]
    return sources


# Steps


def _run_to_end(accuracy: Stage, name: str, *arguments: str | Path) -> str:
    """Enqueue a run and wait for its end; return its name."""
    run = f"{accuracy.run}-{name}"
    accuracy.votequeue("enqueue", *arguments, "--run", run)
    accuracy.votequeue("status", run, "--watch", watched=True)
    return run


def _infer(accuracy: Stage, data: Path, examples: Path, name: str, rounds: int, *options: str) -> str:
    return _run_to_end(
        accuracy, name, "infer", data, "--examples", examples, "--max-attempts", str(rounds), *options
    )


def _train(accuracy: Stage, name: str, *options: str | Path) -> str:
    run = _run_to_end(accuracy, name, "train", "scorer", "--no-promote", *options)
    accuracy.votequeue("report", run, "-o", accuracy.folder / name)
    return accuracy.trained_model(run)


# The table


def _comparison(accuracy: Stage, reference: str, ours: str) -> list[str]:
    """Compare both scorers on the same votes; return the lines of a page."""
    theirs, own = (accuracy.query("report", run, "--revote") for run in (reference, ours))
    # The reference has a gate only.
    rows = [
        *_rows(theirs, "", "one vote", "majority"),
        *_rows(theirs, THEIRS, "gate"),
        *_rows(own, OURS, "gate", "weighted", "gate-weighted"),
        *_rows(theirs, "", "some vote right"),
    ]
    model = accuracy.settings.model
    scope = f"{theirs['questions']} questions on problems outside the training data, model {model}"
    aucs = f"{theirs['auc']:.2f} of {THEIRS} and {own['auc']:.2f} of {OURS}"
    head = [f"{scope}. AUC over readable votes: {aucs}.", ""]
    return [*head, HEADINGS, "|---|---|---|---|---|---|", *rows]


def _rows(revote: dict[str, Any], scorer: str, *names: str) -> list[str]:
    by_name = {row["name"]: row for row in revote["rows"]}
    return [_row(by_name[name], scorer) for name in names]


def _row(row: dict[str, Any], scorer: str) -> str:
    right, over = row["right"], row["over_majority"]
    cells = [
        ROWS[row["name"]].format(scorer),
        f"{100 * right['share']:.1f} %",
        _points(row["interval"]),
        "" if over is None else f"{100 * over:+.1f} ({_points(row['over_interval'])})",
        "" if row["rounds"] is None else f"{row['rounds']:.2f}",
        "" if row["tokens"] is None else f"{row['tokens']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _points(ends: list[float] | None) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in ends) if ends else ""


def _write(path: Path, lines: list[str]) -> None:
    with dataset.writing(path) as file:
        file.write("\n".join(lines) + "\n")
    for line in lines:
        local.say(line)
    local.say(f"\nthe table: {path}")


if __name__ == "__main__":
    sys.exit(scenario.run_scenario("accuracy", PACE, STEPS, play))
