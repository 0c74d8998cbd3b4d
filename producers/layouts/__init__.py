"""Layouts of data sets: one module a benchmark, and the registry that lists them."""
