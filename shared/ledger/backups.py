"""Backups of the ledger: a copy of the SQLite file, or a dump of the PostgreSQL database (pg_dump).

back_up(Path("monday.db"))  ->  monday.db, a complete ledger; ``restore`` replaces the present one by it
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import psycopg.conninfo
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from shared.errors import UserError
from shared.ledger import engine, migrations, schema, sqlite_files

_OF_ITEMS = re.compile(r" TABLE \S+ items ")  # a line of `pg_restore --list`


def back_up(target: Path) -> None:
    """Write the whole ledger to a file, while workers continue.

    Raises:
        UserError: PostgreSQL's programs are missing or fail.
        OSError, ServiceUnreachable: a file cannot be written, the server does not answer.
    """
    with engine.reading() as connection:
        ledger = sqlite_files.path_of(connection)
    if ledger is not None:
        return sqlite_files.save(ledger, target)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        _run("pg_dump", "--format=custom", f"--file={part}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return None


def restore(source: Path, force: bool = False) -> None:
    """Replace the present ledger by a backup, in one transaction.

    Raises:
        UserError: it is no backup of a ledger, a worker holds a lease, there are runs and no ``force``, or
            PostgreSQL's programs are missing or refuse.
        OSError, ServiceUnreachable: as for `back_up`.
    """
    with engine.reading() as connection:
        ledger = sqlite_files.path_of(connection)
        _check(source, of_sqlite=ledger is not None)
        engine.require_idle(connection)
        if not force and connection.scalar(sa.select(schema.runs.c.name).limit(1)):
            raise UserError("the present ledger has runs: back it up, then say --force to replace it")
        tables = [name for name in sa.inspect(connection).get_table_names() if name in _names()]
    engine.engine().dispose()
    if ledger is not None:
        sqlite_files.copy(source, ledger)
    else:
        _restore_dump(source, tables)
    engine.engine.cache_clear()


def _names() -> set[str]:
    return {*schema.metadata.tables, migrations.VERSION_TABLE}


def _check(source: Path, of_sqlite: bool) -> None:
    if not source.is_file():
        raise UserError(f"{source} is no file")
    if of_sqlite:
        _check_sqlite(source)
    elif not _OF_ITEMS.search(_run("pg_restore", "--list", source, connected=False)):
        raise UserError(f"{source} is no backup of a PostgreSQL ledger")


def _check_sqlite(source: Path) -> None:
    opened = sa.create_engine(f"sqlite:///{sqlite_files.uri(source, uri='true')}")
    try:
        with opened.connect() as connection:
            revision = migrations.current(connection)
    except DatabaseError as error:
        raise UserError(f"{source} is no SQLite ledger ({error.orig})") from None
    finally:
        opened.dispose()
    if revision is None:
        raise UserError(f"{source} is no SQLite ledger: it has no runs table")


def _restore_dump(source: Path, tables: list[str]) -> None:
    """Drop the present tables and load a dump, in one transaction of psql."""
    with tempfile.NamedTemporaryFile(suffix=".sql") as script:
        flags = ("--no-owner", "--no-privileges", f"--file={script.name}")
        _run("pg_restore", *flags, source, connected=False)
        drop = f"DROP TABLE {', '.join(tables)}"
        once = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        _run("psql", *once, f"--command={drop}", f"--file={script.name}")


def _run(program: str, *words: object, connected: bool = True) -> str:
    """Run one of PostgreSQL's programs; the environment has its password, which no other user can read."""
    environment = dict(os.environ)
    where: list[str] = []
    if connected:
        opened = engine.engine()
        _, arguments = opened.dialect.create_connect_args(opened.url)
        del arguments["context"]  # psycopg's adapters
        password = arguments.pop("password", None)
        where = ["--dbname", psycopg.conninfo.make_conninfo(**arguments)]
        if password:
            environment["PGPASSWORD"] = str(password)
    command = [program, *where, *map(str, words)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise UserError(
            f"{program} is not installed here: install PostgreSQL's client programs (Debian: "
            f"postgresql-client), or run this where they are"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[0]
        raise UserError(f"{program} failed: {reason}")
    return done.stdout
