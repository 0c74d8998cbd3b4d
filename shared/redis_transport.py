"""kombu's Redis transport, changed so that workers survive the loss of the broker.

    TRANSPORT_ALIASES["redis"] = "shared.redis_transport:Transport"

When a connection is lost, Celery drops kombu's transport, and then closes those channels that could not be
closed before. Such a channel tries to give its unacknowledged messages back, finds no transport
(`AttributeError: ... 'hostname'`, as in celery/kombu#582), and Celery exits. Tasks that end later acknowledge
on it too. Here nothing is done on a lost channel: the ledger is the record, and a message that comes again
finds nothing to do.

A queue has two lists: the plain one, and one of messages with priority `FIRST`, which workers empty first.

In a worker, messages are taken and acknowledged several at a time: kombu's own commands for each message, and
its new client for each command, take more time than the rest of Celery.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)
FIRST = 5  # kombu's priorities are 0 to 9


def lists(queue: str) -> tuple[str, str]:
    """Name the two lists of a queue as kombu does, in the order in which workers empty them."""
    return f"{queue}{Channel.sep}{FIRST}", queue


class Clock:
    """The broker's clock, by which messages are dated: those of the machines may differ by minutes."""

    def __init__(self) -> None:
        self._ahead, self._due = 0.0, 0.0

    def now(self, client: Any) -> float:
        """Give the broker's time in seconds since the epoch; ask for it at most every 10 s."""
        if (here := time.monotonic()) >= self._due:
            seconds, microseconds = client.time()
            self._ahead, self._due = seconds + microseconds / 1e6 - here, here + 10
        return here + self._ahead


CLOCK = Clock()


class Coalesced:
    """Calls ``action`` in the thread of Celery's event loop, once for all requests within some seconds."""

    def __init__(self, action: Callable[[], object], seconds: float = 0.05) -> None:
        self._action = action
        self._seconds = seconds
        self._due = 0.0

    def request(self) -> bool:
        """Request a call from any thread; false: this process has no event loop."""
        hub = get_event_loop()
        if hub is None:
            return False
        # By time, not by a flag: a loop that is reset forgets what is to come.
        if (now := time.monotonic()) >= self._due:
            self._due = now + self._seconds
            hub.call_soon(hub.call_later, self._seconds, self._action)
        return True


class QoS(redis.QoS):
    """The unacknowledged messages of a channel."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._recorded: set[str] = set()
        self._acknowledged: deque[str] = deque()
        self._acknowledging = Coalesced(self._send_acknowledged)

    @property
    def visibility_timeout(self) -> float:
        """Give the seconds after which messages come again; kombu compares with this machine's clock."""
        with self.channel.conn_or_acquire() as client:
            return float(self.channel.visibility_timeout) + time.time() - CLOCK.now(client)

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message is being delivered, and record it in the broker unless `record` has done so."""
        if delivery_tag in self._recorded:
            self._recorded.remove(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def record(self, taken: dict[str, str]) -> None:
        """Record messages in the broker as unacknowledged, by their tags."""
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zadd(self.unacked_index_key, dict.fromkeys(taken, CLOCK.now(client)))
            pipe.hset(self.unacked_key, mapping=taken)
            pipe.execute()
        self._recorded.update(taken)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, if the connection still stands."""
        self._acknowledged.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)
        if not self._acknowledging.request():
            self._send_acknowledged()

    def _send_acknowledged(self) -> None:
        tags = [self._acknowledged.popleft() for _ in range(len(self._acknowledged))]
        if not tags or self._is_lost():
            return
        try:
            with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()
        except self.channel.connection_errors as error:
            # The consumer notices the loss by itself, and opens another connection.
            log.debug("%d messages are not acknowledged: %s", len(tags), error)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give all unacknowledged messages back, if the connection still stands."""
        if self._is_lost():
            self._on_collect.cancel()
        else:
            self._send_acknowledged()
            super().restore_unacked_once(stderr)

    def _is_lost(self) -> bool:
        return self.channel.connection is None or self.channel.connection.client is None


class Channel(redis.Channel):
    """A channel that can be closed after its connection was lost, and that takes several messages at once."""

    QoS = QoS

    # In the order in which lists are read. kombu wants them ascending, and gives the plain name to 0.
    priority_steps = (FIRST, 0)
    _common: Any = None

    def priority(self, n: int) -> int:
        """Tell which list a message of some priority goes to."""
        return FIRST if n >= FIRST else 0

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Give the client of all commands; kombu makes a new one for each, which takes longer than most."""
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._common is None or self._common.connection_pool is not self.pool:
            self._common = super()._create_client()
        return self._common

    def _brpop_read(self, **options: Any) -> bool:
        """Deliver the message that has come, and as many of those behind it as there is room for."""
        connection = self.client.connection
        try:
            try:
                reply = self.client.parse_response(connection, "BRPOP", **options)
            except self.connection_errors:
                connection.disconnect()  # the next iteration of the event loop connects again
                raise
            if not reply:
                raise virtual.base.Empty
            key, *texts = map(bytes_to_str, reply)
            queue = key.rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            if room := (self.qos.can_consume_max_estimate() or 1) - 1:
                with self.conn_or_acquire() as client:
                    texts += map(bytes_to_str, client.rpop(key, room) or [])
            messages = [loads(text) for text in texts]
            self.qos.record(dict(map(_unacknowledged, texts, messages)))
            for message in messages:
                self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


def _unacknowledged(text: str, message: dict[str, Any]) -> tuple[str, str]:
    """Give the tag of a message, and kombu's record of one that is not acknowledged."""
    properties = message["properties"]
    delivery = properties["delivery_info"]
    place = dumps([delivery["exchange"], delivery["routing_key"]])
    return properties["delivery_tag"], f"[{text}, {place[1:]}"


class Transport(redis.Transport):
    """The Redis transport with these channels."""

    Channel = Channel
