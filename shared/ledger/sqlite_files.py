"""The file of an SQLite ledger, and copies made while it is in use (SQLite's backup API).

var/ledger.db  ->  var/ledger.db.revision-1.backup
"""

import contextlib
import itertools
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

import sqlalchemy as sa

from shared import file_permissions
from shared.errors import UserError


def uri(path: Path, **options: str) -> str:
    """Give SQLite's URI of a read-only file."""
    words = "".join(f"&{name}={value}" for name, value in options.items())
    return f"file:{quote(str(path.resolve()))}?mode=ro{words}"


def of_url(url: str) -> list[Path]:
    """Give the files that an SQLite ledger may have, its main file first; none for PostgreSQL."""
    parsed = sa.make_url(url)
    name = parsed.database if parsed.get_backend_name() == "sqlite" else None
    name = unquote(name.removeprefix("file:")) if name else None
    return [Path(name + ending) for ending in ("", "-wal", "-shm")] if name else []


def path_of(connection: sa.Connection) -> Path | None:
    """Give the file of an SQLite ledger; None: it is in memory, or not SQLite."""
    if connection.dialect.name != "sqlite":
        return None
    files = {name: file for _, name, file in connection.exec_driver_sql("PRAGMA database_list")}
    return Path(files["main"]) if files["main"] else None


def back_up_beside(connection: sa.Connection, revision: str) -> Path | None:
    """Copy an SQLite ledger into its own folder, for its owner alone; give the new file."""
    ledger = path_of(connection)
    if ledger is None:
        return None
    endings = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
    backups = (ledger.with_name(f"{ledger.name}.revision-{revision}.backup{ending}") for ending in endings)
    backup = next(path for path in backups if not path.exists())
    with file_permissions.only_owner():
        save(ledger, backup)
    return backup


def save(ledger: Path, target: Path) -> None:
    """Copy a ledger to a file atomically.

    Raises:
        UserError: as `copy`.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        copy(ledger, part)
        with contextlib.closing(sqlite3.connect(part)) as alone:
            # A single file without -wal and -shm files, even while it is read.
            alone.execute("PRAGMA journal_mode=DELETE")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Put the content of one SQLite file into another, in one transaction.

    Raises:
        UserError: SQLite fails; the message has its reason.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(uri(source), uri=True)) as read,
            contextlib.closing(sqlite3.connect(target, timeout=30)) as written,
        ):
            read.backup(written)
    except sqlite3.Error as error:
        raise UserError(f"cannot copy {source} to {target}: {error}") from None
