"""Connections and transactions of the ledger (SQLAlchemy 2; SQLite in WAL mode or PostgreSQL).

    open_run(Run("round1", "infer", "test.jsonl", "9f3c...", None, {...}), lines)  ->  items, all pending

Claims and leases are in `claims`. This module sends no messages and does not depend on the broker.
"""

import contextlib
import functools
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psycopg
import psycopg.conninfo
import sqlalchemy as sa
import tenacity
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from shared import file_permissions, settings
from shared.errors import Conflict, ServiceUnreachable, UserError
from shared.jobs import Job
from shared.ledger import migrations, postgres, schema, sqlite_files

log = logging.getLogger(__name__)
CHUNK = 500
_SQLITE_VALUES = 32_000  # of one statement; SQLite takes 32,766
UPGRADE = "votequeue ledger upgrade"
_SCHEMA_LOCK = 7014  # the key of PostgreSQL's advisory lock
# Limits of a PostgreSQL session, in milliseconds (keepalives: s): a stalled transaction blocks all other
# workers, so the server ends it before a lease expires, and with it the sessions of machines that are gone.
_SESSION_LIMITS = {
    "statement_timeout": 20_000,
    "lock_timeout": 10_000,
    "idle_in_transaction_session_timeout": 10_000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 3,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_NO_LIMITS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
# TCP keepalive: the kernel probes a silent server after 5 s, and gives up after 15 s.
_ALIVE = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15_000}
# PostgreSQL's text type rejects NUL, and all databases reject lone surrogates; texts may contain both.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
# serialization_failure, deadlock_detected
_CONFLICTS = ("40001", "40P01")
MAX_CONFLICTS = 10
# insufficient_privilege, read_only_sql_transaction
_FORBIDDEN = ("42501", "25006")
# undefined_table, undefined_column
_LACKING = ("42P01", "42703")
Connection = sa.Connection  # for modules that only pass connections on
_T = TypeVar("_T")
_P = ParamSpec("_P")


@functools.cache
def engine() -> sa.Engine:
    """Open the ledger; create its tables if there are none.

    Raises:
        UserError: its folder is not writable, or a newer votequeue created it.
        ServiceUnreachable: the database server does not answer.
    """
    url = settings.load().ledger
    if url.startswith("sqlite"):
        _make_folder(url)
        url = _readable(url)
    opened = _opened(url)
    if opened.dialect.name == "sqlite":
        sa.event.listen(opened, "connect", _prepare_sqlite)
        sa.event.listen(opened, "begin", _begin_immediate)
    try:
        with _translated():
            revision = _revision(opened) or _make_tables(opened)
    except BaseException:
        opened.dispose()
        raise
    opened.update_execution_options(revision=revision)
    return opened


@contextlib.contextmanager
def examining() -> Iterator[sa.Connection]:
    """Connect to the ledger as it is: nothing is created or changed.

    Raises:
        UserError, ServiceUnreachable: as `engine`, and for an SQLite file that is missing.
    """
    url = settings.load().ledger
    opened = _opened(_unchanged(sqlite_files.of_url(url)[0]) if url.startswith("sqlite") else url)
    try:
        with _translated(), opened.connect() as connection:
            yield connection
    finally:
        opened.dispose()


def require_writable(connection: sa.Connection) -> None:
    """Check that the ledger, or its tables to be made, can be written; it changes nothing.

    Raises:
        UserError: it cannot.
    """
    if file := sqlite_files.path_of(connection):
        able = os.access(file, os.W_OK)
    elif migrations.current(connection):
        # PostgreSQL checks the permission, and that it is no replica, although no row matches.
        connection.execute(sa.update(schema.items).where(sa.false()).values(state=schema.State.PENDING))
        able = True
    else:
        able = connection.scalar(sa.text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))
    if not able:
        raise UserError(f"the ledger {_place()} cannot be written: correct its permissions")


def _opened(url: str) -> sa.Engine:
    try:
        opened = sa.create_engine(url, pool_pre_ping=True, connect_args=_connect_args(url))
    except (SQLAlchemyError, ImportError) as error:
        raise UserError(f"VOTEQUEUE_LEDGER_URL is not a usable database URL: {error}") from None
    _refuse_unknown_options(opened)
    if opened.dialect.name == "postgresql":
        sa.event.listen(opened, "do_connect", _connect_postgres)
    return opened


def _connect_args(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 30}  # seconds to wait for another writer
    limits = " ".join(f"-c {name}={value}" for name, value in _SESSION_LIMITS.items())
    return {"connect_timeout": 10, "options": limits, **_ALIVE}


def _connect_postgres(_dialect: object, _record: object, args: Any, keywords: dict[str, Any]) -> Any:
    return postgres.PatientConnection.connect(*args, **keywords)


def _refuse_unknown_options(opened: sa.Engine) -> None:
    if opened.dialect.name == "postgresql":
        try:
            psycopg.conninfo.make_conninfo(**dict.fromkeys(opened.url.query, "0"))
        except psycopg.Error as error:
            raise UserError(f"VOTEQUEUE_LEDGER_URL has an option unknown to PostgreSQL: {error}") from None


def _make_folder(url: str) -> None:
    file = Path(sa.make_url(url).database or "")
    try:
        file_permissions.make_folder(file.parent)
    except OSError as error:
        raise UserError(f"cannot make the ledger's folder {file.parent}: {error.strerror}") from None
    if not file.name.startswith("file:"):
        # SQLite gives its other files the mode of this one, and reports what it cannot open.
        with contextlib.suppress(OSError):
            file_permissions.make_file(file)


def _readable(url: str) -> str:
    """Open a read-only ledger as immutable; nothing can write to it."""
    path = Path(sa.make_url(url).database or "")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not path.is_file() or writable or path.with_name(f"{path.name}-wal").exists():
        return url
    return _unchanged(path)


def _unchanged(path: Path) -> str:
    # SQLite would create its -shm file even for reading; without a -wal file, nothing writes to the ledger.
    immutable = {} if path.with_name(f"{path.name}-wal").exists() else {"immutable": "1"}
    return f"sqlite:///{sqlite_files.uri(path, uri='true', **immutable)}"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # sqlite3's own transactions begin too late for IMMEDIATE. This is SQLAlchemy's documented recipe.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: sa.Connection) -> None:
    # A reader that starts to write fails at once while another process writes; BEGIN IMMEDIATE waits.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _make_tables(opened: sa.Engine) -> str:
    with opened.begin() as connection, _without_limits(connection):
        _lock_schema(connection)
        # Another process may have created them meanwhile.
        revision = migrations.current(connection)
        if revision is None:
            migrations.create(connection)
        return revision or migrations.HEAD


def _revision(opened: sa.Engine) -> str | None:
    # A reader needs neither the lock nor write permission.
    with opened.connect().execution_options(reads=True) as connection:
        return migrations.current(connection)


def _lock_schema(connection: sa.Connection) -> None:
    """Lock creation and upgrades of tables; on SQLite the transaction itself is the lock."""
    if connection.dialect.name == "postgresql":
        wait = f"SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"
        connection.exec_driver_sql(f"{wait}; SET LOCAL lock_timeout = {_SESSION_LIMITS['lock_timeout']}")


def ready() -> None:
    """Open the ledger for writing; upgrade an older SQLite ledger first.

    Raises:
        UserError: the user must upgrade it, or workers are using it (see also `engine`).
        ServiceUnreachable: the database server does not answer.
    """
    opened = engine()
    if opened.get_execution_options()["revision"] == migrations.HEAD:
        return
    if opened.dialect.name == "sqlite":
        if message := upgrade():
            log.warning("%s", message)
        return
    with _translated():
        revision = _revision(opened)
    if revision != migrations.HEAD:
        raise UserError(
            f"the ledger has revision {revision}, this votequeue writes revision {migrations.HEAD}: "
            f"stop all workers, then run `{UPGRADE}`"
        )
    opened.update_execution_options(revision=migrations.HEAD)


def upgrade() -> str | None:
    """Upgrade the ledger to the newest revision in one transaction; describe the upgrade, if there was one.

    An SQLite ledger is first copied to a file beside it.

    Raises:
        UserError: workers are using it (see also `engine`).
    """
    opened = engine()
    with _translated(), opened.begin() as connection, _without_limits(connection):
        _lock_schema(connection)
        revision = migrations.current(connection) or migrations.HEAD
        copy = None
        if revision != migrations.HEAD:
            require_idle(connection)
            copy = sqlite_files.back_up_beside(connection, revision)
            migrations.upgrade(connection, revision)
    opened.update_execution_options(revision=migrations.HEAD)
    if revision == migrations.HEAD:
        return None
    kept = f"; {copy} is a backup of the old one" if copy else ""
    return f"the ledger was upgraded from revision {revision} to {migrations.HEAD}{kept}"


def require_idle(connection: sa.Connection) -> None:
    """Refuse to replace tables or rows while a worker uses them.

    Raises:
        UserError: a worker holds a lease.
    """
    left = migrations.leased_until(connection) - now(connection)
    if left > 0:
        raise UserError(
            f"workers are using the ledger: stop all of them; the last lease ends in {left:.0f} s"
        )


@contextlib.contextmanager
def writing() -> Iterator[sa.Connection]:
    """Run one writing transaction.

    Raises:
        ServiceUnreachable, UserError: the message names the cause (see `ready`).
    """
    ready()
    with _translated(), engine().begin() as connection:
        yield connection


@contextlib.contextmanager
def reading() -> Iterator[sa.Connection]:
    """Read a consistent snapshot, without blocking writers."""
    with _translated(), engine().connect().execution_options(reads=True) as connection:
        yield connection


@contextlib.contextmanager
def streaming() -> Iterator[sa.Connection]:
    """Read rows in chunks as `reading` does, without a time limit for the caller."""
    with reading() as connection, _without_limits(connection):
        yield connection.execution_options(yield_per=CHUNK)


@contextlib.contextmanager
def _without_limits(connection: sa.Connection) -> Iterator[None]:
    """Remove the time limits of a transaction that blocks no worker."""
    if connection.dialect.name == "sqlite":
        yield
        return
    session: Any = connection.connection.dbapi_connection
    connection.exec_driver_sql(_NO_LIMITS)
    session.patience = None
    try:
        yield
    finally:
        session.patience = postgres.SECONDS


def retried(write: Callable[_P, _T]) -> Callable[_P, _T]:
    """Retry a function of one transaction when the database aborts it because of a conflict.

    PostgreSQL aborts and rolls back one of two transactions that wait for each other.
    """
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(Conflict),
        stop=tenacity.stop_after_attempt(MAX_CONFLICTS),
        wait=tenacity.wait_random(0, 0.1),
        reraise=True,
    )(write)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if _is_lacking(error):
            raise UserError(
                f"the ledger has revision {engine().get_execution_options()['revision']}, which lacks tables "
                f"or columns that this command reads: run `{UPGRADE}`"
            ) from error
        if not _is_outside(error):
            # A bug in this program, which a retry cannot fix.
            raise
        raise _explained(error) from error


def _is_lacking(error: DBAPIError) -> bool:
    """Tell whether an older ledger lacks a table or column."""
    lacking = getattr(error.orig, "sqlstate", None) in _LACKING or "no such" in str(error.orig)
    return (
        lacking
        and bool(engine.cache_info().currsize)
        and engine().get_execution_options()["revision"] != migrations.HEAD
    )


def _is_outside(error: DBAPIError) -> bool:
    forbidden = getattr(error.orig, "sqlstate", None) in _FORBIDDEN
    return forbidden or not isinstance(error, IntegrityError | DataError | ProgrammingError)


def _explained(error: DBAPIError) -> UserError:
    if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
        return Conflict("the ledger aborted a transaction that conflicted with another one")
    place = _place()
    reason = str(error.orig).strip().splitlines()[0]
    forbidden = getattr(error.orig, "sqlstate", None) in _FORBIDDEN
    if forbidden or "readonly" in reason or "unable to open" in reason:
        return UserError(f"the ledger {place} cannot be written ({reason}): correct its permissions")
    if "is full" in reason or "No space" in reason:
        return ServiceUnreachable(f"the disk of the ledger {place} is full: free some space")
    return ServiceUnreachable(f"the ledger at {place} does not work ({reason}): see VOTEQUEUE_LEDGER_URL")


def _place() -> str | None:
    url = sa.make_url(settings.load().ledger)
    return url.database if url.get_backend_name() == "sqlite" else f"{url.host}:{url.port or 5432}"


def now(connection: sa.Connection) -> float:
    """Give the ledger's time, so that leases do not depend on the machines' clocks."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
    return time.time()


def storable(text: str) -> str:
    """Replace characters that a ledger cannot store in a text from outside."""
    return _NOT_STORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, object]]) -> None:
    """Insert the rows whose keys do not exist; callers sort them by key, or two writers may deadlock."""
    connection.execute(_inserting(connection, table).on_conflict_do_nothing(), rows)


def insert_whole(
    connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]], missing: bool = False
) -> None:
    """Insert rows of the same columns with one statement; ``missing``: only those whose keys do not exist.

    The drivers' `executemany` executes a statement per row. With psycopg, this takes several times as long
    for client and server; sqlite3 lets other threads run after each row. Columns' defaults are not applied.
    """
    columns, ending = tuple(rows[0]), "ON CONFLICT DO NOTHING" if missing else ""
    if connection.dialect.name == "sqlite":
        for some in chunks(rows, _SQLITE_VALUES // len(columns)):
            values = tuple(_sqlite_value(row[column]) for row in some for column in columns)
            connection.exec_driver_sql(_insert_values(table.name, columns, len(some), ending), values)
        return
    try:
        text = json.dumps(rows, allow_nan=False)
    except ValueError:  # NaN or infinite: JSON has no such numbers
        insert = _inserting(connection, table)
        connection.execute(insert.on_conflict_do_nothing() if missing else insert, rows)
    else:
        connection.execute(_insert_json(table.name, columns, ending), {"rows": text})


@functools.lru_cache
def _insert_values(table: str, columns: Sequence[str], count: int, ending: str) -> str:
    rows = ", ".join([f"({', '.join('?' * len(columns))})"] * count)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows} {ending}"  # noqa: S608  our own names


@functools.lru_cache
def _insert_json(table: str, columns: Sequence[str], ending: str) -> sa.TextClause:
    names = ", ".join(columns)
    rows = f"json_populate_recordset(NULL::{table}, CAST(:rows AS json))"
    return sa.text(f"INSERT INTO {table} ({names}) SELECT {names} FROM {rows} {ending}")  # noqa: S608  as above


def _sqlite_value(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | tuple) else value


def put(
    connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]
) -> None:
    """Insert a row, or update the row with the same key."""
    insert = _inserting(connection, table).values(**key, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))


def _inserting(connection: sa.Connection, table: sa.Table) -> "postgresql.Insert | sqlite.Insert":
    on_postgresql = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if on_postgresql else sqlite.insert(table)


@functools.cache
def among(dialect: str) -> sa.ColumnElement[bool]:
    """Select some items of a run by their `keys`, which are the statement's values."""
    columns, run = schema.items.c, sa.bindparam("of_run", type_=sa.String)
    if dialect != "postgresql":
        return sa.and_(columns.run == run, columns.number.in_(sa.bindparam("of_numbers", expanding=True)))
    # Of a new run, PostgreSQL has no statistics, takes it for a small one, and would read all of its items.
    # It cannot do so if the run is not a constant.
    numbers = sa.func.unnest(sa.bindparam("of_numbers", type_=postgresql.ARRAY(sa.Integer)))
    listed = sa.select(run.label("run"), numbers.label("number")).cte("keys").prefix_with("MATERIALIZED")
    return sa.tuple_(columns.run, columns.number).in_(sa.select(listed.c.run, listed.c.number))


def keys(jobs: Iterable[Job]) -> dict[str, Any]:
    """Give the keys of jobs of one run for `among`."""
    (run, *_), numbers = zip(*((job.run, job.item) for job in jobs), strict=True)
    return {"of_run": run, "of_numbers": list(numbers)}


def update_in_order(
    connection: sa.Connection, where: sa.ColumnElement[bool], values: dict[str, Any], skip: bool = False
) -> int:
    """Update many items at once; return their number.

    Writers of several items lock them in the order of their keys, which prevents deadlocks. ``skip`` leaves
    out items that are locked now.
    """
    columns = schema.items.c
    if connection.dialect.name == "postgresql":
        ordered = sa.select(columns.run, columns.number).where(where).order_by(columns.run, columns.number)
        locked = ordered.with_for_update(skip_locked=skip).cte("locked").prefix_with("MATERIALIZED")
        where = sa.tuple_(columns.run, columns.number).in_(sa.select(locked.c.run, locked.c.number))
    return connection.execute(schema.items.update().where(where).values(**values)).rowcount


def chunks(values: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    """Yield values in chunks; the default is a good size for one statement."""
    source = iter(values)
    while chunk := list(itertools.islice(source, size)):
        yield chunk
