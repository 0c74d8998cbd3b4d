"""Revision 9: vote budgets.

vote_spending ("round1", questions 1328, begun 96, reserved 301); attempts (..., reserved 3)
"""

import sqlalchemy as sa
from alembic import op

revision = "9"
down_revision = "8"


def upgrade() -> None:
    """Add the table and the column; earlier runs have no vote budget."""
    op.create_table(
        "vote_spending",
        sa.Column("run", sa.String(), primary_key=True),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.name"]),
    )
    op.add_column("attempts", sa.Column("reserved", sa.Integer()))
    op.execute("UPDATE facts SET value = '9' WHERE name = 'schema'")
