"""The `models` commands: parse, call, print.

    votequeue models use scorer-3f9c01ab12cd

As in `cli`, each command imports its dependencies when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from producers.commands.options import Json

app = typer.Typer(help="List, select and add trained models.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="model name or unique prefix")]


@app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """List, select and add trained models."""
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
    """Show a model: its data, options, code and metrics."""
    from producers import models
    from producers.reports import render, render_reports

    listed = models.find(name)
    return render.as_json(listed.as_dict()) if json else render_reports.model_details(listed)


@app.command("use")
def use(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="model name; or no-scorer, no-lora to use none"),
    ],
    json: Json = False,
) -> None:
    """Select the model for runs enqueued from now on; name an older model to roll back."""
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
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="folder with a LoRA adapter in PEFT format")
    ],
    json: Json = False,
) -> None:
    """Register a LoRA adapter that was trained elsewhere; then select it with `models use`."""
    from producers import models
    from producers.reports import render

    added = models.add_lora(folder)
    return render.as_json(added.as_dict()) if json else render.text(added.model.name)
