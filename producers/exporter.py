"""The Prometheus exporter: metrics of ledger and broker, which no worker knows alone.

    votequeue_queue_items{queue="infer",state="pending"} 88.0

One thread reads ledger and broker at intervals; a scrape gets what was read last, and never waits for them.
"""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared import broker, metrics_server, settings
from shared.errors import ServiceUnreachable, UserError
from shared.ledger.snapshots import Snapshot, Snapshots

log = logging.getLogger(__name__)
EVERY = 10.0  # seconds between two reads
PAUSE = 20  # pause after a read, in durations of it: reading a large ledger takes at most 5 % of the time
PATIENCE = 30.0  # seconds that the next read may be late before its metrics are withdrawn


class Exporter(Collector):
    """Collects what was read last; ``read`` takes a snapshot."""

    def __init__(self, read: Callable[[], Snapshot], currency: str) -> None:
        self._read, self._currency = read, currency
        # With the messages of each queue; None: the broker does not answer.
        self._last: tuple[Snapshot, Mapping[str, int] | None] | None = None
        self._valid_until = 0.0

    def refresh(self) -> float:
        """Read ledger and broker; give the seconds until the next read."""
        begun = time.monotonic()
        try:
            snapshot = self._read()
            self._last = snapshot, _messages(snapshot)
        # Whatever it is, the exporter must live to say so.
        except Exception as error:
            log.warning("cannot read: %s", error, exc_info=not isinstance(error, UserError))
            self._last = None
        ended = time.monotonic()
        wait = max(EVERY, PAUSE * (ended - begun))
        self._valid_until = ended + wait + PATIENCE
        return wait

    def collect(self) -> Iterator[Metric]:
        """Give the metrics; only `votequeue_up` while the ledger cannot be read."""
        last = self._last if time.monotonic() < self._valid_until else None
        yield GaugeMetricFamily("votequeue_up", "Whether the ledger could be read", last is not None)
        if last is not None:
            snapshot, messages = last
            yield GaugeMetricFamily("votequeue_broker_up", "Whether the broker answers", messages is not None)
            yield _gauge("queue_messages", "Messages that no worker has taken", _by_queue(messages or {}))
            yield from _queues(snapshot)
            yield from _runs(snapshot, self._currency)


def _messages(snapshot: Snapshot) -> dict[str, int] | None:
    try:
        return {queue: broker.waiting(queue) for queue in _names(snapshot)}
    except ServiceUnreachable as error:
        log.warning("%s", error)
        return None


def _names(snapshot: Snapshot) -> list[str]:
    """Name the queues that have runs, or workers."""
    return sorted({run.queue for run in snapshot.runs} | set(snapshot.workers))


def _queues(snapshot: Snapshot) -> Iterator[Metric]:
    states: Counter[tuple[str, str]] = Counter()
    ages: dict[str, float] = {}
    for run in snapshot.runs:
        for state, count in run.states.items():
            states[run.queue, state] += count
        if run.oldest_message is not None:
            ages[run.queue] = max(run.oldest_message, ages.get(run.queue, 0.0))
    workers = {queue: snapshot.workers.get(queue, 0) for queue in _names(snapshot)}
    age = "Age of the oldest message that nobody has taken"
    yield _gauge("queue_items", "Items of all runs", (("queue", "state"), states.items()))
    yield _gauge("queue_oldest_message_age_seconds", age, _by_queue(ages))
    yield _gauge("queue_workers", "Live workers that consume the queue", _by_queue(workers))
    paused = (((pause.service,), 1) for pause in snapshot.pauses)
    yield _gauge("service_paused", "1 for each service that must not be called", (("service",), paused))
    used = ((model, 1) for model in snapshot.in_use)
    yield _gauge("model_in_use_info", "The trained models in use", (("kind", "model"), used))


def _runs(snapshot: Snapshot, currency: str) -> Iterator[Metric]:
    """Give the metrics of open runs: those of all would become more for ever."""
    runs = [run for run in snapshot.runs if run.is_open]
    states = (((run.name, run.queue, state), count) for run in runs for state, count in run.states.items())
    yield _gauge("run_items", "Items of an open run", (("run", "queue", "state"), states))
    spent = (((run.name, currency), run.spent) for run in runs if run.spent is not None)
    yield _gauge("run_spent", "What an open run has spent on calls", (("run", "currency"), spent))
    budgets = (((run.name, currency), run.budget) for run in runs if run.budget is not None)
    yield _gauge("run_budget", "What an open run may spend", (("run", "currency"), budgets))


# The names of labels, and for each series their values and its own.
_Series = tuple[Sequence[str], Iterable[tuple[Sequence[str], float]]]


def _by_queue(values: Mapping[str, float]) -> _Series:
    return ("queue",), (((queue,), value) for queue, value in values.items())


def _gauge(name: str, description: str, series: _Series) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"votequeue_{name}", description, labels=series[0])
    for labels, value in series[1]:
        family.add_metric(labels, value)
    return family


def serve(port: int) -> None:
    """Serve the metrics until SIGTERM or Ctrl-C. Raises as `metrics_server.serve` does."""
    options, stopping, registry = settings.load(), threading.Event(), CollectorRegistry()
    ProcessCollector(registry=registry)
    exporter = Exporter(Snapshots().take, options.currency)
    registry.register(exporter)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    metrics_server.serve(options.metrics_host, port, registry)
    while not stopping.is_set():
        stopping.wait(exporter.refresh())
