"""The ledger: the record of all work, in SQLite or PostgreSQL. All SQL is here."""
