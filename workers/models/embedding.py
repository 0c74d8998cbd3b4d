"""Embeddings of questions: texts to unit vectors.

load_embedder("static", folder).encode(["甲比乙高。"])  ->  float32, of shape (1, 896)
"""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shared.errors import UserError

Vectors = Any


class Embedder(Protocol):
    """Texts -> unit vectors, float32, of shape (texts, dimensions)."""

    def encode(self, texts: list[str], run: str | None = None) -> Vectors:
        """Embed texts; ``run`` is the one that paid calls are recorded for."""


class SentenceEmbedder:
    """An embedder over a sentence-transformers model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        # The tokenizers of these models are not thread-safe.
        self._lock = threading.Lock()

    def encode(self, texts: list[str], run: str | None = None) -> Vectors:
        """Embed texts."""
        with self._lock:
            return np.asarray(
                self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False), np.float32
            )


class ProviderEmbedder:
    """An embedder over a provider; ``embed`` embeds up to ``batch`` texts for a run, in one call."""

    def __init__(self, embed: Callable[[str, Sequence[str]], list[list[float]]], batch: int) -> None:
        self._embed = embed
        self._batch = batch

    def encode(self, texts: list[str], run: str | None = None) -> Vectors:
        """Embed texts; raises as `Gateway.embed`."""
        parts = [texts[start : start + self._batch] for start in range(0, len(texts), self._batch)]
        rows = [vector for part in parts for vector in self._embed(run or "", part)]
        vectors = np.asarray(rows, np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def load_embedder(name: str, generator: Path) -> SentenceEmbedder:
    """Load ``name`` through sentence-transformers; ``static`` takes the generator's token embeddings.

    Raises:
        UserError: the model is neither on this machine nor on the hub.
    """
    from sentence_transformers import SentenceTransformer

    if name == "static":
        return SentenceEmbedder(SentenceTransformer(modules=[_static(generator)], device="cpu"))
    try:
        return SentenceEmbedder(SentenceTransformer(name))
    except (OSError, ValueError) as error:
        raise UserError(f"VOTEQUEUE_EMBEDDING {name} cannot be loaded: {error}") from None


def _static(generator: Path) -> Any:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(generator / "tokenizer.json"))
        return StaticEmbedding(tokenizer, embedding_weights=_token_table(generator).numpy())
    # tokenizers raises plain Exception for a missing file.
    except Exception as error:
        raise UserError(f"no token embeddings can be read from {generator}: {error}") from error


def _token_table(folder: Path) -> Any:
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if index.exists():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = [folder / file for name, file in places.items() if name.endswith("embed_tokens.weight")]
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (safe_open is not a dict)
                if name.endswith("embed_tokens.weight"):
                    return tensors.get_tensor(name).float()
    raise OSError("it has no embed_tokens.weight")
