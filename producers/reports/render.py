"""Print tables and text on stdout; plain if stdout is not a terminal.

    one vote      118/320  36.9 %
    majority      31/64    48.4 %

Markup in texts is not interpreted, and control characters are replaced.
"""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from producers import console, run_progress
from producers.reports.confidence_intervals import Interval
from producers.reports.shares import Share
from producers.run_progress import RunProgress
from producers.trace import History, Round
from shared import prompts
from shared.dataset import LETTERS
from shared.ledger.claims import FORCED
from shared.ledger.models import Promotion
from shared.ledger.progress import Dead
from shared.ledger.runs import Run
from shared.ledger.schema import Control, State
from shared.voices import REASONING

Rows = list[tuple[str, str]]
_WIDE = 160  # columns, without a terminal
_YEAR = 365 * 86_400.0  # seconds


def out() -> Console:
    """Return the console for results."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(highlight=False, markup=False, emoji=False, width=width)


def text(message: str) -> None:
    """Print a text literally."""
    print(console.printable(message))


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Convert values for JSON: dataclasses to objects, times (``..._at``) to ISO 8601 in UTC."""
    if isinstance(value, Share):
        return {"right": value.right, "of": value.of, "share": value.value}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.repr]
        return plain({name: getattr(value, name) for name in names})
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {
            str(name): _time(item) if _is_time(name, item) else plain(item) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _is_time(name: object, value: object) -> bool:
    return str(name).endswith("_at") and isinstance(value, float)


def _time(seconds: float) -> str:
    return moment(seconds).isoformat(timespec="milliseconds")


def clock(seconds: float) -> str:
    """Format a time in the local time zone."""
    return moment(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(rows: Iterable[Sequence[str]], headings: Sequence[str], title: str | None = None) -> None:
    """Print a table; long cells wrap."""
    drawn = Table(*headings, title=title, title_justify="left", box=None, pad_edge=False)
    for column in drawn.columns:
        column.overflow = "fold"
    for row in rows:
        drawn.add_row(*map(console.printable, row))
    out().print(drawn)


# status


def overview(run_states: Sequence[tuple[Run, dict[str, int]]]) -> None:
    """Print all runs."""
    if not run_states:
        text("no runs yet: `votequeue enqueue infer DATA` makes one")
        return
    rows = [
        [
            run.name,
            run.kind,
            clock(run.created_at),
            *(str(states[state]) for state in State),
            control(run),
            run.source,
        ]
        for run, states in run_states
    ]
    table(rows, ["run", "queue", "enqueued", *State, "control", "source"])


def control(run: Run) -> str:
    """Say what a person has decided about a run: pause, cancellation, priority."""
    words = [run.control] if run.control != Control.ACTIVE else []
    words += [f"priority {run.priority}"] if run.priority else []
    words += [f"deadline {clock(run.deadline)}"] if run.deadline is not None else []
    return ", ".join(words)


def switched_off(notice: Promotion) -> None:
    """Print that a test has switched off the scorer in use."""
    text(
        f"{clock(notice.promoted_at)}: {notice.reason}; new runs use no scorer: train another one, or run "
        "`votequeue models use NAME`"
    )


def progress(progress: RunProgress, waiting: int | None) -> None:
    """Print the progress of a run."""
    text(f"run {progress.run}: {progress.kind}, {progress.source}, enqueued {clock(progress.created_at)}")
    text(run_progress.summary(progress))
    attempts = sorted({attempt for counts in progress.rounds.values() for attempt in counts})
    rows = [
        [
            state,
            str(progress.states[state]),
            *(str(progress.rounds[state].get(attempt, 0)) for attempt in attempts),
        ]
        for state in State
    ]
    table(rows, ["state", "items", *(f"attempt {attempt}" for attempt in attempts)])
    if progress.priority:
        text(f"priority {progress.priority}")
    if progress.deadline_at is not None:
        text(f"deadline {clock(progress.deadline_at)}")
    if progress.answers_at_deadline:
        text(run_progress.describe_deadline(progress.answers_at_deadline))
    for line in run_progress.describe_control(progress):
        text(line)
    if progress.put_off and progress.due_at is not None:
        text(_put_off(progress, progress.due_at))
    if progress.open:
        text(f"messages in the queue: {waiting}" if waiting is not None else "the broker does not answer")
    if progress.stalled or progress.unserved:
        text(run_progress.describe_stall(progress))
    if progress.states[State.DEAD]:
        text(f"reasons of dead items: `votequeue failed {progress.run}`")
    if progress.result:
        table(result_rows(progress.result), ["result", ""])


def _put_off(progress: RunProgress, due_at: float) -> str:
    many = console.count(progress.put_off, progress.unit)
    if due_at > time.time() + _YEAR:
        return f"{many} put off until the problem below is fixed"
    reason = f" ({progress.put_off_by})" if progress.put_off_by else ""
    return f"{many} put off, the first until {clock(due_at)}{reason}"


def result_rows(value: dict[str, Any], prefix: str = "") -> Rows:
    """Flatten a result into rows: ``held_out.accuracy``, ``0.731``; tables are left out."""
    rows: Rows = []
    for name, item in value.items():
        if isinstance(item, dict):
            rows += result_rows(item, f"{prefix}{name}.")
        elif not _is_table(item):
            rows.append((prefix + name, _format_value(item)))
    return rows


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(part, list | dict) for part in value)


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_format_value, value)) or "-"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# trace, failed


def history(history: History) -> None:
    """Print the history of a question."""
    text(f"{history.key} (item {history.number} of run {history.run}): {history.state}")
    text(f"\n{history.problem}\n\n{history.question}")
    options(history.options, history.gold)
    claims(history.claims)
    before: dict[str, str | None] = {}
    for sampled in history.rounds:
        _round(sampled, before.get(sampled.voice))
        before[sampled.voice] = sampled.prompt
    if history.texts_dropped_at is not None and not any(vote["text"] for vote in history.votes):
        text(f"\nthe texts of the votes were dropped on {clock(history.texts_dropped_at)}")
    for vote in history.votes:
        _vote(vote)
    _end(history)


def options(texts: Sequence[str], gold: str | None) -> None:
    """Print a question's options with letters; the gold answer is marked."""
    for letter, option in zip(LETTERS, prompts.without_letters(texts), strict=False):
        text(f"{letter}. {option}{'   (right)' if letter == gold else ''}")


def claims(rows: Sequence[dict[str, Any]]) -> None:
    """Print the claims of an item: worker, times and outcome."""
    text("\nclaims" if rows else "\nnot claimed yet")
    for claim in rows:
        ended = f"to {clock(claim['ended_at'])}" if claim["ended_at"] else "still held"
        text(
            f"  attempt {claim['attempt']} by {claim['worker']}, from {clock(claim['claimed_at'])} {ended}: "
            f"{claim['outcome'] or 'no outcome yet'}"
        )


def _round(sampled: Round, before: str | None) -> None:
    generator = sampled.generator
    model = f"{generator.model} (weights {generator.weights}, {generator.engine})" if generator else "unknown"
    seconds = f" in {console.span(sampled.seconds)}" if sampled.seconds is not None else ""
    options = ", ".join(f"{name} {value}" for name, value in sampled.sampling.items())
    voice = "" if sampled.voice == REASONING else f", voice {sampled.voice}"
    text(f"\nround {sampled.attempt}{voice}, sampled from {clock(sampled.sampled_at)}{seconds}")
    text(f"  generator: {model}, adapter: {sampled.adapter or 'none'}")
    text(f"  sampling: {options}, seed {sampled.seed}, prompt as {sampled.style}")
    if sampled.unfinished:
        text(
            f"  stopped early: {console.count(sampled.unfinished, 'vote')} not needed, "
            f"{sampled.aborted_tokens} tokens of them sampled"
        )
    text(f"  examples shown: {', '.join(f'number {position}' for position in sampled.examples) or 'none'}")
    tokens = "" if sampled.prompt_tokens is None else f" ({sampled.prompt_tokens} tokens)"
    if sampled.prompt is None:
        text(f"  prompt{tokens}: not shown, because another version of votequeue built it")
    elif sampled.prompt == before:
        text(f"  prompt{tokens}: same as in the round before")
    else:
        text(f"  prompt{tokens}:")
        quoted(sampled.prompt)


def _vote(vote: dict[str, Any]) -> None:
    score = "no score" if vote["score"] is None else f"score {vote['score']:.3f}"
    verdict = "accepted" if vote["accepted"] else "void"
    text(
        f"\nvote {vote['attempt']}.{vote['place'] + 1}: {vote['letter'] or 'no letter'}, {score}, {verdict}, "
        f"{vote['tokens']} tokens{_ending(vote)}"
    )
    if vote["thinking"]:
        quoted(f"(thinking)\n{vote['thinking']}\n(answer)\n{vote['text']}")
    else:
        quoted(vote["text"])
    if vote["output"]:
        text("  output:")
        quoted(vote["output"].rstrip("\n"))
    if vote["detail"]:
        text(f"  {vote['outcome']}: {vote['detail']}")
    if vote["first_text"]:
        text(f"  asked for again, because the first one ended in: {vote['first_outcome']}")
        quoted(vote["first_text"])


def _ending(vote: dict[str, Any]) -> str:
    parts = [
        f"voice {vote['voice']}" if vote["voice"] != REASONING else "",
        f"outcome {vote['outcome']}" if vote["outcome"] else "",
        "letter asked for" if vote["letter_source"] == FORCED else "",
        f"options shown in the order {' '.join(vote['order'])}" if vote.get("order") else "",
        f"finish reason {vote['finish_reason']}" if vote["finish_reason"] else "",
        f"weight {vote['weight']:.2f}" if vote["weight"] not in (None, 1) else "",
        "" if vote["mean_logprob"] is None else f"mean log-probability {vote['mean_logprob']:.3f}",
        f"scorer {vote['scorer']}" if vote["scorer"] else "",
        f"of run {vote['run']}" if vote.get("run") else "",
    ]
    return "".join(f", {part}" for part in parts if part)


def quoted(quotation: str) -> None:
    """Print a quotation with a mark before each line."""
    text("\n".join(f"  | {line}" for line in quotation.split("\n")))


def _end(history: History) -> None:
    if history.answer is not None:
        answer = history.answer
        votes = console.count(answer["support"], "vote")
        text(
            f"\nanswer {answer['letter']}: {answer['how']}, {votes} for it, "
            f"in round {answer['attempt']}, {clock(answer['answered_at'])}"
        )
        if "probability" in answer:
            abstained = "; the question abstained" if answer["abstained"] else ""
            text(f"right with probability {answer['probability']:.2f}{abstained}")
    else:
        text(f"\nno answer: {history.reason}" if history.reason else "\nno answer yet")


def dead(items: Sequence[Dead]) -> None:
    """Print dead items with their reasons."""
    rows = [[str(item.number), item.key, str(item.attempt), str(item.losses), item.reason] for item in items]
    table(rows, ["item", "key", "attempt", "losses", "reason"])


# report


def percent(share: Share) -> str:
    """Format a share: ``31/64  48.4 %``."""
    return f"{share.right}/{share.of}" + (f"  {100 * share.value:.1f} %" if share.value is not None else "")


def points(interval: Interval) -> str:
    """Format an interval in percentage points: ``26.8 to 35.1``."""
    return " to ".join(f"{100 * end:.1f}" for end in interval)


def markdown(title: str, rows: Rows, pictures: Sequence[Path]) -> str:
    """Render rows and pictures as a Markdown page."""
    shown = [f"![{picture.stem}]({picture.name})" for picture in pictures]
    return "\n\n".join([f"# {title}", markdown_table(["", ""], rows), *shown]) + "\n"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a Markdown table; what would be markup in a cell is escaped."""
    lines = [headings, ["---"] * len(headings), *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str) -> str:
    return re.sub(r"[\\`*\[<|]", r"\\\g<0>", console.printable(value).replace("\n", " "))


# One day before datetime's maximum, so that it exists in every time zone.
LAST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()


def moment(seconds: float) -> datetime:
    """Convert seconds since the epoch to a datetime in UTC."""
    return datetime.fromtimestamp(min(max(0.0, seconds), LAST), UTC)
