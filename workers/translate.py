"""The `translate` queue: makes new entries from old ones, one entry (or one question of it) a message.

    celery -A workers.translate worker -Q translate --pool threads -c 16

A task waits for its turn at the service, so the queue holds what is not being worked on.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shared import prompts, settings
from shared.broker import app
from shared.dataset import Entry
from shared.errors import Refused
from shared.jobs import Translate
from shared.ledger import runs
from shared.ledger.claims import Claim
from shared.options import Augmentation
from workers import lifecycle, task_runner, wiring
from workers.augment import synonyms
from workers.augment.backtranslation import BackTranslation
from workers.augment.entry_builder import Augmented
from workers.augment.packing import Carrier
from workers.augment.translation_memory import Memory
from workers.augment.variants import Variants
from workers.task_runner import ItemResult

_VERSIONS = {"back-translation": prompts.TRANSLATING_VERSION, "variant": prompts.VARYING_VERSION}
_Kept = TypeVar("_Kept")


class Augmenting:
    """What one worker process makes entries with: its gateway, its memory, its clients, the word to stop."""

    def __init__(self) -> None:
        loaded = settings.load()
        self._stopping = threading.Event()
        self._gateway = wiring.gateway(loaded, self._stopping)
        self._memory = Memory(self._gateway, lifecycle.WORKER, loaded, self._stopping)
        self._back_translation = BackTranslation(self._memory, self._carrier)
        self._kept: dict[tuple[object, ...], object] = {}
        self._building = threading.Lock()

    def stop(self) -> None:
        """Wait for nothing any more: what waits is given back."""
        self._stopping.set()

    def close(self) -> None:
        """Make no more calls."""
        self._memory.close()

    def augment(self, claim: Claim) -> ItemResult:
        """Make a new entry as its run wants it.

        Raises:
            Refused: none can be made, for the reasons given.
            Held, OverBudget, Interrupted, Unavailable: a call was not made, or failed.
        """
        options = _options(claim.job.run)
        augmented = self._make(claim, runs.load_entry(claim.job.run, claim.entry), options)
        return ItemResult(augmented.value, augmented.line)

    def _make(self, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
        match options.strategy:
            case "back-translation":
                return self._back_translation.rewrite(claim.job.run, entry, options)
            case "synonym":
                return synonyms.replace(entry, options)
            case "variant":
                return self._variants(options).write(claim, entry, options)

    def _carrier(self, provider: str, model: str, prompted: bool) -> Carrier:
        def build() -> Carrier:
            return Carrier(wiring.translator(provider, model, settings.load()), prompted=prompted)

        return self._once((Carrier, provider, model, prompted), build)

    def _variants(self, options: Augmentation) -> Variants:
        provider, model = options.provider, options.model
        if not (provider and model):
            raise Refused("the run does not say which chat model writes: enqueue it again")

        def build() -> Variants:
            loaded = settings.load()
            chat = wiring.chat_model(provider, model, loaded)
            return Variants(self._gateway, chat, lambda: wiring.embedder(loaded))

        return self._once((Variants, provider, model), build)

    def _once(self, key: tuple[object, ...], build: Callable[[], _Kept]) -> _Kept:
        # All tasks of a process share a model's client, and with it its connections.
        with self._building:
            if key not in self._kept:
                self._kept[key] = build()
            return cast(_Kept, self._kept[key])


@functools.lru_cache(maxsize=64)
def _options(run: str) -> Augmentation:
    options = task_runner.options(run, Augmentation)
    ours = _VERSIONS.get(options.strategy)
    if options.prompt not in (None, ours):
        raise Refused(f"the run wants prompt {options.prompt}, this votequeue has {ours}: enqueue it again")
    return options


@functools.cache
def service() -> Augmenting:
    """Give this process's one service."""
    return Augmenting()


@app.task(name=Translate.queue)
def translate(**message: Any) -> str:
    """Make the new entry that a message asks for; give what became of it in words."""
    return task_runner.run(Translate.model_validate(message), service().augment)


def _start() -> None:
    # Built before the first message, so that no two tasks build it at once.
    service()


lifecycle.attach(start=_start, stopping=lambda: service().stop(), stopped=lambda: service().close())
