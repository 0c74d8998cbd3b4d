"""Celery's consumer, which sends the events of tasks several at a time.

    app.conf.worker_consumer = "workers.consumer:Consumer"

Celery sends an event as soon as its event loop is free. To publish one takes longer than to make it.
"""

from typing import Any

from celery.worker import consumer
from kombu.asynchronous import Hub, set_event_loop

from shared.redis_transport import Coalesced

EVERY = 0.2  # seconds


class Consumer(consumer.Consumer):
    """A consumer whose events wait a moment for others."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._flushing = Coalesced(self._flush_events, EVERY)

    def register_with_event_loop(self, hub: Hub) -> None:
        """Start on a connection; when the last one was lost, kombu forgot the event loop."""
        set_event_loop(hub)
        super().register_with_event_loop(hub)

    def on_send_event_buffered(self) -> None:
        """Send the events soon."""
        if not self._flushing.request():
            self._keep_events()

    def on_close(self) -> None:
        """Keep the events when a connection is lost."""
        self._keep_events()
        super().on_close()

    def _keep_events(self) -> None:
        # Celery passes those on to the next connection that it has tried to send, but not those that wait.
        if self.event_dispatcher:
            self.event_dispatcher.flush(errors=False)

    def shutdown(self) -> None:
        """Send the events of the last tasks, too."""
        self._flush_events()
        super().shutdown()
