"""Settings -> the concrete thing behind each port; the one place that names classes.

rounds = wiring.rounds(settings.load())
"""

import contextlib
import os
import socket
import uuid
from pathlib import Path

from shared import ledger
from shared.errors import UserError
from shared.settings import Settings
from workers.ports import Generator
from workers.rounds import Rounds

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


def worker_name() -> str:
    """Name this process uniquely and for ever, so that a claim of a dead one is never taken for ours."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def weights(name: str, settings: Settings) -> str:
    """Find a model's folder: as named, in the weights cache, or fetched into the hub's own cache.

    Raises:
        UserError: it is nowhere.
    """
    for folder in (Path(name), settings.cache / "models" / name):
        if (folder / "config.json").exists():
            return str(folder.resolve())
    if "/" in name and not Path(name).is_absolute():
        with contextlib.suppress(OSError, ValueError):
            from huggingface_hub import snapshot_download

            return str(snapshot_download(name, allow_patterns=HUB_FILES))
    raise UserError(f"no weights called {name!r}: get them with `votequeue weights {name}`, or name a folder")


def rounds(settings: Settings) -> tuple[Rounds, Generator]:
    """Build what the infer queue stands on; the generator still wants its `start`.

    Raises:
        UserError: weights are missing, a service does not answer.
    """
    from workers.models.generator import EngineOptions, VllmGenerator
    from workers.models.retrieval import QdrantRetriever, load_embedder, open_client
    from workers.models.scorer import SoundnessScorer

    model = weights(settings.model, settings)
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    retriever = QdrantRetriever(
        open_client(settings.qdrant_url, key),
        load_embedder(settings.embedding, Path(model)),
        f"{settings.embedding}:{settings.model}" if settings.embedding == "static" else settings.embedding,
        ledger.load_examples,
    )
    generator = VllmGenerator(
        EngineOptions(
            model=model,
            lora=settings.lora,
            quantization=settings.quantization,
            gpu_memory=settings.gpu_memory,
            tensor_parallel=settings.tensor_parallel,
            max_model_len=settings.max_model_len,
            kv_cache_gib=settings.kv_cache_gib,
            max_sequences=settings.batch_size * settings.batches_in_flight * settings.votes,
        )
    )
    scorer = SoundnessScorer(settings.scorers_folder, settings.scorer)
    scorer.refresh()
    threshold, losses = settings.scorer_threshold, settings.max_losses
    return Rounds(generator, scorer, retriever, threshold=threshold, max_losses=losses), generator
