"""The life of a worker process: start, heartbeats, reconciliation, shutdown.

    lifecycle.attach(start=service.start, stopping=service.release, stopped=service.close)

Only this module uses Celery's signals.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import prometheus_client
from celery import signals

from shared import broker, metrics_server, settings, worker_state
from shared.errors import UserError
from shared.ledger import engine, leases
from workers import logging_setup, reconcile, retries, scorer_monitor, sqlite_watchdog, wiring
from workers.instrumentation import READY
from workers.liveness import Liveness
from workers.periodic import Periodic
from workers.reconcile import Swept

log = logging.getLogger(__name__)
WORKER = wiring.worker_name()


def attach(
    *,
    start: Callable[[], None],
    stopping: Callable[[], None],
    stopped: Callable[[], None],
    swept: Callable[[Swept], None] = lambda _: None,
) -> None:
    """Connect a queue's service to the worker that imports it.

    ``start`` runs before the first message is taken, so that the worker claims no question before it is
    ready. ``stopping`` runs at once when the worker is told to stop, ``stopped`` when its tasks are done.
    ``swept`` runs after every sweep of the reconcile loop, with its result, once the worker takes messages.
    """
    life = _Life(start, stopping, stopped, swept)
    broker.app.conf.worker_consumer = "workers.consumer:Consumer"
    signals.setup_logging.connect(_configure_logging, weak=False)
    signals.worker_init.connect(life.on_start, weak=False)
    signals.worker_ready.connect(life.on_ready, weak=False)
    signals.worker_shutting_down.connect(life.on_stopping, weak=False)
    signals.worker_shutdown.connect(life.on_stopped, weak=False)


def _configure_logging(**_: Any) -> None:
    logging_setup.configure(settings.load().log_level)


@dataclass
class _Life:
    """A worker's state, and what runs beside its tasks; its methods receive Celery's signals."""

    start: Callable[[], None]
    stopping: Callable[[], None]
    stopped: Callable[[], None]
    swept: Callable[[Swept], None]
    state: worker_state.State = "loading"
    pulses: list[Periodic] = field(default_factory=list)
    release: threading.Thread | None = None

    def on_start(self, sender: Any, **_: Any) -> None:
        """Load what the tasks need; end the process if that fails."""
        # Celery configures logging only after this signal, and the loading of models logs.
        _configure_logging()
        # With its own thread: it says that the process runs, also while the ledger does not answer.
        self._begin(Periodic("state", settings.load().heartbeat, self._tell))
        try:
            # Before the models are loaded, which a scrape can then tell.
            if (options := settings.load()).metrics_port:
                metrics_server.serve(options.metrics_host, options.metrics_port, prometheus_client.REGISTRY)
            retries.until_done(engine.ready)
            retries.until_done(broker.ping)
            # Before the models are loaded, which takes time: items of dead workers are released meanwhile.
            self._begin(*_pulses(sender, self._on_swept))
            self.start()
        except Exception as error:
            if isinstance(error, UserError):
                log.error("%s", error)  # noqa: TRY400  (a sentence for the user, no traceback)
            else:
                log.exception("the worker cannot start")
            for pulse in self.pulses:
                pulse.stop()
            with contextlib.suppress(OSError):
                worker_state.write(settings.load().home, None)
            # Celery swallows exceptions of signal handlers; only an exit ends the worker.
            sys.exit(1)

    def on_ready(self, **_: Any) -> None:
        """Begin to take questions."""
        # Not earlier: until Celery handles SIGTERM, the signal kills the process, which leaves its claims.
        if self.state == "loading":
            READY.set(1)
            self.state = "ready"

    def on_stopping(self, **_: Any) -> None:
        """Begin to give the items back."""
        self.state = "stopping"
        if self.release is not None:  # a second signal
            return
        # This runs inside a signal handler, whose thread may hold the ledger's locks.
        self.release = threading.Thread(target=self._release, name="stopping", daemon=True)
        self.release.start()

    def on_stopped(self, **_: Any) -> None:
        """Leave nothing behind."""
        # The tasks end before the ledger has all their items back.
        if self.release is not None:
            self.release.join()
        for pulse in self.pulses:
            pulse.stop()
        self.stopped()
        # All items have been returned: no worker needs to look for this process.
        with contextlib.suppress(UserError):
            leases.retire(WORKER)
        worker_state.write(settings.load().home, None)

    def _begin(self, *pulses: Periodic) -> None:
        for pulse in pulses:
            self.pulses.append(pulse)
            pulse.start()

    def _tell(self) -> None:
        worker_state.write(settings.load().home, self.state)

    def _on_swept(self, result: Swept) -> None:
        if self.state != "loading":
            self.swept(result)

    def _release(self) -> None:
        READY.set(0)
        self.stopping()


def _pulses(worker: Any, swept: Callable[[Swept], None]) -> list[Periodic]:
    options = settings.load()
    session = leases.Session() if engine.engine().dialect.name == "postgresql" else None
    deaths, beating = Liveness(session), threading.Lock()

    def beat() -> None:
        # Two pulses call this, and a session is not thread-safe.
        with beating:
            key = session.keep() if session else None
            leases.heartbeat(WORKER, options.lease, leases.own_process(), key, broker.consumed())

    def sweep() -> None:
        behind = True
        while behind:
            # After a suspend of the machine, our own lease looks expired: extend it before the sweep.
            beat()
            result = reconcile.sweep(WORKER, options, deaths.look(), worker.hostname)
            swept(result)
            behind = result.behind

    def clear() -> None:
        reconcile.clear_unacknowledged(WORKER, options, worker.hostname)

    pulses = [
        Periodic("heartbeat", options.heartbeat, beat),
        Periodic("reconcile", options.sweep, sweep),
        Periodic("unacknowledged", options.lease, clear),
        Periodic("scorer test", options.lease, lambda: scorer_monitor.look(WORKER, options)),
    ]
    # Not within the sweep, which waits for the lock itself.
    writer = sqlite_watchdog.watch()
    return pulses if writer is None else [*pulses, Periodic("write lock", options.sweep, writer.look)]
