"""Enqueue a labelled data set for generating reasonings or programs (`reason` queue): one item a question.

order(Path("train.jsonl"), options)  ->  Plan(run=Run("train-9f3c01ab", "reason", ...), items=1328, ...)
"""

from pathlib import Path

from producers import console
from producers.enqueue import estimate, inputs, prompt_choice, publish, workload
from producers.enqueue.inputs import DataSource
from producers.enqueue.plan import LeftOut, Plan
from shared.errors import UserError
from shared.ledger.runs import Run
from shared.options import Reading, Reasoning
from shared.voices import VOICES


def order(
    data: Path,
    options: Reasoning,
    name: str | None = None,
    skip_bad: bool = False,
    reading: Reading = inputs.AS_IT_IS,
) -> Plan:
    """Plan a run that generates reasonings or programs for a data set; nothing is written.

    Raises:
        UserError: the data are invalid or have no labelled question.
    """
    source = inputs.check([data], skip_bad, reading)[0]
    if not source.labelled:
        raise UserError(f"{data}: it has no labelled question")
    if not VOICES[options.voice].explains:
        options = options.model_copy(update={"prompt": _prompt(options.voice, source)})
    with console.bar("estimating", source.entries, "entries") as advance:
        entries = (line.entry for line in inputs.counted(source.lines(), advance))
        work = workload.reasonings(entries, options)
    record = options.model_dump(mode="json")
    chosen = name or publish.default_name(source.stem, "reason", source.digest, record)
    return Plan(
        run=Run(chosen, "reason", source.place, source.digest, None, record),
        items=source.labelled,
        entries=source.entries,
        bad=source.bad,
        left_out=LeftOut(unlabelled=source.questions - source.labelled),
        estimate=estimate.of(work),
        lines=source.lines,
        files=source.files,
    )


def _prompt(voice: str, source: DataSource) -> str:
    """Give the digest of a voice's prompt in the data's language."""
    prompts, _ = prompt_choice.completed({}, [voice], (line.entry for line in source.lines()))
    return prompts[voice].digest
