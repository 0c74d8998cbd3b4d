"""Score votes: the probability that each is right.

    votes = [Text(text="……\\n答案是：A", letter="A")]
    SoundnessScorer(folder).score("scorer-3f9c01ab12cd", [(asked, votes)])  ->  [[0.41]]

A scorer is a sequence classifier in a folder, with the options it was trained with.
`scorer_trainer` trains it.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared import model_store
from shared.errors import NotServedHere, UserError
from shared.prompts import PromptQuestion
from shared.recipes import ScorerTraining
from shared.training_examples import Text
from workers.models import features
from workers.models.calibration import Calibration
from workers.models.features import FeatureExtractor, texts_of

log = logging.getLogger(__name__)
LOADED = 2  # scorers kept loaded, since runs may name different ones


class _Loaded:
    """One loaded scorer."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        facts = model_store.described(folder)
        try:
            self.options = ScorerTraining.model_validate(facts["options"])
            self.scale = Calibration(facts["temperature"], facts["bias"])
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the scorer {folder} cannot be loaded: {error}") from error
        model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.reader = FeatureExtractor(model, tokenizer, self.options.input, self.options.max_length)

    def score(self, asked: PromptQuestion, votes: Sequence[Text]) -> list[float]:
        """Score the votes on one question."""
        letters = [vote.letter for vote in votes]
        whole = [vote.with_thinking() for vote in votes] if self.options.thinking else votes
        read = texts_of(asked, [vote.text for vote in whole], self.options.input)
        return self.scale.scores_of(self._margins(asked, read), letters, self.options.input)

    def _margins(self, asked: PromptQuestion, read: Sequence[str]) -> Any:
        if not read:
            return np.zeros(0)
        if self.options.tune == "head":
            return self.reader.margins(asked, read).numpy()
        return features.margin(self.reader.logits(asked, read)).numpy()


class SoundnessScorer:
    """Scores with named scorers; keeps the most recently used ones loaded."""

    def __init__(self, trained: Path) -> None:
        self._trained = trained
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Give probabilities in [0, 1] that votes are right, for each question in the order of its votes.

        Raises:
            NotServedHere: the scorer is missing or incomplete.
        """
        with self._lock:
            scorer = self._take(name)
            return [scorer.score(asked, votes) for asked, votes in questions]

    def _take(self, name: str) -> _Loaded:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
            log.info("scorer %s is loaded", name)
        self._loaded.move_to_end(name)
        while len(self._loaded) > LOADED:
            self._loaded.popitem(last=False)
        return self._loaded[name]

    def _load(self, name: str) -> _Loaded:
        try:
            return _Loaded(model_store.checked("scorer", name, self._trained))
        except UserError as error:
            # A run's scorer may be elsewhere: that is no reason for the worker to stop.
            raise NotServedHere(str(error)) from error
