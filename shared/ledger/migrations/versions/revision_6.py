"""Revision 6: voices. Programs as votes, and a record of each voice's prompt in a round.

votes (..., voice "program", outcome "result", output "3\\n", detail NULL, first_text NULL, ...)
rounds ("round1", 41, 1, "program", ...)
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the columns; all earlier votes are reasonings."""
    op.add_column("votes", sa.Column("voice", sa.String(), nullable=False, server_default="reasoning"))
    for name, kind in (
        ("outcome", sa.String()),
        ("output", sa.Text()),
        ("detail", sa.Text()),
        ("first_text", sa.Text()),
        ("first_outcome", sa.Text()),
    ):
        op.add_column("votes", sa.Column(name, kind))
    # SQLite cannot change a primary key in place.
    columns: list[sa.Column[Any]] = [
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
        sa.Column("style", sa.String()),
    ]
    names = [column.name for column in columns]
    rounds = sa.table("rounds", *(sa.column(name) for name in names))
    voice = sa.Column("voice", sa.String(), nullable=False)
    key = sa.PrimaryKeyConstraint("run", "number", "attempt", "voice")
    by_voice = op.create_table("rounds_by_voice", *columns, voice, key)
    earlier = sa.select(*rounds.c, sa.literal("reasoning"))
    op.execute(by_voice.insert().from_select([*names, "voice"], earlier))
    op.drop_table("rounds")
    op.rename_table("rounds_by_voice", "rounds")
    op.execute("UPDATE facts SET value = '6' WHERE name = 'schema'")
