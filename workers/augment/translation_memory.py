"""The translation memory of a worker: texts are translated in batches, each only once.

    memory.translate(PendingText("back", carrier, Route("zh", "ja", "tencent", model)), ["甲高。"])
        ->  {"甲高。": "甲が高い。"}

Tasks that request translations for the same run and route within a short linger share calls. Their texts are
reserved in the ledger, packed and translated together; each task waits for its own texts only. A reservation
is a short lease, renewed while its calls are under way or wait for the limiter, so that the texts of a killed
worker are soon free.
"""

import concurrent.futures
import contextlib
import logging
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from shared.errors import Refused, Unavailable, Unreadable, VotequeueError
from shared.ledger import cache
from shared.ledger.cache import Reserved, Route
from shared.ledger.engine import Connection
from shared.settings import Settings
from workers.augment.packing import Carrier
from workers.gateway.gateway import Gateway
from workers.ports import Interrupted

log = logging.getLogger(__name__)
FIRST_POLL, LONGEST_POLL = 0.2, 2.0  # seconds between checks of texts that other workers translate, doubling
# Failed calls allowed for a pack in a round; bisection finds one bad text in a hundred in eight.
BAD_CALLS = 10


@dataclass(frozen=True)
class PendingText:
    """The run, translator and route that texts are translated for."""

    run: str
    carrier: Carrier = field(compare=False)
    route: Route


class _Batch:
    """Texts that several tasks want translated now; a result is ``None`` while another worker has the text.

    Each batch has its own ``holder``, so that batches of one process reserve separately.
    """

    def __init__(self, wanted: PendingText, holder: str) -> None:
        self.wanted, self.holder = wanted, holder
        self.results: dict[str, Future[str | None]] = {}

    def add(self, texts: Iterable[str]) -> dict[str, "Future[str | None]"]:
        return {text: self.results.setdefault(text, Future()) for text in texts}

    def settle(self, results: Mapping[str, str | None]) -> None:
        for text, result in results.items():
            self.results[text].set_result(result)

    def fail(self, texts: Iterable[str], error: BaseException) -> None:
        for text in texts:
            if not self.results[text].done():
                self.results[text].set_exception(error)

    def open(self, texts: Iterable[str]) -> list[str]:
        return [text for text in texts if not self.results[text].done()]


class Memory:
    """Translates texts for all tasks of a process."""

    def __init__(self, gateway: Gateway, worker: str, settings: Settings, stopping: threading.Event) -> None:
        self._gateway = gateway
        self._worker = worker
        self._linger, self._lease, self._beat = settings.linger, settings.lease, settings.heartbeat
        self._stopping = stopping
        self._calls = ThreadPoolExecutor(settings.calls_in_flight, "translating")
        self._gathering: dict[PendingText, _Batch] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Wait for calls under way, and start no new ones."""
        self._calls.shutdown(wait=False, cancel_futures=True)

    def translate(self, wanted: PendingText, texts: Iterable[str]) -> dict[str, str | Refused]:
        """Give each text's translation or refusal; cached translations cost nothing.

        Raises:
            Held, OverBudget, Interrupted, Unavailable: as `Gateway.translate`; finished texts are kept.
        """
        missing = list(dict.fromkeys(texts))
        done: dict[str, str | Refused] = {}
        delay = FIRST_POLL
        while missing:
            done |= cache.find_translations(missing, wanted.route)
            missing = [text for text in missing if text not in done]
            if missing:
                done |= _outcomes(self._ask(wanted, missing))
                missing = [text for text in missing if text not in done]
            if missing and self._stopping.wait(delay):
                raise Interrupted
            delay = min(2 * delay, LONGEST_POLL)
        return done

    def _ask(self, wanted: PendingText, texts: Sequence[str]) -> dict[str, "Future[str | None]"]:
        with self._lock:
            batch = self._gathering.get(wanted)
            first = batch is None
            if batch is None:
                holder = f"{self._worker}:{uuid.uuid4().hex[:8]}"
                batch = self._gathering[wanted] = _Batch(wanted, holder)
            mine = batch.add(texts)
        if first:
            # The first task of a batch works for all that join during the linger.
            self._stopping.wait(self._linger)
            with self._lock:
                del self._gathering[wanted]
            self._work(batch)
        return mine

    def _work(self, batch: _Batch) -> None:
        try:
            if self._stopping.is_set():
                raise Interrupted  # noqa: TRY301  (all waiting tasks must fail with it)
            reserved = self._reserve(batch, batch.results)
            batch.settle({**reserved.found, **dict.fromkeys(reserved.others)})
            packs = batch.wanted.carrier.pack(reserved.mine)
            buying = [self._calls.submit(self._buy, batch, pack) for pack in packs]
            while concurrent.futures.wait(buying, self._beat).not_done:
                self._renew(batch, batch.open(reserved.mine))
            for future in buying:
                future.result()
        except BaseException as error:
            batch.fail(batch.results, error)
            raise

    def _reserve(self, batch: _Batch, texts: Iterable[str]) -> Reserved:
        return cache.reserve(texts, batch.wanted.route, batch.holder, self._lease)

    def _renew(self, batch: _Batch, texts: Sequence[str]) -> None:
        # A failed renewal is retried at the next beat; at worst a text is paid for twice.
        try:
            self._reserve(batch, texts)
        except VotequeueError as error:
            log.warning("the lease of %d texts could not be renewed: %s", len(texts), error)

    def _buy(self, batch: _Batch, pack: Sequence[str]) -> None:
        packs, bad = [pack], 0
        while packs:
            texts = packs.pop()
            try:
                batch.settle(self._call(batch.wanted, texts))
            except (Refused, Unreadable) as error:
                bad += 1
                if len(texts) > 1 and bad < BAD_CALLS:
                    # One text may be the cause: bisection lets the others succeed.
                    packs += [texts[: len(texts) // 2], texts[len(texts) // 2 :]]
                    continue
                self._give_up(batch, texts, _blame(error, texts))
                if bad == BAD_CALLS:
                    remaining = [text for pack in packs for text in pack]
                    self._give_up(batch, remaining, Unavailable(f"{bad} calls failed: {error}"))
                    return
            except BaseException as error:  # noqa: BLE001  (the waiting tasks raise it)
                for rest in (texts, *packs):
                    self._give_up(batch, rest, error)
                return

    def _call(self, wanted: PendingText, texts: Sequence[str]) -> dict[str, str]:
        route = wanted.route

        def keep(connection: Connection, results: Sequence[str]) -> None:
            cache.keep_translations(connection, dict(zip(texts, results, strict=True)), route)

        results = self._gateway.translate(
            wanted.run, wanted.carrier, texts, (route.source, route.target), keep
        )
        return dict(zip(texts, results, strict=True))

    def _give_up(self, batch: _Batch, texts: Sequence[str], error: BaseException) -> None:
        # If the ledger does not answer, the lease expires.
        with contextlib.suppress(VotequeueError):
            cache.give_up(texts, batch.wanted.route, batch.holder)
        batch.fail(texts, error)


def _blame(error: Exception, texts: Sequence[str]) -> Exception:
    # The refusal of several texts does not show which of them caused it.
    if isinstance(error, Refused) and len(texts) > 1:
        return Unavailable(f"{len(texts)} texts were refused together, the cause is not known yet: {error}")
    return error


def _outcomes(results: Mapping[str, "Future[str | None]"]) -> dict[str, str | Refused]:
    concurrent.futures.wait(results.values())
    errors = {text: result.exception() for text, result in results.items()}
    for error in errors.values():
        if error is not None and not isinstance(error, Refused):
            raise error
    done: dict[str, str | Refused] = {}
    for text, result in results.items():
        refused = errors[text]
        outcome = refused if isinstance(refused, Refused) else result.result()
        if outcome is not None:
            done[text] = outcome
    return done
