"""Closed-world puzzles that prove their own answers: one subject a file, `types` the shapes they share."""
