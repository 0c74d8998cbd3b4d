"""The queues' workers: one module per queue, then what they stand on."""
