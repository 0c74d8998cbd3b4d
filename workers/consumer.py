"""Celery's consumer, which sends the events of tasks several at a time.

    app.conf.worker_consumer = "workers.consumer:Consumer"

Celery sends an event as soon as its event loop is free. To publish one takes longer than to make it.
"""

from typing import Any

from celery.worker import consumer

from shared.redis_transport import Coalesced

EVERY = 0.2  # seconds


class Consumer(consumer.Consumer):
    """A consumer whose events wait a moment for others."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._flushing = Coalesced(self._flush_events, EVERY)

    def on_send_event_buffered(self) -> None:
        """Send the events soon."""
        self._flushing.request()

    def shutdown(self) -> None:
        """Send the events of the last tasks, too."""
        self._flush_events()
        super().shutdown()
