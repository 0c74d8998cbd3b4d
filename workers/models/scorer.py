"""The scorer: is a reasoning sound? A two-class sequence classifier (1 = sound, 0 = not).

    SoundnessScorer(Path("var/scorers"), "newest", batch=16).score([(asked, "……\\n答案是：A")])  ->  [0.93]

A version is a folder: safetensors, tokenizer, `training.json` (the settings it was trained with, the text it
is fed among them) and `metrics.json`. How it came to be is `scorer_training`'s business.
"""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import prompts
from shared.errors import UserError
from shared.jobs import ScorerTraining
from shared.prompts import Asked

log = logging.getLogger(__name__)
NEWEST = "newest"
TRAINING, METRICS = "training.json", "metrics.json"


def versions(folder: Path) -> list[str]:
    """List the complete versions in a folder, oldest first (their names begin with the time)."""
    # A version appears by one rename with everything in it; temporary folders begin with a dot.
    return sorted(p.parent.name for p in folder.glob(f"[!.]*/{METRICS}"))


def fed(asked: Asked, reasoning: str, kind: str) -> str:
    """Build the text that the scorer reads; ``kind`` is stored with the model."""
    return prompts.judged(asked, reasoning) if kind == "question+reasoning" else reasoning.strip()


class SoundnessScorer:
    """Scores with the newest version in a folder, or the named one; takes up a newer one as it appears."""

    def __init__(self, folder: Path, wanted: str = NEWEST, batch: int = 16) -> None:
        self._folder = folder
        self._wanted = wanted
        self._batch = batch
        self._lock = threading.Lock()
        self._version: str | None = None
        self._said_none = False
        self._training: ScorerTraining
        self._model: Any = None
        self._tokenizer: Any = None

    def refresh(self) -> str | None:
        """Load the version to use from now on; give its name, ``None`` while none was trained.

        Raises:
            UserError: the version named in the settings is not there, or cannot be loaded.
        """
        with self._lock:
            found = versions(self._folder)
            if self._wanted != NEWEST and self._wanted not in found:
                raise UserError(
                    f"no scorer is called {self._wanted!r} in {self._folder}; there are: "
                    f"{', '.join(found) or 'none'}: mend VOTEQUEUE_SCORER"
                )
            name = (found[-1] if found else None) if self._wanted == NEWEST else self._wanted
            if name is None and not self._said_none:
                self._said_none = True
                log.warning("no scorer is trained yet: every readable vote is accepted")
            if name is not None and name != self._version:
                self._load(name)
            return self._version

    def score(self, texts: Sequence[tuple[Asked, str]]) -> list[float]:
        """Give probabilities of soundness in [0, 1], computed in micro-batches of like length."""
        kind = self._training.input
        with self._lock:
            tokens = [self._tokens(fed(asked, text, kind)) for asked, text in texts]
            scores = [0.0] * len(texts)
            by_length = sorted(range(len(texts)), key=lambda at: len(tokens[at]))
            for start in range(0, len(by_length), self._batch):
                places = by_length[start : start + self._batch]
                for at, value in zip(places, self._forward([tokens[at] for at in places]), strict=True):
                    scores[at] = value
            return scores

    def _tokens(self, text: str) -> list[int]:
        # An empty vote has no tokens, and a model takes none: a lone end-of-text stands for it.
        found = self._tokenizer(text, truncation=True, max_length=self._training.max_length)["input_ids"]
        return list(found) or [self._tokenizer.pad_token_id]

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        batch = self._tokenizer.pad({"input_ids": rows}, pad_to_multiple_of=8, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**batch.to(self._model.device)).logits
        return [float(value) for value in torch.softmax(logits.float(), dim=-1)[:, 1]]

    def _load(self, name: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = self._folder / name
        try:
            self._training = ScorerTraining.model_validate_json((folder / TRAINING).read_text("utf-8"))
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
        except (OSError, ValueError) as error:
            raise UserError(f"the scorer {folder} cannot be loaded: {error}") from error
        self._model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        metrics = json.loads((folder / METRICS).read_text("utf-8"))
        log.info("scorer %s judges from now on (%s)", name, metrics)
        self._version = name
