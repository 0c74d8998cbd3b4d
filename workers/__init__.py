"""The workers: one module per queue, and the code that they share."""
