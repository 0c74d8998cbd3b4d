"""Build the class behind each port from the settings.

rounds = wiring.rounds(settings.load())
"""

import functools
import hashlib
import importlib.util
import os
import pkgutil
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from shared import broker, model_store, providers
from shared.errors import UserError
from shared.ledger import runs
from shared.prompts import FewShotExample
from shared.providers import PROVIDERS
from shared.recipes import ScorerTraining, Training
from shared.settings import PREFIX, Settings
from shared.settings import load as load_settings
from shared.training_examples import TrainingExample
from workers.gateway.gateway import Counter, Gateway
from workers.inference.rounds import Rounds
from workers.ports import ChatModel, Generator, Retriever, Service, TrainingContext, Translator
from workers.training.ipc import TrainedModel

if TYPE_CHECKING:
    from workers.models.embedding import Embedder

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_Client = TypeVar("_Client")
SWITCH_INTERVAL = 0.0005  # seconds
SLOT_GRACE = 30.0  # seconds by which a slot for concurrent calls outlasts the longest call


def worker_name() -> str:
    """Give this process a unique name, so that a dead process's claim is never taken for its own."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def weights(name: str, settings: Settings) -> str:
    """Find a model's folder: as named, in the weights cache, or fetched into the hub's own cache.

    Raises:
        UserError: it is not found.
    """
    if folder := model_store.find_weights(name, settings.cache):
        return str(folder.resolve())
    reason = ""
    if "/" in name and not Path(name).is_absolute():
        try:
            from huggingface_hub import snapshot_download

            return str(snapshot_download(name, allow_patterns=HUB_FILES))
        except Exception as error:  # noqa: BLE001  the hub, proxies and libraries raise any class
            reason = f" ({' '.join(str(error).split())[:200] or type(error).__name__})"
    raise UserError(
        f"no weights called {name!r}{reason}: get them with `votequeue weights {name}`, or name a folder"
    )


def rounds(settings: Settings) -> tuple[Rounds, Generator]:
    """Build the rounds and the generator of the infer queue; the caller must call the generator's `start`.

    Raises:
        UserError: weights are missing, or a service does not answer.
    """
    from workers.models.embedding import load_embedder
    from workers.models.retrieval import QdrantRetriever, open_client
    from workers.models.scorer import SoundnessScorer
    from workers.models.vllm_generator import EngineOptions, VllmGenerator

    model = weights(settings.model, settings)
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    retriever = QdrantRetriever(
        open_client(settings.qdrant_url, key),
        load_embedder(settings.embedding, Path(model)),
        f"{settings.embedding}:{settings.model}" if settings.embedding == "static" else settings.embedding,
        runs.load_examples,
    )
    generator = VllmGenerator(
        EngineOptions(
            model=model,
            name=settings.model,
            trained=settings.trained_folder,
            quantization=settings.quantization,
            gpu_memory=settings.gpu_memory,
            tensor_parallel=settings.tensor_parallel,
            max_model_len=settings.max_model_len,
            kv_cache_gib=settings.kv_cache_gib,
            max_sequences=settings.batch_size * settings.batches_in_flight * settings.votes,
        )
    )
    scorer = SoundnessScorer(settings.trained_folder)
    return Rounds(generator, scorer, retriever), generator


def trainer(
    options: Training, settings: Settings
) -> Callable[[Sequence[TrainingExample], str, TrainingContext], TrainedModel]:
    """Give the function that trains a model from examples, the base's folder and a context."""
    if isinstance(options, ScorerTraining):
        from workers.training import scorer_trainer

        return lambda examples, base, context: scorer_trainer.train(examples, options, base, context)
    from workers.training import lora_trainer

    return lambda examples, base, context: lora_trainer.train(
        examples, options, base, context, lambda shown: _index(shown, settings)
    )


def _index(examples: list[FewShotExample], settings: Settings) -> Retriever:
    from workers.models.retrieval import QdrantRetriever, open_client

    # A training's examples are not a data set: they are never sent to the index server.
    return QdrantRetriever(
        open_client(None, None), embedder(settings), settings.embedding, lambda _: examples
    )


def embedder(settings: Settings) -> "Embedder":
    """Load the model that embeds questions.

    Raises:
        UserError: its weights are missing.
    """
    from workers.models.embedding import load_embedder

    static = settings.embedding == "static"
    return load_embedder(settings.embedding, Path(weights(settings.model, settings)) if static else Path())


# The outside services


def chat_model(provider: str, model: str, settings: Settings) -> ChatModel:
    """Build a chat model of a provider.

    Raises:
        UserError: the provider has none, or a setting that it needs is missing.
    """
    entry = PROVIDERS.get(provider)
    if entry is None or entry.chat is None:
        able = ", ".join(each.name for each in PROVIDERS.values() if each.chats)
        raise UserError(f"provider {provider!r} has no chat models; these have: {able}")
    client: ChatModel = pkgutil.resolve_name(entry.chat)(_service(provider, model, settings), settings)
    return client


def once(build: Callable[[str, str, Settings], _Client]) -> Callable[[str, str], _Client]:
    """Give a function that builds one client per provider and model; all tasks share its connections."""
    cached = functools.cache(lambda provider, model: build(provider, model, load_settings()))
    building = threading.Lock()

    def client(provider: str, model: str) -> _Client:
        with building:
            return cached(provider, model)

    return client


def translator(provider: str, model: str, settings: Settings) -> Translator:
    """Build a translator of a provider: its own service, or its chat model prompted to translate.

    Raises:
        UserError: the provider has none, or a setting that it needs is missing.
    """
    entry = PROVIDERS.get(provider)
    if entry is not None and entry.translator is not None:
        service = _service(provider, model, settings)
        client: Translator = pkgutil.resolve_name(entry.translator)(service, settings)
        return client
    from workers.providers.prompted import PromptedTranslator

    return PromptedTranslator(chat_model(provider, model, settings))


def account(*parts: str) -> str:
    """Name an account by a digest of its endpoint and credentials, which reveals neither."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _service(provider: str, model: str, settings: Settings) -> Service:
    url = PROVIDERS[provider].url
    place = getattr(settings, url) or "" if url else ""
    return Service(
        provider,
        model,
        account(provider, place, *_credentials(provider, settings)),
        providers.limits(provider, model, settings.limits),
        providers.price(provider, model, settings.prices),
    )


def _credentials(provider: str, settings: Settings) -> list[str]:
    alternatives = PROVIDERS[provider].needs
    for names in alternatives:
        values = [getattr(settings, name) for name in names]
        if all(values):
            return [*map(_plain, values)]
    required = ", or ".join(" and ".join(PREFIX + name.upper() for name in names) for names in alternatives)
    raise UserError(f"provider {provider} needs {required}: set them where the workers run")


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def gateway(settings: Settings, stopping: threading.Event) -> Gateway:
    """Build the gateway to outside services; waiting ends when ``stopping`` is set."""
    from workers.gateway.limiter import RedisLimiter

    # By default, a call that is due would wait up to 5 ms for each busy thread of its worker.
    sys.setswitchinterval(SWITCH_INTERVAL)
    limiter = RedisLimiter(broker.client(), stopping, settings.call_timeout + SLOT_GRACE)
    return Gateway(limiter, _counters(settings))


def _counters(settings: Settings) -> Callable[[Service], Counter | None]:
    @functools.cache
    def counter(model: str) -> Counter | None:
        folder = model_store.find_tokenizer(model, settings.cache)
        # transformers may be missing on workers that only call services.
        if folder is None or importlib.util.find_spec("transformers") is None:
            return None
        from workers.models import token_counter

        return token_counter.counter(folder)

    return lambda service: counter(service.model)
