"""Revision 8: solved examples with programs.

examples (..., reasoning "", answer "B", program "print(2 + 3)")
"""

import sqlalchemy as sa
from alembic import op

revision = "8"
down_revision = "7"


def upgrade() -> None:
    """Add the column; all earlier examples are reasonings."""
    op.add_column("examples", sa.Column("program", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE facts SET value = '8' WHERE name = 'schema'")
