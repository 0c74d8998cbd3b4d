"""Alembic's environment script; the caller provides the connection and its transaction."""

import logging

from alembic import context

from shared.ledger import schema

# The caller reports the upgrade in one line.
logging.getLogger("alembic").setLevel(logging.WARNING)
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
