"""The life of a worker process: start, heartbeats, reconciliation, shutdown.

    lifecycle.attach(start=service.start, stopping=service.release, stopped=service.close)

Only this module uses Celery's signals.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
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
    ``swept`` runs after every sweep of the reconcile loop, with its result, once ``start`` has returned.
    """
    pulses: list[Periodic] = []
    releases: list[threading.Thread] = []
    started = threading.Event()
    states: list[worker_state.State] = ["loading"]

    def tell() -> None:
        worker_state.write(settings.load().home, states[-1])

    def on_logging(**_: Any) -> None:
        logging_setup.configure(settings.load().log_level)

    def on_start(sender: Any, **_: Any) -> None:
        # Celery configures logging only after this signal, and the loading of models logs.
        on_logging()
        # With its own thread: it says that the process runs, also while the ledger does not answer.
        pulses.append(Periodic("state", settings.load().heartbeat, tell))
        pulses[0].start()
        try:
            # Before the models are loaded, which a scrape can then tell.
            if (options := settings.load()).metrics_port:
                metrics_server.serve(options.metrics_host, options.metrics_port, prometheus_client.REGISTRY)
            retries.until_done(engine.ready)
            retries.until_done(broker.ping)
            # Before the models are loaded, which takes time: items of dead workers are released meanwhile.
            pulses.extend(_pulses(sender, lambda result: swept(result) if started.is_set() else None))
            for pulse in pulses[1:]:
                pulse.start()
            start()
            started.set()
            READY.set(1)
            states.append("ready")
        except UserError as error:
            # Celery swallows exceptions of signal handlers; only an exit ends the worker.
            log.error("%s", error)  # noqa: TRY400  (a sentence for the user, no traceback)
            sys.exit(1)
        except Exception:
            log.exception("the worker cannot start")
            sys.exit(1)

    def on_stopping(**_: Any) -> None:
        states.append("stopping")

        def stop() -> None:
            READY.set(0)
            stopping()

        # This runs inside a signal handler, whose thread may hold the ledger's locks.
        releases.append(threading.Thread(target=stop, name="stopping", daemon=True))
        releases[-1].start()

    def on_stopped(**_: Any) -> None:
        # The tasks end before the ledger has all their items back.
        for release in releases:
            release.join()
        for pulse in pulses:
            pulse.stop()
        stopped()
        # All items have been returned: no worker needs to look for this process.
        with contextlib.suppress(UserError):
            leases.retire(WORKER)
        worker_state.write(settings.load().home, None)

    broker.app.conf.worker_consumer = "workers.consumer:Consumer"
    signals.setup_logging.connect(on_logging, weak=False)
    signals.worker_init.connect(on_start, weak=False)
    signals.worker_shutting_down.connect(on_stopping, weak=False)
    signals.worker_shutdown.connect(on_stopped, weak=False)


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
        # After a suspend of the machine, our own lease looks expired: extend it before the sweep.
        beat()
        swept(reconcile.sweep(WORKER, options, deaths.look(), worker.hostname))

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
