"""Connections and transactions of the ledger (SQLAlchemy 2; SQLite in WAL mode or PostgreSQL).

    open_run(Run("round1", "infer", "test.jsonl", "9f3c...", None, {...}), lines)  ->  items, all pending

Who works on what, and until when, is `claims`. This module sends no messages and knows no broker.
"""

import contextlib
import functools
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

import psycopg
import psycopg.conninfo
import sqlalchemy as sa
import tenacity
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from shared import file_permissions, settings
from shared.errors import Conflict, ServiceUnreachable, UserError
from shared.ledger import postgres, schema

CHUNK = 500
# What a PostgreSQL session may take, in milliseconds: whoever stands still within a transaction holds up
# every other worker, so the server ends it before a lease is over.
_SESSION_LIMITS = {
    "statement_timeout": 20_000,
    "lock_timeout": 10_000,
    "idle_in_transaction_session_timeout": 10_000,
}
_NO_LIMITS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
# What the kernel does about a server that went dark: it is asked after 5 s, and given up after 15 s.
_DARK = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15_000}
# PostgreSQL's text takes no NUL, and no database half a surrogate pair; models and services may send either.
_UNFIT = re.compile("[\0\ud800-\udfff]")
# serialization_failure, deadlock_detected
_CONFLICTS = ("40001", "40P01")
CONFLICTS_AT_MOST = 10
# insufficient_privilege, read_only_sql_transaction
_FORBIDDEN = ("42501", "25006")
_T = TypeVar("_T")
_P = ParamSpec("_P")


@functools.cache
def engine() -> sa.Engine:
    """Open the ledger, making its tables where they are missing.

    Raises:
        UserError: its folder cannot be written, or another version's tables are in it.
        ServiceUnreachable: the database server does not answer.
    """
    url = settings.load().ledger
    if url.startswith("sqlite"):
        _make_folder(url)
        url = _readable(url)
    try:
        opened = sa.create_engine(url, pool_pre_ping=True, connect_args=_connect_args(url))
    except (SQLAlchemyError, ImportError) as error:
        raise UserError(f"VOTEQUEUE_LEDGER_URL is no database URL that works here: {error}") from None
    _refuse_unknown_options(opened)
    if opened.dialect.name == "sqlite":
        sa.event.listen(opened, "connect", _prepare_sqlite)
        sa.event.listen(opened, "begin", _begin_immediate)
    else:
        sa.event.listen(opened, "do_connect", _connect_postgres)
    with _translated():
        if not _is_ready(opened):
            _make_tables(opened)
    return opened


def _connect_args(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 30}  # seconds to wait for another writer
    limits = " ".join(f"-c {name}={value}" for name, value in _SESSION_LIMITS.items())
    return {"connect_timeout": 10, "options": limits, **_DARK}


def _connect_postgres(_dialect: object, _record: object, args: Any, keywords: dict[str, Any]) -> Any:
    return postgres.PatientConnection.connect(*args, **keywords)


def _refuse_unknown_options(opened: sa.Engine) -> None:
    if opened.dialect.name == "postgresql":
        try:
            psycopg.conninfo.make_conninfo(**dict.fromkeys(opened.url.query, "0"))
        except psycopg.Error as error:
            raise UserError(f"VOTEQUEUE_LEDGER_URL has an option that PostgreSQL has not: {error}") from None


def _make_folder(url: str) -> None:
    file = Path(sa.make_url(url).database or "")
    try:
        file_permissions.make_folder(file.parent)
    except OSError as error:
        raise UserError(f"cannot make the ledger's folder {file.parent}: {error.strerror}") from None
    if not file.name.startswith("file:"):
        # SQLite gives its other files the mode of this one. What it cannot open, it says itself.
        with contextlib.suppress(OSError):
            file_permissions.make_file(file)


def _readable(url: str) -> str:
    """Let SQLite read a ledger on which nobody can be at work, since nothing there can be written.

    It would make its -shm file otherwise, even to read.
    """
    path = Path(sa.make_url(url).database or "")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if not path.is_file() or writable or path.with_name(f"{path.name}-wal").exists():
        return url
    return f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&immutable=1&uri=true"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # sqlite3's own transaction handling begins too late for IMMEDIATE: SQLAlchemy's documented recipe.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: sa.Connection) -> None:
    # A reader that turns writer would fail at once where another writes; one that says so first waits.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _is_ready(opened: sa.Engine) -> bool:
    """Tell whether all tables are there, without a write: a reader needs neither the lock nor the right.

    Raises:
        UserError: they are another version's.
    """
    with opened.connect().execution_options(reads=True) as connection:
        inspector = sa.inspect(connection)
        there = set(inspector.get_table_names())
        if "facts" in there:
            _refuse_other_version(connection)
        return there >= set(schema.metadata.tables) and all(
            inspector.has_index("items", str(index.name)) for index in schema.PARTIAL_INDEXES
        )


def _refuse_other_version(connection: sa.Connection) -> None:
    version = connection.scalar(sa.select(schema.facts.c.value).where(schema.facts.c.name == "schema"))
    if version not in (None, schema.VERSION):
        raise UserError(
            f"the ledger's tables are version {version}, this votequeue needs {schema.VERSION}: "
            "name another VOTEQUEUE_LEDGER_URL"
        )


def _make_tables(opened: sa.Engine) -> None:
    with opened.begin() as connection, _without_limits(connection):
        if opened.dialect.name == "postgresql":
            # Two processes that create the same tables at once would fail on the second.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7014)"))
        schema.metadata.create_all(connection)
        # A table that is there already gets its new indexes only if they are made one by one.
        for index in schema.PARTIAL_INDEXES:
            index.create(connection, checkfirst=True)
        insert_missing(connection, schema.facts, [{"name": "schema", "value": schema.VERSION}])
        _refuse_other_version(connection)


@contextlib.contextmanager
def writing() -> Iterator[sa.Connection]:
    """Run one writing transaction.

    Raises:
        ServiceUnreachable, UserError: with a sentence for the cause (see `engine`).
    """
    with _translated(), engine().begin() as connection:
        yield connection


@contextlib.contextmanager
def reading() -> Iterator[sa.Connection]:
    """Read a consistent snapshot; it keeps no writer waiting."""
    with _translated(), engine().connect().execution_options(reads=True) as connection:
        yield connection


@contextlib.contextmanager
def streaming() -> Iterator[sa.Connection]:
    """Read as `reading` does, rows in chunks, for however long the caller works on each."""
    with reading() as connection, _without_limits(connection):
        yield connection.execution_options(yield_per=CHUNK)


@contextlib.contextmanager
def _without_limits(connection: sa.Connection) -> Iterator[None]:
    """Let the statements of a transaction that keeps no worker waiting take as long as they take."""
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
    """Run a function of one transaction again at once where the database ended that for a conflict.

    PostgreSQL ends one of two transactions that wait for each other; all of it is undone then.
    """
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(Conflict),
        stop=tenacity.stop_after_attempt(CONFLICTS_AT_MOST),
        wait=tenacity.wait_random(0, 0.1),
        reraise=True,
    )(write)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not _is_outside(error):
            # Not the world's doing but ours: waiting for a better day would not mend it.
            raise
        raise _explained(error) from error


def _is_outside(error: DBAPIError) -> bool:
    forbidden = getattr(error.orig, "sqlstate", None) in _FORBIDDEN
    return forbidden or not isinstance(error, IntegrityError | DataError | ProgrammingError)


def _explained(error: DBAPIError) -> UserError:
    if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
        return Conflict("the ledger ended a transaction that was in another one's way")
    url = sa.make_url(settings.load().ledger)
    place = url.database if url.get_backend_name() == "sqlite" else f"{url.host}:{url.port or 5432}"
    reason = str(error.orig).strip().splitlines()[0]
    forbidden = getattr(error.orig, "sqlstate", None) in _FORBIDDEN
    if forbidden or "readonly" in reason or "unable to open" in reason:
        return UserError(f"the ledger {place} cannot be written ({reason}): mend its permissions")
    if "is full" in reason or "No space" in reason:
        return ServiceUnreachable(f"the disk of the ledger {place} is full: make room")
    return ServiceUnreachable(f"the ledger at {place} does not work ({reason}): see VOTEQUEUE_LEDGER_URL")


def now(connection: sa.Connection) -> float:
    """Give the ledger's time, so that leases hold between machines whose clocks differ."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
    return time.time()


def storable(text: str) -> str:
    """Replace what no ledger can store in a text that came from outside."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def insert_missing(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, object]]) -> None:
    """Insert the rows whose keys are not there yet; sort them by key, or two writers may block."""
    connection.execute(_inserting(connection, table).on_conflict_do_nothing(), rows)


def put(
    connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]
) -> None:
    """Insert a row, or change the one with the same key."""
    insert = _inserting(connection, table).values(**key, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))


def _inserting(connection: sa.Connection, table: sa.Table) -> "postgresql.Insert | sqlite.Insert":
    on_postgresql = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if on_postgresql else sqlite.insert(table)


def update_in_order(
    connection: sa.Connection, where: sa.ColumnElement[bool], values: dict[str, Any], skip: bool = False
) -> int:
    """Change many items at once; give how many.

    Whoever writes several items takes them in the order of their keys, so that no two writers wait for each
    other. ``skip`` leaves out those that somebody is writing now.
    """
    columns = schema.items.c
    if connection.dialect.name == "postgresql":
        ordered = sa.select(columns.run, columns.number).where(where).order_by(columns.run, columns.number)
        locked = ordered.with_for_update(skip_locked=skip).cte("locked").prefix_with("MATERIALIZED")
        where = sa.tuple_(columns.run, columns.number).in_(sa.select(locked.c.run, locked.c.number))
    return connection.execute(schema.items.update().where(where).values(**values)).rowcount


# Runs and their items


def chunks(values: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    """Give values so many at once: as many as one statement should take."""
    source = iter(values)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


# Solved examples
