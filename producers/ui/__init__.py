"""The live pages of all runs, read-only: `votequeue ui`."""
