"""Find near copies of a question by the similarity of embeddings.

    NearCopies(embedder).nearest("more", 41, Asked("甲比乙高……", "谁最高？", ("甲", "乙")))  ->  0.93

A run has the questions of its data set, embedded once in a process, and the variants kept so far. Variants
that are written at the same time are not compared. The caller decides which similarity is too high.
"""

import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shared import dataset
from shared.dataset import Entry
from shared.ledger import results, runs
from shared.prompts import PromptQuestion

if TYPE_CHECKING:
    from workers.models.embedding import Embedder

RUNS = 4  # runs whose embeddings stay in memory


class NearCopies:
    """The questions of runs as vectors; ``embedder`` loads the model when it is first needed."""

    def __init__(self, embedder: "Callable[[], Embedder]") -> None:
        self._embedder = functools.cache(embedder)
        self._load = functools.lru_cache(maxsize=RUNS)(self._of_source)
        # A process embeds a run's questions once; concurrent tasks wait for it.
        self._lock = threading.Lock()

    def nearest(self, run: str, item: int, asked: PromptQuestion) -> float:
        """Give the highest cosine similarity of a question to those of a run, except the item's own."""
        text = _shown(asked)
        with self._lock:
            vectors = self._load(run)
            vectors.add(_recorded(run, item, vectors.numbers))
            return vectors.nearest(self._embedder().encode([text]))

    def _of_source(self, run: str) -> "_Vectors":
        vectors = _Vectors(self._embedder())
        entries = map(dataset.entry_of, runs.load_entries(run))
        vectors.add((None, text) for entry in entries for text in _questions(entry))
        return vectors


class _Vectors:
    """Unit vectors of questions, and the items whose variants are included."""

    def __init__(self, embedder: "Embedder") -> None:
        self.numbers: set[int] = set()
        self._embedder = embedder
        self._matrix: Any = None

    def add(self, questions: Iterable[tuple[int | None, str]]) -> None:
        """Add questions, with the numbers of the items that they were made for."""
        import numpy as np

        new = list(questions)
        if not new:
            return
        vectors = np.asarray(self._embedder.encode([text for _, text in new]), np.float32)
        self._matrix = vectors if self._matrix is None else np.vstack([self._matrix, vectors])
        self.numbers.update(number for number, _ in new if number is not None)

    def nearest(self, vectors: Any) -> float:
        """Give the highest similarity to a vector, the only row of ``vectors``."""
        import numpy as np

        if self._matrix is None:
            return 0.0
        return float((self._matrix @ np.asarray(vectors, np.float32)[0]).max())


def _recorded(run: str, item: int, loaded: set[int]) -> list[tuple[int | None, str]]:
    variants = results.not_among(run, {*loaded, item})
    entries = [(number, Entry.model_validate(value["entry"])) for number, value in variants]
    return [(number, text) for number, entry in entries for text in _questions(entry)]


def _questions(entry: Entry) -> list[str]:
    return [_shown(runs.asked(entry, index)) for index in range(len(entry.questions))]


def _shown(asked: PromptQuestion) -> str:
    return "\n".join((asked.text, *(option.strip() for option in asked.options)))
