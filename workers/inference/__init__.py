"""Rounds of sampling: questions in batches, votes, answers."""
