"""The kill harness: the product's own workers, killed, stopped and cut off while they answer questions."""
