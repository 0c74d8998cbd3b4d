"""What Alembic runs for every command: the connection is the caller's, and so is its transaction."""

import logging

from alembic import context

from shared.ledger import schema

# The caller says in one line what was upgraded.
logging.getLogger("alembic").setLevel(logging.WARNING)
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
