"""The `ledger` commands: parse, call, print.

    votequeue ledger backup monday.db

As in `cli`, each command imports its dependencies when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import UserError

app = typer.Typer(help="Upgrade the ledger, back it up, restore it.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="SQLite: a ledger; PostgreSQL: a dump by pg_dump")]


@app.command()
def upgrade() -> None:
    """Upgrade the ledger of an older votequeue version; stop all workers first."""
    from producers.reports import render
    from shared.ledger import engine

    render.text(engine.upgrade() or "the ledger is at the newest revision")


@app.command()
def backup(
    file: File, force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False
) -> None:
    """Write the whole ledger to a file; workers may keep running."""
    from producers import output_files
    from producers.reports import render
    from shared.ledger import backups

    if file.exists() and not force:
        raise UserError(f"{file} exists: choose another file, or pass --force to overwrite it")
    output_files.require_free(file, force)
    backups.back_up(file)
    render.text(str(file))


@app.command()
def restore(
    file: File,
    force: Annotated[bool, typer.Option("--force", help="replace a ledger that contains runs")] = False,
) -> None:
    """Replace the ledger with a backup; stop all workers first."""
    from producers.reports import render
    from shared.ledger import backups

    backups.restore(file, force)
    render.text(f"the ledger was restored from {file}")
