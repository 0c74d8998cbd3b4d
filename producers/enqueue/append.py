"""Add questions to a run that is under way or finished; they are answered with its options and examples.

append(Path("more.jsonl"), "mine")  ->  EnqueuedRun("mine", items=40, sent=40, ..., continued=True)
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from producers import console, run_progress
from producers.enqueue import inputs, publish, row_reader
from producers.enqueue.inputs import DataSource
from producers.enqueue.publish import EnqueuedRun
from shared import broker, json_text, source_rows
from shared.dataset import Entry, Line
from shared.errors import UserError
from shared.ledger import runs
from shared.ledger.schema import SAMPLING_ENDS
from shared.options import Reading


def append(data: Path, name: str, skip_bad: bool = False, reading: Reading = inputs.AS_IT_IS) -> EnqueuedRun:
    """Add the questions of a data set to a run; entries that it has already are skipped.

    Raises:
        UserError: the data are invalid, the run takes no more questions, or it has another entry with the
            same id; nothing was added.
        ServiceUnreachable: the broker does not answer.
    """
    run = run_progress.require_questions(name)
    runs.require_open(name)
    if run.deadline is not None and run.deadline <= runs.ledger_time() + SAMPLING_ENDS:
        raise UserError(f"the deadline of run {name!r} is over: enqueue the questions in another run")
    if run.options.get("votes_of") or run.options.get("redo_of"):
        raise UserError(f"run {name!r} is over the {run.source}: add the questions to that run")
    (source,) = inputs.check([data], skip_bad, reading)
    broker.ping()
    with console.bar("recording", source.entries, "entries") as advance:
        added = runs.append(name, inputs.counted(_lines(source, name), advance), source.files)
    sent = publish.publish(name)
    return EnqueuedRun(name, added, sent, 0, source.bad, continued=True)


def _lines(source: DataSource, run: str) -> Iterator[Line]:
    """Read the lines to add; those of other layouts get another id where the run has theirs already.

    Benchmarks number the rows of each file anew. The new ids depend on the file's bytes only, so that the
    same file is added once.
    """
    present: dict[str, str] | None = None
    suffix = ""
    for line in source.lines():
        if line.source is None or line.source.layout == source_rows.OWN:
            yield line
            continue
        if present is None:
            present = _digests(run)
            suffix = row_reader.digest(source.files[0])[:8]
        known = present.get(str(line.entry.id))
        yield line if known in (None, _digest(line.text)) else _renamed(line, f"{line.entry.id}-{suffix}")


def _digests(run: str) -> dict[str, str]:
    """Map the ids of a run's entries to digests of their texts."""
    return {str(json_text.loads(text)["id"]): _digest(text) for text in runs.load_entries(run)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _renamed(line: Line, name: str) -> Line:
    entry = {**json_text.loads(line.text), "id": name}
    return replace(line, text=json_text.dumps(entry), entry=Entry.model_validate(entry))
