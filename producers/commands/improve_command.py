"""The `improve` command: parse, call, print.

votequeue improve labelled.jsonl --rounds 3
"""

from typing import Annotated, Any

import typer

from producers.commands import options, training_options
from producers.enqueue import option_checks
from shared.options import Reading


@options.flags_of(Reading, into="reading")
def improve(
    data: Annotated[str, typer.Argument(metavar="DATA", help="labelled data set, best with reasonings")],
    *,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; more of them continue the loop")] = 3,
    run: Annotated[
        str | None, typer.Option(help="start of the runs' names", show_default="derived from the data")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora", help="also train adapters for the generator")] = False,
    max_steps: Annotated[int | None, typer.Option(min=1, help="with --lora: steps of its training")] = None,
    reading: dict[str, Any],
    skip_bad: options.SkipBad = False,
) -> None:
    """Vote, train a scorer, use it if it is better, test; again. Repeat the command to continue."""
    from producers import console
    from producers import improve as loops
    from producers.enqueue import inputs
    from producers.reports import improvement, render

    if max_steps is not None and not lora:
        raise typer.BadParameter("it needs --lora", param_hint="--max-steps")
    adapter = training_options.lora({"max_steps": max_steps} if max_steps else {}) if lora else None
    read, scorer = option_checks.filled(Reading, {}, reading), training_options.scorer({})
    loop = loops.begin(inputs.find_file(data), run, scorer, adapter, skip_bad, read)
    for number in range(1, rounds + 1):
        page = loop.run_round(number)
        console.note(f"round {number} of {rounds} has ended: {page}")
    headings, rows = improvement.table(loop.name, rounds)
    render.table(rows, headings)
    render.text(improvement.NOTE)
