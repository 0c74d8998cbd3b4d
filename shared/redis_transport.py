"""kombu's Redis transport, changed so that workers survive the loss of the broker.

    TRANSPORT_ALIASES["redis"] = "shared.redis_transport:Transport"

When a connection is lost, Celery drops kombu's transport, and then closes those channels that could not be
closed before. Such a channel tries to give its unacknowledged messages back, finds no transport
(`AttributeError: ... 'hostname'`, as in celery/kombu#582), and Celery exits. Tasks that end later acknowledge
on it too. Here nothing is done on a lost channel: the ledger is the record, and a message that comes again
finds nothing to do.

A queue has two lists: the plain one, and one of messages with priority `FIRST`, which workers empty first.
"""

import logging
from typing import Any

from kombu.transport import redis

log = logging.getLogger(__name__)
FIRST = 5  # kombu's priorities are 0 to 9


def lists(queue: str) -> tuple[str, str]:
    """Name the two lists of a queue as kombu does, in the order in which workers empty them."""
    return f"{queue}{Channel.sep}{FIRST}", queue


class QoS(redis.QoS):
    """The unacknowledged messages of a channel."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, if the connection still stands."""
        if self._is_lost():
            return
        try:
            super().ack(delivery_tag)
        except self.channel.connection_errors as error:
            # The consumer notices the loss by itself, and opens another connection.
            log.debug("message %s is not acknowledged: %s", delivery_tag, error)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give all unacknowledged messages back, if the connection still stands."""
        if self._is_lost():
            self._on_collect.cancel()
        else:
            super().restore_unacked_once(stderr)

    def _is_lost(self) -> bool:
        return self.channel.connection is None or self.channel.connection.client is None


class Channel(redis.Channel):
    """A channel that can be closed after its connection was lost."""

    QoS = QoS

    # In the order in which lists are read. kombu wants them ascending, and gives the plain name to 0.
    priority_steps = (FIRST, 0)

    def priority(self, n: int) -> int:
        """Tell which list a message of some priority goes to."""
        return FIRST if n >= FIRST else 0


class Transport(redis.Transport):
    """The Redis transport with these channels."""

    Channel = Channel
