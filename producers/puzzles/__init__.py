"""Closed-world puzzles that prove their own answers: one subject a file, `riddle` the shapes they share."""
