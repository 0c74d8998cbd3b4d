"""The `translate` queue: makes new entries from old ones, one entry (or one question of it) a message.

    celery -A workers.translate worker -Q translate --pool threads -c 16

A task waits until the limits allow its calls, so waiting entries stay in the queue.
"""

import functools
import pkgutil
import threading
from typing import Any

from shared import settings
from shared.broker import app
from shared.jobs import Translate
from shared.ledger import runs
from shared.ledger.claims import Claim
from shared.options import Augmentation
from shared.strategies import STRATEGIES
from workers import lifecycle, task_runner, wiring
from workers.augment.deduplication import NearCopies
from workers.augment.entry_builder import Augmented
from workers.augment.services import Services
from workers.augment.translation_memory import Memory
from workers.outcomes import ItemTask
from workers.task_runner import ItemResult


class Augmenting:
    """The service of one worker process: its dependencies and its stop event."""

    def __init__(self) -> None:
        loaded = settings.load()
        self._stopping = threading.Event()
        gateway = wiring.gateway(loaded, self._stopping)
        self._memory = Memory(gateway, lifecycle.WORKER, loaded, self._stopping)
        self._services = Services(
            gateway,
            self._memory,
            NearCopies(lambda: wiring.embedder(settings.load())),
            wiring.once(wiring.chat_model),
            wiring.once(wiring.translator),
        )

    def stop(self) -> None:
        """Release the entries that wait for a call."""
        self._stopping.set()

    def close(self) -> None:
        """Make no more calls."""
        self._memory.close()

    def augment(self, claim: Claim) -> ItemResult:
        """Make a new entry by the options of its run.

        Raises:
            Refused: none can be made; the message has the reasons.
            Held, OverBudget, Interrupted, Unavailable: a call was not made, or failed.
        """
        options = _options(claim.job.run)
        entry = runs.load_entry(claim.job.run, claim.entry)
        make = pkgutil.resolve_name(STRATEGIES[options.strategy].make)
        augmented: Augmented = make(self._services, claim, entry, options)
        return ItemResult(augmented.value, augmented.line)


@functools.lru_cache(maxsize=64)
def _options(run: str) -> Augmentation:
    options = task_runner.options(run, Augmentation)
    task_runner.require_prompt(options.prompt, STRATEGIES[options.strategy].prompt)
    return options


@functools.cache
def service() -> Augmenting:
    """Give this process's one service."""
    return Augmenting()


@app.task(name=Translate.queue, base=ItemTask)
def translate(**message: Any) -> str:
    """Make the new entry that a message requests; return the outcome as a sentence."""
    return task_runner.run(Translate.model_validate(message), service().augment)


def _start() -> None:
    # Built before the first message, so that concurrent tasks do not build it twice.
    service()


lifecycle.attach(start=_start, stopping=lambda: service().stop(), stopped=lambda: service().close())
