"""Enqueue recorded votes to be scored or read again; nothing is sampled.

    rescore("test", {"scorer": "scorer-3f9c01ab12cd"})  ->  EnqueuedRun("test-9f3c01ab", items=275, ...)

The result is an ordinary run that can be reported, traced and collected.
"""

from typing import Any

from producers import console, run_progress
from producers.enqueue import inputs, publish
from producers.enqueue.publish import EnqueuedRun
from shared.ledger import models, runs
from shared.ledger.runs import Run
from shared.options import Sampling


def rescore(source: str, changes: dict[str, Any], name: str | None = None) -> EnqueuedRun:
    """Enqueue the questions of a finished run to be answered from its recorded votes.

    ``changes`` are the sampling options that apply to scoring.

    Raises:
        UserError: there is no such run, it is unfinished, or another run has the name.
        ServiceUnreachable: the broker does not answer.
    """
    source_run = run_progress.require_questions(source)
    run_progress.require_finished(source)
    sampling = Sampling.of_record(source_run.options).model_copy(update={**changes, "votes_of": source})
    data = inputs.from_run(source_run)
    options = {**sampling.model_dump(mode="json"), "scorer": models.pinned("scorer", sampling.scorer)}
    chosen = name or publish.default_name(source, "infer", data.digest, data.questions, options)
    run = Run(chosen, "infer", f"votes of {source}", data.digest, source_run.examples, options)

    def write() -> None:
        with console.bar("recording", data.entries, "entries") as advance:
            # A run over some questions of another one has items for those only.
            keys = runs.keys_of(source) if sampling.redo_of else None
            runs.open_run(run, inputs.counted(data.lines(), advance), keys=keys)

    continued = publish.begin(run, write)
    sent = publish.publish(chosen)
    return EnqueuedRun(chosen, run_progress.count_items(chosen), sent, 0, 0, continued)
