"""Commands that control runs: parse, call, print.

    votequeue pause mine

As in `cli`, each command imports its dependencies when it runs.
"""

from typing import Annotated

import typer

from producers.commands import options
from producers.commands.options import Json

RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, as `enqueue` printed it")]


def pause(run: RunName, json: Json = False) -> None:
    """Let workers take no more items of a run; `resume` lifts the pause."""
    from producers import Client
    from producers.reports import render

    Client().pause(run)
    text = f"run {run} is paused: what is being sampled is finished; `votequeue resume {run}` continues it"
    return render.as_json({"run": run, "control": "paused"}) if json else render.text(text)


def resume(run: RunName, json: Json = False) -> None:
    """Lift a pause of a run or its services; requeue every unfinished item that no worker holds."""
    from producers import Client, console
    from producers.reports import render

    sent = Client().resume(run)
    if json:
        return render.as_json({"run": run, "sent": sent})
    return render.text(f"run {run}: {console.count(sent, 'message')} sent")


def cancel(run: RunName, json: Json = False) -> None:
    """End all open items of a run without a result; those that are done stay."""
    from producers import Client, console
    from producers.reports import render
    from shared.ledger import runs

    ended = Client().cancel(run)
    record = runs.get_run(run)
    if json:
        return render.as_json({"run": run, "control": record.control, "ended": ended})
    if not record.cancelled:
        return render.text(f"run {run} has no open items: it stays as it is")
    return render.text(f"run {run} is cancelled: {console.count(ended, 'item')} ended without a result")


def delete(
    run: RunName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask for confirmation")] = False,
    json: Json = False,
) -> None:
    """Delete a finished or cancelled run with its votes and answers; trained models and paid texts stay."""
    from producers import Client, console
    from producers.reports import render

    if not yes:
        typer.confirm(f"Delete run {run} with its votes and answers?", abort=True, err=True)
    deleted = Client().delete(run)
    if deleted.learners:
        console.note(f"{', '.join(deleted.learners)} learned from {run}, and keep what they learned")
    if json:
        return render.as_json({"run": run, **render.plain(deleted)})
    return render.text(f"run {run} is deleted: {console.count(deleted.rows, 'row')}")


@options.usage_errors()
def priority(
    run: RunName,
    priority: Annotated[int, typer.Argument(metavar="N", help="any integer; runs have 0 at first")],
    json: Json = False,
) -> None:
    """Put a run before all runs of its queue with a lower priority."""
    from producers import Client
    from producers.reports import render

    Client().priority(run, priority)
    text = f"run {run} has priority {priority}"
    return render.as_json({"run": run, "priority": priority}) if json else render.text(text)


@options.usage_errors()
def retention(
    *,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="age of a run's last result: 30d, 12h")
    ],
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="this run only", show_default="all runs")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be dropped")] = False,
    json: Json = False,
) -> None:
    """Drop the texts of the votes of old finished runs; letters, scores, tokens and answers stay."""
    from producers import Client, console
    from producers.reports import render
    from shared import settings

    dropped = Client().retention(older_than, run=run, dry_run=dry_run)
    if json:
        return render.as_json(dropped)
    for each in dropped:
        render.text(
            f"run {each.run}: {console.count(each.votes, 'vote')}, {each.bytes / 1e6:.1f} MB of texts"
        )
    total = f"{sum(each.bytes for each in dropped) / 1e6:.1f} MB"
    if dry_run or not dropped:
        return render.text(f"{total} would be freed in {console.count(len(dropped), 'run')}")
    sqlite = settings.load().ledger.startswith("sqlite")
    later = "; the file keeps its size, and later runs reuse the space" if sqlite else ""
    return render.text(f"{total} freed in {console.count(len(dropped), 'run')}{later}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (pause, resume, cancel, delete, retention):
        app.command()(command)
    # Otherwise, a negative number is an unknown option.
    app.command(context_settings={"ignore_unknown_options": True})(priority)
