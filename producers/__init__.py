"""The command line: puts work in, takes results out."""
