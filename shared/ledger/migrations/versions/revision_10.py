"""Revision 10: control over runs.

runs (..., control "paused", priority 5, deadline 1795354800.0); early_votes ("round1", 41, 2, 0, ...)
"""

import sqlalchemy as sa
from alembic import op

revision = "10"
down_revision = "9"


def upgrade() -> None:
    """Add the columns and the table; earlier runs are active, and have no deadline."""
    op.add_column("runs", sa.Column("control", sa.String(), nullable=False, server_default="active"))
    op.add_column("runs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("deadline", sa.Float()))
    op.add_column("runs", sa.Column("texts_dropped_at", sa.Float()))
    op.create_table(
        "early_votes",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("fence", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("vote", sa.JSON(), nullable=False),
        sa.Column("scorer", sa.String()),
        sa.Column("sampled", sa.JSON(), nullable=False),
    )
    op.execute("UPDATE facts SET value = '10' WHERE name = 'schema'")
