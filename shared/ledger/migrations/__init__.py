"""The ledger's revisions: detect a ledger's revision, and upgrade it to the newest (Alembic).

    alembic_version: "2"  --versions/revision_3.py-->  "3"

Importing Alembic takes a second. So only an upgrade imports it; a new ledger gets the newest tables directly.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from shared.errors import UserError
from shared.ledger import schema

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
HEAD = REVISIONS[-1]
# The additions of revision 2. A ledger without an alembic_version table has revision 2 if it has all of them,
# else revision 1.
_SINCE_2 = {"inputs", "plays", "usage_seen", "worker_progress", "workers"}
_INDEXES_SINCE_2 = ("items_pending", "items_claimed_before")
VERSION_TABLE = "alembic_version"
_version = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def current(connection: sa.Connection) -> str | None:
    """Give the revision of a ledger; None: it has no tables yet.

    Raises:
        UserError: a newer votequeue created it, or another program uses the database.
    """
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    if schema.items.name not in tables:
        if tables:
            raise UserError("VOTEQUEUE_LEDGER_URL names another program's database: use a separate one")
        return None
    if VERSION_TABLE in tables:
        revision = connection.scalar(sa.select(_version.c.version_num))
        if revision in REVISIONS:
            return str(revision)
        raise UserError(
            f"the ledger was created by a newer votequeue (its revision is {revision}, the newest here is "
            f"{HEAD}): upgrade votequeue, or name another VOTEQUEUE_LEDGER_URL"
        )
    indexed = all(inspector.has_index(schema.items.name, index) for index in _INDEXES_SINCE_2)
    return "2" if tables >= _SINCE_2 and indexed else "1"


def create(connection: sa.Connection) -> None:
    """Create the tables of the newest revision in an empty database."""
    schema.metadata.create_all(connection)
    _version.create(connection)
    connection.execute(_version.insert().values(version_num=HEAD))
    # Versions older than the revisions read this, and refuse the ledger.
    connection.execute(schema.facts.insert().values(name="schema", value=HEAD))


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Upgrade a ledger from a revision to the newest, within the caller's transaction."""
    from alembic import command

    if not sa.inspect(connection).has_table(VERSION_TABLE):
        command.stamp(config(connection), revision)
    command.upgrade(config(connection), "head")


def config(connection: sa.Connection) -> "Config":
    """Build Alembic's configuration for these revisions and a connection."""
    from alembic.config import Config

    configuration = Config(attributes={"connection": connection})
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return configuration


def leased_until(connection: sa.Connection) -> float:
    """Give the time when the workers' last lease ends; 0.0: there never was one."""
    items, inspector = schema.items.c, sa.inspect(connection)
    ends = [sa.select(sa.func.max(items.lease_until)).where(items.state == schema.State.LEASED)]
    ends.append(sa.select(sa.func.max(schema.locks.c.until)))
    if inspector.has_table(schema.workers.name):
        ends.append(sa.select(sa.func.max(schema.workers.c.lease_until)))
    return max(connection.scalar(end) or 0.0 for end in ends)
