"""Revision 5: prompt files, and the queues of workers.

prompts ("5f2c...", "en", "head = ..."), workers (..., queues ["infer", "infer.qwen"])
"""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "prompts",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.add_column("workers", sa.Column("queues", sa.JSON()))
    op.execute("UPDATE facts SET value = '5' WHERE name = 'schema'")
