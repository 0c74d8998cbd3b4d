"""The Prometheus exporter: metrics of ledger and broker, which no worker knows alone.

    votequeue_queue_items{queue="infer",state="pending"} 88.0

One thread reads ledger and broker at intervals; a scrape gets what was read last, and never waits for them.
"""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared import broker, metrics_server, model_store, settings
from shared.errors import ServiceUnreachable, UserError
from shared.ledger import calls, leases, models, outbox, progress
from shared.ledger.schema import OPEN, Control

log = logging.getLogger(__name__)
EVERY = 10.0  # seconds between two reads
PAUSE = 50  # pause after a read, in durations of it: reading a large ledger takes at most 2 % of the time
PATIENCE = 30.0  # seconds that the next read may be late before its metrics are withdrawn


class Exporter(Collector):
    """Collects what was read last."""

    def __init__(self) -> None:
        self._metrics: list[Metric] = []
        self._valid_until = 0.0

    def refresh(self) -> float:
        """Read ledger and broker; give the seconds until the next read."""
        begun = time.monotonic()
        try:
            self._metrics = list(_read())
        # Whatever it is, the exporter must live to say so.
        except Exception as error:
            log.warning("the ledger cannot be read: %s", error, exc_info=not isinstance(error, UserError))
            self._metrics = []
        ended = time.monotonic()
        wait = max(EVERY, PAUSE * (ended - begun))
        self._valid_until = ended + wait + PATIENCE
        return wait

    def collect(self) -> Iterator[Metric]:
        """Give the metrics; only `votequeue_up` while the ledger cannot be read."""
        metrics = self._metrics if time.monotonic() < self._valid_until else []
        yield GaugeMetricFamily("votequeue_up", "Whether the ledger could be read", bool(metrics))
        yield from metrics


def _read() -> Iterator[Metric]:
    run_states, workers = progress.overview(), leases.count_consumers()
    later = progress.put_off()
    states: Counter[tuple[str, ...]] = Counter()
    due: Counter[str] = Counter()
    for run, counts in run_states:
        states.update({(run.queue, state): count for state, count in counts.items()})
        if run.control == Control.ACTIVE:
            due[run.queue] += sum(counts[state] for state in OPEN) - later.get(run.name, 0)
    yield _gauge("queue_items", "Items of all runs", ("queue", "state"), states.items())
    names = sorted({run.queue for run, _ in run_states} | set(workers))
    yield _by_queue("due_items", "Items to work on now", {name: due[name] for name in names})
    yield _by_queue("workers", "Live workers that consume the queue", {name: workers[name] for name in names})
    ages = outbox.oldest_messages()
    yield _by_queue("oldest_message_age_seconds", "Age of the oldest message that nobody has taken", ages)
    messages = _messages(names)
    yield GaugeMetricFamily("votequeue_broker_up", "Whether the broker answers", messages is not None)
    yield _by_queue("messages", "Messages that no worker has taken", messages or {})
    # Those of all runs would become more for ever.
    opened = [(run, counts) for run, counts in run_states if any(counts[state] for state in OPEN)]
    of_runs = (((run.name, run.queue, state), n) for run, counts in opened for state, n in counts.items())
    yield _gauge("run_items", "Items of an open run", ("run", "queue", "state"), of_runs)
    currency, of_all = settings.load().currency, calls.every_spending()
    spending = [((run.name, currency), of_all[run.name]) for run, _ in opened if run.name in of_all]
    spent = ((labels, money.spent) for labels, money in spending)
    budgets = ((labels, money.budget) for labels, money in spending if money.budget is not None)
    yield _gauge("run_spent", "What an open run has spent on calls", ("run", "currency"), spent)
    yield _gauge("run_budget", "What an open run may spend", ("run", "currency"), budgets)
    paused = (((pause.service,), 1) for pause in calls.pauses())
    yield _gauge("service_paused", "1 for each service that must not be called", ("service",), paused)
    used = (((kind, model.name), 1) for kind in model_store.KINDS if (model := models.in_use(kind)))
    yield _gauge("model_in_use_info", "The trained models in use", ("kind", "model"), used)


def _messages(queues: Iterable[str]) -> dict[str, int] | None:
    try:
        return {queue: broker.waiting(queue) for queue in queues}
    except ServiceUnreachable as error:
        log.warning("%s", error)
        return None


def _by_queue(name: str, description: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    series = (((queue,), value) for queue, value in values.items())
    return _gauge(f"queue_{name}", description, ("queue",), series)


def _gauge(
    name: str, description: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"votequeue_{name}", description, labels=labels)
    for labelled, value in series:
        family.add_metric(labelled, value)
    return family


def serve() -> None:
    """Serve the metrics until SIGTERM or Ctrl-C. Raises as `metrics_server.serve` does."""
    options, stopping = settings.load(), threading.Event()
    exporter, registry = Exporter(), CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(exporter)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    metrics_server.serve(options.metrics_host, options.metrics_port or metrics_server.PORT, registry)
    while not stopping.is_set():
        stopping.wait(exporter.refresh())
