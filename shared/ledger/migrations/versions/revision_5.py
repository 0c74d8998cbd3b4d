"""Revision 5: prompt files, the queues of workers, the rows of input files, thinking, and forced letters.

prompts ("5f2c...", "en", "head = ..."), workers (..., queues ["infer", "infer.qwen"]),
source_rows ("round1", 41, '{"layout": {"format": "agieval"}, "rows": [...], "skipped": []}')
votes (..., thinking "先试 A。", letter_source "forced"), rounds (..., style "chat")
"""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Add the tables and the columns."""
    op.create_table(
        "prompts",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "source_rows",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.name"]),
        sa.PrimaryKeyConstraint("run", "position"),
    )
    op.add_column("workers", sa.Column("queues", sa.JSON()))
    op.add_column("votes", sa.Column("thinking", sa.Text()))
    op.add_column("votes", sa.Column("letter_source", sa.String()))
    op.add_column("rounds", sa.Column("style", sa.String()))
    op.execute("UPDATE facts SET value = '5' WHERE name = 'schema'")
