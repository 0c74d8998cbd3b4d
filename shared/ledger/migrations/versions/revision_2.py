"""Revision 2: worker processes, begun claims, input files, workers' progress, shares of token bounds.

items (..., fence 3, attempt 1, ...)  +  plays ("round1", 41, fence 3, begun_at 1795340412.5, death None)
"""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the tables and indexes; commits between 74522df and this revision created some of them."""
    op.create_table(
        "plays",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("begun_at", sa.Float(), nullable=False),
        sa.Column("death", sa.String()),
        sa.PrimaryKeyConstraint("run", "number", "fence"),
        if_not_exists=True,
    )
    op.create_table(
        "usage_seen",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("replies", sa.Integer(), nullable=False),
        sa.Column("input_share", sa.Float(), nullable=False),
        sa.Column("output_share", sa.Float(), nullable=False),
        sa.Column("characters_share", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("service"),
        if_not_exists=True,
    )
    op.create_table(
        "worker_progress",
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("votes_in_play", sa.Integer(), nullable=False),
        sa.Column("votes_under_way", sa.Integer(), nullable=False),
        sa.Column("votes_not_begun", sa.Integer(), nullable=False),
        sa.Column("tokens_under_way", sa.Integer(), nullable=False),
        sa.Column("tokens_per_second", sa.Float(), nullable=False),
        sa.Column("told_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "run"),
        if_not_exists=True,
    )
    op.create_index("worker_progress_by_run", "worker_progress", ["run"], if_not_exists=True)
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("place", sa.String()),
        sa.Column("pid", sa.Integer()),
        sa.Column("started", sa.BigInteger()),
        sa.Column("session", sa.Integer()),
        sa.PrimaryKeyConstraint("name"),
        if_not_exists=True,
    )
    op.create_table(
        "inputs",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.name"]),
        sa.PrimaryKeyConstraint("run", "path"),
        if_not_exists=True,
    )
    op.create_index(
        "items_claimed_before",
        "items",
        ["run", "number"],
        sqlite_where=sa.text("holder IS NULL AND settled_at IS NULL AND fence > attempt"),
        postgresql_where=sa.text("holder IS NULL AND settled_at IS NULL AND fence > attempt"),
        if_not_exists=True,
    )
    op.create_index(
        "items_pending",
        "items",
        ["run", "sent_at", "not_before", "number"],
        sqlite_where=sa.text("holder IS NULL AND settled_at IS NULL"),
        postgresql_where=sa.text("holder IS NULL AND settled_at IS NULL"),
        if_not_exists=True,
    )
    # Programs of revision 1 read this, and refuse the ledger.
    op.execute("UPDATE facts SET value = '2' WHERE name = 'schema'")
