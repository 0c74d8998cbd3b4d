"""The life of a worker process: start, heartbeats, reconciliation, shutdown.

    lifecycle.attach(start=service.start, stopping=service.release, stopped=service.close)

Celery's signals are named here and nowhere else.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from celery import signals

from shared import broker, settings
from shared.errors import UserError
from shared.ledger import engine, leases
from workers import logging_setup, reconcile, retries, sqlite_watchdog, wiring
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
    """Hook a queue's service into the worker that imports it.

    ``start`` runs before the first message is taken, so that no question is claimed by a worker that cannot
    work yet; ``stopping`` at once when the worker is told to stop, ``stopped`` when its tasks are done,
    ``swept`` after every sweep of the reconcile loop, with what it found, once ``start`` is through.
    """
    pulses: list[Periodic] = []
    started = threading.Event()

    def on_logging(**_: Any) -> None:
        logging_setup.configure(settings.load().log_level)

    def on_start(**_: Any) -> None:
        # Celery sets logging up only after this signal, and loading models has things to say.
        on_logging()
        try:
            retries.until_done(engine.ready)
            retries.until_done(broker.ping)
            # First, since loading takes its time: what a dead worker left is free again meanwhile.
            pulses.extend(_pulses(lambda found: swept(found) if started.is_set() else None))
            for pulse in pulses:
                pulse.start()
            start()
            started.set()
        except UserError as error:
            # Celery swallows what its signal handlers raise; only an exit ends the worker.
            log.error("%s", error)  # noqa: TRY400  (a sentence for a person, no traceback)
            sys.exit(1)
        except Exception:
            log.exception("the worker cannot start")
            sys.exit(1)

    def on_stopping(**_: Any) -> None:
        # This runs inside a signal handler, where the ledger's locks may be held by the very same thread.
        threading.Thread(target=stopping, name="stopping", daemon=True).start()

    def on_stopped(**_: Any) -> None:
        for pulse in pulses:
            pulse.stop()
        stopped()
        # What was given back is all there was: nobody need look for this process.
        with contextlib.suppress(UserError):
            leases.retire(WORKER)

    signals.setup_logging.connect(on_logging, weak=False)
    signals.worker_init.connect(on_start, weak=False)
    signals.worker_shutting_down.connect(on_stopping, weak=False)
    signals.worker_shutdown.connect(on_stopped, weak=False)


def _pulses(swept: Callable[[Swept], None]) -> list[Periodic]:
    loaded = settings.load()
    session = leases.Session() if engine.engine().dialect.name == "postgresql" else None
    deaths, beating = Liveness(session), threading.Lock()

    def beat() -> None:
        # Two pulses do this, and a session is for one thread at a time.
        with beating:
            key = session.keep() if session else None
            leases.heartbeat(WORKER, loaded.lease, leases.own_process(), key)

    def sweep() -> None:
        # After a sleep of the whole machine, our own leases look expired, and we are the first to look.
        beat()
        swept(reconcile.sweep(WORKER, loaded, deaths.look()))

    def clear() -> None:
        reconcile.clear_unacknowledged(WORKER, loaded)

    pulses = [
        Periodic("heartbeat", loaded.heartbeat, beat),
        Periodic("reconcile", loaded.sweep, sweep),
        Periodic("unacknowledged", loaded.lease, clear),
    ]
    # Not within the sweep, which waits for the lock itself.
    writer = sqlite_watchdog.watch()
    return pulses if writer is None else [*pulses, Periodic("write lock", loaded.sweep, writer.look)]
