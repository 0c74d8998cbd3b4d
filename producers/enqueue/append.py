"""Add questions to a run that is under way or finished; they are answered with its options and examples.

append(Path("more.jsonl"), "mine")  ->  EnqueuedRun("mine", items=40, sent=40, ..., continued=True)
"""

from pathlib import Path

from producers import console, run_progress
from producers.enqueue import inputs, publish
from producers.enqueue.publish import EnqueuedRun
from shared import broker
from shared.errors import UserError
from shared.ledger import runs


def append(data: Path, name: str, skip_bad: bool = False) -> EnqueuedRun:
    """Add the questions of a data set to a run; entries that it has already are skipped.

    Raises:
        UserError: the data are invalid, the run takes no more questions, or it has another entry with the
            same id; nothing was added.
        ServiceUnreachable: the broker does not answer.
    """
    run = run_progress.require_questions(name)
    if run.options.get("votes_of") or run.options.get("redo_of"):
        raise UserError(f"run {name!r} is over the {run.source}: add the questions to that run")
    (source,) = inputs.check([data], skip_bad)
    broker.ping()
    with console.bar("recording", source.entries, "entries") as advance:
        added = runs.append(name, inputs.counted(source.lines(), advance), source.files)
    sent = publish.publish(name)
    return EnqueuedRun(name, added, sent, 0, source.bad, continued=True)
