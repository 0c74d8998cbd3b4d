"""Retrieve the nearest solved questions by their n-grams of characters: without a model, the same everywhere.

    LexicalRetriever(load).nearest("9f3c...", [asked], 2)  ->  [[solved, solved]]

Characters need no segmentation into words, which Chinese lacks. The weights are TF-IDF within the examples.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared import dataset
from shared.prompts import FewShotExample, PromptQuestion

NGRAMS = (1, 3)  # lengths of n-grams, in characters
DIGITS = 6  # of a similarity: rounding errors of different machines must not change an order


@dataclass(frozen=True)
class _Index:
    """Some examples: a row of n-gram weights for each, and the digests of their problems and questions."""

    examples: list[FewShotExample]
    vectorizer: Any
    rows: Any
    problems: Any
    questions: Any


class LexicalRetriever:
    """Finds the nearest solved questions of a data set; ``load`` reads a data set's examples."""

    def __init__(self, load: Callable[[str], list[FewShotExample]]) -> None:
        self._load = load
        self._indexes: dict[str, _Index | None] = {}
        self._lock = threading.Lock()

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        """Find up to ``count`` solved examples per question, nearest first, equals in file order."""
        with self._lock:
            if digest not in self._indexes:
                self._indexes[digest] = _index(self._load(digest))
        index = self._indexes[digest]
        if index is None or not count:
            return [[] for _ in asked]
        rows = index.vectorizer.transform([question.text for question in asked])
        similarities = (rows @ index.rows.T).toarray().round(DIGITS)
        return [
            _best(index, question, similarity, count, same_problem)
            for question, similarity in zip(asked, similarities, strict=True)
        ]


def _best(
    index: _Index, asked: PromptQuestion, similarity: Any, count: int, same_problem: bool
) -> list[FewShotExample]:
    itself = (
        index.questions == dataset.identity(asked.text)
        if same_problem
        else index.problems == asked.problem_identity
    )
    order = np.argsort(np.where(itself, np.inf, -similarity), kind="stable")
    return [index.examples[at] for at in order[:count] if not itself[at]]


def _index(examples: list[FewShotExample]) -> _Index | None:
    if not examples:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, sublinear_tf=True, dtype=np.float32)
    rows = vectorizer.fit_transform([example.asked.text for example in examples])
    problems = np.array([example.asked.problem_identity for example in examples])
    questions = np.array([dataset.identity(example.asked.text) for example in examples])
    return _Index(examples, vectorizer, rows, problems, questions)
