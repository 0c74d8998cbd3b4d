"""Revision 3: the provenance of each vote.

votes (..., finish_reason "stop", mean_logprob -0.21), rounds (..., prompt "5f2c...", examples [3, 17])
"""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add the columns and tables; older votes have no data in them."""
    op.add_column("votes", sa.Column("finish_reason", sa.String()))
    op.add_column("votes", sa.Column("mean_logprob", sa.Float()))
    op.create_table(
        "rounds",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generator", sa.String()),
        sa.Column("adapter", sa.String()),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer()),
        sa.Column("examples", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("sampled_at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float()),
        sa.PrimaryKeyConstraint("run", "number", "attempt"),
    )
    op.create_table(
        "generators",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("weights", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute("UPDATE facts SET value = '3' WHERE name = 'schema'")
