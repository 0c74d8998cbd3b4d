"""The `models` commands: parse, call, print.

    votequeue models use scorer-3f9c01ab12cd

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from producers.commands.options import Json

app = typer.Typer(help="List trained models; say which is in use.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="a model's name, or a beginning that only it has")]


@app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """List trained models; say which is in use."""
    if context.invoked_subcommand is not None:
        return None
    from producers import models
    from producers.reports import render, render_reports

    listed = models.listed()
    return (
        render.as_json([model.as_dict() for model in listed]) if json else render_reports.model_table(listed)
    )


@app.command("show")
def show_one(name: Name, json: Json = False) -> None:
    """Tell all that is known of a model: its data, settings, code and figures."""
    from producers import models
    from producers.reports import render, render_reports

    listed = models.find(name)
    return render.as_json(listed.as_dict()) if json else render_reports.model_details(listed)


@app.command("use")
def use(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="a model's name; no-scorer, no-lora: from now on none of a kind"),
    ],
    json: Json = False,
) -> None:
    """Let a model be used by the runs that are enqueued from now on; an older one's name rolls back."""
    from producers import console, models
    from producers.reports import render

    decision = models.use(name)
    if not decision.here:
        console.note(f"the files of {decision.model} are not on this machine: the workers must have them")
    if json:
        return render.as_json(decision)
    change = f"{decision.model or 'none'} (before: {decision.before or 'none'})"
    return render.text(f"{decision.kind} in use from now on: {change}")


@app.command("add")
def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a LoRA adapter as PEFT saves it")],
    json: Json = False,
) -> None:
    """Register a LoRA adapter that was trained elsewhere; `models use` then puts it to use."""
    from producers import models
    from producers.reports import render

    added = models.add_lora(folder)
    return render.as_json(added.as_dict()) if json else render.text(added.model.name)
