"""Enqueue recorded votes to be scored, read or counted again; nothing is sampled.

    rescore("test", {"scorer": "scorer-3f9c01ab12cd"})  ->  EnqueuedRun("test-9f3c01ab", items=275, ...)

The result is an ordinary run that can be reported, traced and collected.
"""

from typing import Any

from producers import console, retention, run_progress
from producers.enqueue import inputs, publish
from producers.enqueue.publish import EnqueuedRun
from shared.errors import UserError
from shared.ledger import models, runs, votes
from shared.ledger.runs import Run
from shared.options import Sampling


def rescore(source: str, changes: dict[str, Any], name: str | None = None) -> EnqueuedRun:
    """Enqueue the questions of a finished run to be answered from its recorded votes.

    ``changes`` are the sampling options that apply to scoring. The votes of a combination keep their weights.

    Raises:
        UserError: there is no such run, it is unfinished, or another run has the name.
        ServiceUnreachable: the broker does not answer.
    """
    source_run = run_progress.require_questions(source)
    run_progress.require_finished(source)
    retention.require_texts(source, "scoring or reading again")
    sampling = Sampling.of_record(source_run.options)
    if sampling.combined_runs and "reader" in changes:
        raise UserError(
            f"--reader does not apply to {source!r}, which combines the votes of "
            f"{', '.join(sampling.combined_runs)}: read those runs again, and combine the new runs"
        )
    if stopped := votes.count_stopped(source):
        counted = console.count(stopped, "question")
        console.note(f"{counted} of {source} stopped early: whole rounds might be answered otherwise now")
    votes_of = sampling.combined_runs or source
    return place(source_run, sampling.model_copy(update={**changes, "votes_of": votes_of}), source, name)


def place(origin: Run, sampling: Sampling, title: str, name: str | None = None) -> EnqueuedRun:
    """Record a run over the questions of another one and recorded votes, and send its messages.

    ``title`` names the runs of the votes.

    Raises:
        UserError: another run has the name.
        ServiceUnreachable: the broker does not answer.
    """
    data = inputs.from_run(origin)
    sampling = sampling.model_copy(update={"calibration": None})
    options = {**sampling.model_dump(mode="json"), "scorer": models.pinned("scorer", sampling.scorer)}
    chosen = name or publish.default_name(title, "infer", data.digest, data.questions, options)
    examples = None if sampling.combined_runs else origin.examples
    run = Run(chosen, "infer", f"votes of {title}", data.digest, examples, options)

    def write() -> None:
        with console.bar("recording", data.entries, "entries") as advance:
            # A run over some questions of another one has items for those only.
            keys = runs.keys_of(origin.name) if sampling.redo_of else None
            runs.open_run(run, inputs.counted(data.lines(), advance), keys=keys)

    continued = publish.begin(run, write)
    sent = publish.publish(chosen)
    return EnqueuedRun(chosen, run_progress.count_items(chosen), sent, 0, 0, continued)
