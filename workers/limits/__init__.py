"""Limits that all workers of an account keep together, in the broker's Redis; one module a kind of limit."""
