"""Enqueueing: check data, record runs, send messages."""
