"""A worker's connection while its broker dies, without a worker: what Celery calls then, in its order."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis

from shared import broker, redis_transport
from shared.jobs import Infer
from tests.chaos.servers import Broker

QUEUE = next(queue for queue in broker.app.conf.task_queues if queue.name == Infer.queue)
CONTROL = Queue("control", Exchange("control", type="fanout"), auto_delete=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Broker]:
    server = Broker(tmp_path / "valkey")
    server.start(wait=True)
    yield server
    server.kill()


@pytest.fixture
def connection(server: Broker) -> Iterator[Connection]:
    with Connection(server.url, transport_options=broker.app.conf.broker_transport_options) as connection:
        yield connection


def taken(connection: Connection) -> list[Any]:
    """Take one message without acknowledging it, and wait for another: a BRPOP is under way.

    As in a worker, a second channel listens for commands.
    """
    messages: list[Any] = []
    consumer = connection.Consumer([QUEUE], callbacks=[lambda _, message: messages.append(message)])
    consumer.consume()
    connection.Consumer([CONTROL], channel=connection.channel()).consume()
    connection.Producer().publish({"item": 1}, exchange=QUEUE.exchange, routing_key=QUEUE.routing_key)
    while not messages:
        connection.drain_events(timeout=5)
    with contextlib.suppress(socket.timeout):
        connection.drain_events(timeout=0.1)
    return messages


def lose(connection: Connection) -> None:
    """Do what Celery's consumer does about a lost connection."""
    with contextlib.suppress(Exception):
        connection.collect(socket_timeout=1)
    with contextlib.suppress(*connection.connection_errors):
        connection.close()


def left(server: Broker) -> Callable[[], int]:
    import redis

    return lambda: int(redis.Redis.from_url(server.url).llen(broker.KEY_PREFIX + QUEUE.name))


def test_a_connection_whose_broker_has_died_can_be_closed(server: Broker, connection: Connection) -> None:
    taken(connection)
    server.kill()
    lose(connection)


def test_a_task_that_ends_after_its_connection_was_lost_may_acknowledge(
    server: Broker, connection: Connection
) -> None:
    [message] = taken(connection)
    server.kill()
    lose(connection)
    message.ack_log_error(None, (OperationalError,))


def test_an_acknowledgement_while_the_broker_is_away_is_no_error(
    server: Broker, connection: Connection
) -> None:
    [message] = taken(connection)
    server.kill()
    message.ack_log_error(None, (OperationalError,))


def test_messages_that_are_not_acknowledged_go_back_when_a_worker_stops(
    server: Broker, connection: Connection
) -> None:
    taken(connection)
    connection.close()
    assert left(server)() == 1


def test_messages_are_taken_together_as_many_as_there_is_room_for(
    server: Broker, connection: Connection
) -> None:
    import redis

    client = redis.Redis.from_url(server.url)
    messages: list[Any] = []
    consumer = connection.Consumer(
        [QUEUE], callbacks=[lambda _, message: messages.append(message)], prefetch_count=3
    )
    consumer.consume()
    with connection.Producer() as producer, producer.batch():
        for item in range(5):
            producer.publish({"item": item}, routing_key=QUEUE.name)
    connection.drain_events(timeout=5)
    assert [message.payload["item"] for message in messages] == [0, 1, 2]
    assert left(server)() == 2
    assert client.hlen(broker.UNACKED) == client.zcard(broker.UNACKED_INDEX) == 3
    for message in messages:
        message.ack()
    assert client.hlen(broker.UNACKED) == client.zcard(broker.UNACKED_INDEX) == 0
    connection.drain_events(timeout=5)
    assert [message.payload["item"] for message in messages] == [0, 1, 2, 3, 4]


def test_requests_within_a_moment_are_coalesced(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr(redis_transport, "get_event_loop", lambda: hub)
    calls: list[str] = []
    coalesced = redis_transport.Coalesced(lambda: calls.append("called"), 0.01)
    assert [coalesced.request() for _ in range(3)] == [True] * 3
    loop = hub.create_loop()
    while not calls:
        next(loop)
    hub.close()
    assert calls == ["called"]


def test_the_lists_of_a_queue_are_those_that_kombu_reads_in_their_order(connection: Connection) -> None:
    channel = connection.default_channel
    read = tuple(channel._q_for_pri(QUEUE.name, priority) for priority in channel.priority_steps)
    assert redis_transport.lists(QUEUE.name) == read


@pytest.mark.parametrize("ahead", [-900.0, 900.0])
def test_messages_are_dated_by_the_brokers_clock(
    ahead: float, server: Broker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    client, now = redis.Redis.from_url(server.url, decode_responses=True), time.time
    # kombu has the name `time`, too.
    for module, name in ((time, "time"), (kombu_redis, "time")):
        monkeypatch.setattr(module, name, lambda: now() + ahead)
    monkeypatch.setattr(redis_transport, "CLOCK", redis_transport.Clock())
    taken(connection)
    [(_tag, taken_at)] = client.zrange(broker.UNACKED_INDEX, 0, -1, withscores=True)
    assert abs(taken_at - now()) < 60
    [channel] = [each for each in connection.transport.channels if each.qos._recorded or each.qos._delivered]
    channel.qos.restore_visible(interval=1)
    assert client.zcard(broker.UNACKED_INDEX) == 1, "its time-out has not passed"
    client.zincrby(broker.UNACKED_INDEX, -601, _tag)
    channel.qos.restore_visible(interval=1)
    assert client.zcard(broker.UNACKED_INDEX) == 0


def test_a_connection_that_was_cut_off_is_given_up_by_the_kernel(connection: Connection) -> None:
    with connection.channel().conn_or_acquire() as client:
        ends = client.connection_pool.get_connection()._sock
        assert ends.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        assert ends.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
