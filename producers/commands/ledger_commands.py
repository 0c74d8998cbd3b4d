"""The `ledger` commands: parse, call, print.

    votequeue ledger backup monday.db

As in `cli`, a command imports what it stands on when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import UserError

app = typer.Typer(help="Upgrade the ledger, back it up, restore it.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="SQLite: a ledger; PostgreSQL: a dump by pg_dump")]


@app.command()
def upgrade() -> None:
    """Bring the ledger of an older votequeue to this one's tables; stop all workers first."""
    from producers.reports import render
    from shared.ledger import engine

    render.text(engine.upgrade() or "the ledger is at the newest revision")


@app.command()
def backup(
    file: File, force: Annotated[bool, typer.Option("--force", help="write over the file")] = False
) -> None:
    """Write the whole ledger to a file; workers may go on."""
    from producers import output_files
    from producers.reports import render
    from shared.ledger import backups

    if file.exists() and not force:
        raise UserError(f"{file} is there already: name another file, or say --force to write over it")
    output_files.require_free(file, force)
    backups.back_up(file)
    render.text(str(file))


@app.command()
def restore(
    file: File,
    force: Annotated[bool, typer.Option("--force", help="replace a ledger that has runs")] = False,
) -> None:
    """Put a backup in place of the ledger; stop all workers first."""
    from producers.reports import render
    from shared.ledger import backups

    backups.restore(file, force)
    render.text(f"the ledger was restored from {file}")
