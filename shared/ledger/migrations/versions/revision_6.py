"""Revision 6: rounds that were stopped early.

rounds (..., unfinished 2, aborted_tokens 310)
"""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the columns; all earlier rounds are whole."""
    op.add_column("rounds", sa.Column("unfinished", sa.Integer()))
    op.add_column("rounds", sa.Column("aborted_tokens", sa.Integer()))
    op.execute("UPDATE facts SET value = '6' WHERE name = 'schema'")
