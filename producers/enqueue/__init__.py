"""Work into the queues: data checked, runs recorded, messages sent."""
