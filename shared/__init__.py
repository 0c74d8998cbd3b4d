"""The treaty: what a producer and a worker both need."""
