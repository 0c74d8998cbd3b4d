"""Revision 7: rounds that were stopped early.

rounds (..., unfinished 2, aborted_tokens 310)
"""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    """Add the columns; all earlier rounds are whole."""
    op.add_column("rounds", sa.Column("unfinished", sa.Integer()))
    op.add_column("rounds", sa.Column("aborted_tokens", sa.Integer()))
    op.execute("UPDATE facts SET value = '7' WHERE name = 'schema'")
