"""A labelled data set into the `reason` queue: one item for each question whose answer is known.

    order(Path("train.jsonl"), options)  ->  Order(run=Run("train-9f3c01ab", "reason", ...), items=1328, ...)

How a reasoning is asked for is not known here.
"""

import sys
from pathlib import Path

from producers import enqueue, estimate, intake, progress, workload
from producers.orders import LeftOut, Order
from shared.errors import UserError
from shared.jobs import Reasoning
from shared.ledger import Run


def order(data: Path, options: Reasoning, name: str | None = None, skip_bad: bool = False) -> Order:
    """Work out a run that gets the reasonings of a data set; nothing is written.

    Raises:
        UserError: the data will not do.
    """
    source = intake.check([data], skip_bad)[0]
    if not source.labelled:
        raise UserError(f"{data}: no question in it has an answer, so that no letter is right or wrong")
    with progress.bar("estimating", source.entries, "entries") as advance:
        entries = (line.entry for line in intake.counted(source.lines(), advance))
        work = workload.reasonings(entries, options)
    told = options.model_dump(mode="json")
    chosen = name or enqueue.default_name(source.stem, "reason", source.digest, told)
    return Order(
        run=Run(chosen, "reason", source.place, source.digest, None, told),
        items=source.labelled,
        entries=source.entries,
        bad=source.bad,
        left_out=LeftOut(unlabelled=source.questions - source.labelled),
        estimate=estimate.of(work),
        lines=source.lines,
        files=source.files,
    )


if __name__ == "__main__":
    from producers.cli import main

    sys.exit(main(["enqueue", "reason", *sys.argv[1:]]))
