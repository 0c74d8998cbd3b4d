"""Revision 6: voices. Programs as votes, and a record of each voice's prompt in a round.

votes (..., voice "program", outcome "result", output "3\\n", detail NULL, first_text NULL, ...)
rounds ("round1", 41, 1, "program", ...)
"""

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
    rounds = sa.Table("rounds", sa.MetaData(), autoload_with=op.get_bind())
    columns = [
        sa.Column(column.name, column.type, nullable=column.nullable, autoincrement=False)
        for column in rounds.c
    ]
    voice = sa.Column("voice", sa.String(), nullable=False)
    key = sa.PrimaryKeyConstraint("run", "number", "attempt", "voice")
    by_voice = op.create_table("rounds_by_voice", *columns, voice, key)
    earlier = sa.select(*rounds.c, sa.literal("reasoning"))
    op.execute(by_voice.insert().from_select([*rounds.c.keys(), "voice"], earlier))
    op.drop_table("rounds")
    op.rename_table("rounds_by_voice", "rounds")
    op.execute("UPDATE facts SET value = '6' WHERE name = 'schema'")
