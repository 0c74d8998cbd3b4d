"""Calls that packing and the memory save: `python -m tests.bench.translations DATA [-n 100]`.

The first entries of DATA are back-translated through the real gateway, ledger and memory, by a service on
this machine that gives every text back as it is, a moment later, within the limits of real ones; the rate
limiter is off. A row is a way of asking; its figures are calls, both ways, and their share of the first
row's.
"""

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared import dataset, segments, settings
from shared.dataset import Entry
from shared.errors import Refused
from shared.ledger import calls
from shared.options import Augmentation
from shared.providers import Limits
from tests.conftest import forget
from tests.fakes import FakeLimiter, FakeTranslator
from workers.augment.backtranslation import BackTranslation
from workers.augment.translation_memory import Memory
from workers.gateway.gateway import Gateway
from workers.ports import Translated

SERVICES = {
    "TextTranslateBatch: 2,000 characters, 100 texts": Limits(characters=2000, texts=100),
    "TextTranslateBatch: 5,900 characters, 100 texts": Limits(characters=5900, texts=100),
    "ChatTranslations: 2,000 characters, 1 text": Limits(characters=2000, texts=1),
    "a prompted chat model: 2,000 characters, 20 texts": Limits(characters=2000, texts=20),
}
OPTIONS = Augmentation(strategy="back-translation", provider="bench", model="echo", language="zh", pivot="ja")
Spent = tuple[int, int]  # calls and characters


class Echo(FakeTranslator):
    """Gives texts back as they are, after a moment; what is over its limits it refuses."""

    def __init__(self, limits: Limits, latency: float) -> None:
        super().__init__(limits=limits, provider="bench", model="echo")
        self._latency = latency

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Echo."""
        time.sleep(self._latency)
        return super().translate(texts, source, target)

    @property
    def spent(self) -> Spent:
        """Count what was asked so far."""
        return len(self.calls), sum(len(text) for call in self.calls for text in call.texts)


def main() -> None:
    """Count, and print a table a service."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-n", type=int, default=100, help="entries")
    parser.add_argument("--tasks", type=int, default=16, help="entries worked on at once")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds a call takes")
    chosen = parser.parse_args()
    entries = list(islice(dataset.read(chosen.data), chosen.n))
    for name, limits in SERVICES.items():
        single = one_call_a_text(entries)
        rows = {
            "one call a text": single,
            "packed, an entry a worker, no memory": forgetful(entries, limits),
            "packed, one entry after the other": measured(entries, limits, 1, 0.0)[0],
        }
        first, again = measured(entries, limits, chosen.tasks, chosen.latency)
        rows |= {f"packed, {chosen.tasks} entries at once": first, "the same once more": again}
        show(f"{len(entries)} entries, {name}", rows)


def show(title: str, rows: dict[str, Spent]) -> None:
    """Print a table, all shares against its first row."""
    table = Table("", "calls", "of the first", "characters", title=title)
    first = next(iter(rows.values()))[0]
    for way, (made, characters) in rows.items():
        table.add_row(way, str(made), f"{made / first:.1%}", str(characters))
    Console().print(table)


def one_call_a_text(entries: Sequence[Entry]) -> Spent:
    """Count the texts that have something to translate, both ways, each as often as it stands there."""
    sent = [
        text
        for entry in entries
        for text in texts(entry)
        if any(segment.text for segment in segments.split(text, "zh", None))
    ]
    return 2 * len(sent), 2 * sum(map(len, sent))


def texts(entry: Entry) -> Iterator[str]:
    """Give an entry's texts, its problem once."""
    yield entry.problem
    for question in entry.questions:
        yield from (question.question, *question.options, *filter(None, [question.reasoning]))


def forgetful(entries: Sequence[Entry], limits: Limits) -> Spent:
    """Count what entries cost that are each packed alone, and know nothing of each other."""
    spent = [measured([entry], limits, 1, 0.0)[0] for entry in entries]
    return sum(made for made, _ in spent), sum(characters for _, characters in spent)


def measured(entries: Sequence[Entry], limits: Limits, tasks: int, latency: float) -> tuple[Spent, Spent]:
    """Translate entries into an empty memory, ``tasks`` at once, and all of them again."""
    translator = Echo(limits, latency)
    with empty_ledger(), worker(translator, 0.5 if tasks > 1 else 0.001) as translating:
        spent = []
        for run in ("first", "again"):
            calls.set_budget(run, None)
            with ThreadPoolExecutor(tasks) as pool:
                list(pool.map(lambda entry, run=run: rewrite(translating, run, entry), entries))
            spent.append(translator.spent)
    first, both = spent
    return first, (both[0] - first[0], both[1] - first[1])


def rewrite(translating: BackTranslation, run: str, entry: Entry) -> None:
    """Translate an entry; that it comes back as it was is known before."""
    with contextlib.suppress(Refused):
        translating.rewrite(run, entry, OPTIONS)


@contextlib.contextmanager
def worker(translator: Echo, linger: float) -> Iterator[BackTranslation]:
    """Build what a worker process translates with."""
    loaded = settings.load().model_copy(update={"linger": linger})
    memory = Memory(Gateway(FakeLimiter()), "bench", loaded, threading.Event())
    yield BackTranslation(memory, lambda *_: translator)
    memory.close()


@contextlib.contextmanager
def empty_ledger() -> Iterator[None]:
    """Have a ledger of one's own, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VOTEQUEUE_LEDGER_URL"] = f"sqlite:///{folder}/ledger.db"
        forget()
        yield
        forget()


if __name__ == "__main__":
    main()
