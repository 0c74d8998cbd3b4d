"""Revision 4: tables and columns with the names of what they hold.

plays -> begun_claims, learned -> model_problems, steps (of, told) -> training_log (total_steps, metrics)
"""

from alembic import op

revision = "4"
down_revision = "3"

_COLUMNS = {
    "training_log": {"of": "total_steps", "told": "metrics", "told_at": "recorded_at"},
    "worker_progress": {"told_at": "recorded_at"},
}


def upgrade() -> None:
    """Rename them; the rows stay as they are."""
    op.rename_table("plays", "begun_claims")
    op.rename_table("learned", "model_problems")
    op.rename_table("steps", "training_log")
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            # Alembic would copy the table on SQLite; both databases rename a column in place.
            op.execute(f'ALTER TABLE {table} RENAME COLUMN "{old}" TO {new}')
    op.execute("UPDATE facts SET value = '4' WHERE name = 'schema'")
