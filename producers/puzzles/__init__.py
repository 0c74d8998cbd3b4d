"""Closed-world puzzles with verified answers: one module a family; `types` has the shared types."""
