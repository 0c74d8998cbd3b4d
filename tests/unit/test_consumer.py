"""When the consumer sends the events of tasks, around the loss of its connection."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from kombu.asynchronous import Hub

from shared.broker import app
from workers.consumer import Consumer


class Dispatcher:
    """Notes its flushes: whether they also send what could not be sent before."""

    def __init__(self) -> None:
        self.flushes: list[bool] = []

    def flush(self, errors: bool = True) -> None:
        self.flushes.append(errors)


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    hub, worker = Hub(), SimpleNamespace(use_eventloop=True, semaphore=None)
    consumer = Consumer(lambda _: None, app=app, hub=hub, controller=worker)
    consumer.event_dispatcher = Dispatcher()
    consumer.register_with_event_loop(hub)
    yield consumer
    hub.close()


def send_events(consumer: Consumer, count: int = 10) -> None:
    for _ in range(count):
        consumer.on_send_event_buffered()


def sent_together(consumer: Consumer) -> bool:
    """Send events while the event loop does not run; tell whether it then sends them at once."""
    before = len(consumer.event_dispatcher.flushes)
    send_events(consumer)
    assert len(consumer.event_dispatcher.flushes) == before
    for _ in range(20):  # at most one second each
        if len(consumer.event_dispatcher.flushes) > before:
            break
        consumer.hub.run_once()
    return consumer.event_dispatcher.flushes[before:] == [True]


def test_events_are_sent_together_before_and_after_a_lost_connection(consumer: Consumer) -> None:
    assert sent_together(consumer)
    consumer.hub.reset()  # as Celery does
    consumer._flushing._due = 0.0
    consumer.register_with_event_loop(consumer.hub)
    assert sent_together(consumer)


def test_events_without_a_connection_are_kept_for_the_next_one(consumer: Consumer) -> None:
    consumer.hub.reset()
    send_events(consumer, 2)
    consumer.on_close()
    assert consumer.event_dispatcher.flushes == [False, False, False]
