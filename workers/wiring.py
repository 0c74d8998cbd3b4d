"""Build the class behind each port from the settings.

rounds, generator = wiring.rounds(settings.load(), threading.Event())
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
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from shared import broker, model_store, providers
from shared.errors import NotServedHere, ServiceUnreachable, UserError
from shared.generators import GENERATORS, LEXICAL, STATIC
from shared.ledger import runs
from shared.prompts import FewShotExample, PromptQuestion
from shared.providers import PROVIDERS
from shared.recipes import ScorerTraining, Training
from shared.settings import PREFIX, Settings
from shared.settings import load as load_settings
from shared.training_examples import Text, TrainingExample
from shared.voices import VOICES
from workers.gateway.gateway import Counter, Gateway
from workers.inference.rounds import Rounds
from workers.ports import (
    ChatModel,
    EmbeddingModel,
    Executor,
    Generator,
    Retriever,
    Sampler,
    Scorer,
    Service,
    TrainingContext,
    Translator,
)
from workers.training.ipc import TrainedModel

if TYPE_CHECKING:
    from workers.models.embedding import Embedder

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_Client = TypeVar("_Client")
_Built = TypeVar("_Built")
SWITCH_INTERVAL = 0.0005  # seconds
EMBEDDED_TOGETHER = 64  # texts of one call, unless the provider's limits say otherwise
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


def rounds(settings: Settings, stopping: threading.Event) -> tuple[Rounds, Generator]:
    """Build the rounds and the generator of the infer queue; the caller must call the generator's `start`.

    Calls to a provider that wait for their turn end when ``stopping`` is set.

    Raises:
        UserError: weights or a provider's settings are missing, or a service does not answer.
    """
    entry = GENERATORS[settings.generator]
    own = _retriever(settings.embedding, settings, stopping) if entry.torch else None
    generator: Generator = pkgutil.resolve_name(entry.build)(settings, stopping)
    scorer: Scorer = _NoScorer()
    if entry.torch:
        from workers.models.scorer import SoundnessScorer

        scorer = SoundnessScorer(settings.trained_folder)
    retrievers = _retrievers(settings, own, stopping)
    return Rounds(generator, scorer, retrievers, entry.name, executors(settings)), generator


def executors(settings: Settings) -> Callable[[str], Executor | None]:
    """Give a function that builds the executor of a voice, if it has one; all tasks share it."""
    return _cached(lambda name: _executor(name, settings))


def _executor(name: str, settings: Settings) -> Executor | None:
    voice = VOICES[name]
    if voice.executor is None:
        return None
    try:
        voice.require_package()
    except UserError as error:
        raise NotServedHere(str(error)) from error
    built: Executor = pkgutil.resolve_name(voice.executor)(settings)
    return built


def vllm_generator(settings: Settings, _: threading.Event) -> Generator:
    """Build the generator with an engine in this process."""
    from workers.models.vllm_engine import EngineOptions, VllmEngine
    from workers.models.vllm_generator import VllmGenerator

    options = EngineOptions(
        model=weights(settings.model, settings),
        name=settings.model,
        trained=settings.trained_folder,
        quantization=settings.quantization,
        gpu_memory=settings.gpu_memory,
        tensor_parallel=settings.tensor_parallel,
        max_model_len=settings.max_model_len,
        kv_cache_gib=settings.kv_cache_gib,
        max_sequences=settings.batch_size * settings.batches_in_flight * settings.votes,
        metrics=bool(settings.metrics_port),
    )
    return VllmGenerator(VllmEngine(options))


class _NoScorer:
    """The scorer of a worker without torch."""

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Score nothing."""
        raise NotServedHere(f"the run's scorer {name} needs torch, which this worker does not have")


def _retrievers(
    settings: Settings, own: Retriever | None, stopping: threading.Event
) -> Callable[[str | None], Retriever]:
    """Give what builds a run's retriever by its name, once; ``own`` is the one in the settings, if built."""
    built = {settings.embedding: own} if own else {}
    building = threading.Lock()

    def retriever(name: str | None) -> Retriever:
        name = name or settings.embedding
        with building:
            if name not in built:
                try:
                    built[name] = _retriever(name, settings, stopping)
                except ServiceUnreachable:
                    raise
                except (UserError, ImportError) as error:
                    raise NotServedHere(f"the run's retriever {name} is not here: {error}") from error
            return built[name]

    return retriever


def _retriever(name: str, settings: Settings, stopping: threading.Event) -> Retriever:
    if name == LEXICAL:
        from workers.models.lexical_retrieval import LexicalRetriever

        return LexicalRetriever(runs.load_examples)
    from workers.models.retrieval import QdrantRetriever, open_client

    service = providers.embedding_service(name)
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return QdrantRetriever(
        open_client(settings.qdrant_url, key),
        _provider_embedder(*service, settings, stopping) if service else embedder(settings, name),
        f"{name}:{settings.model}" if name == STATIC else name,
        runs.load_examples,
    )


def _provider_embedder(
    provider: str, model: str, settings: Settings, stopping: threading.Event
) -> "Embedder":
    from workers.models.embedding import ProviderEmbedder

    client, calls = embedding_model(provider, model, settings), gateway(settings, stopping)
    batch = client.service.limits.texts or EMBEDDED_TOGETHER
    return ProviderEmbedder(lambda run, texts: calls.embed(run, client, texts), batch)


def trainer(
    options: Training, settings: Settings
) -> Callable[[Sequence[TrainingExample], str, TrainingContext], TrainedModel]:
    """Give the function that trains a model from examples, the base's folder and a context."""
    if isinstance(options, ScorerTraining):
        from workers.training import promotion, scorer_trainer

        return lambda examples, base, context: scorer_trainer.train(
            examples, options, base, context, lambda: promotion.in_use(settings.trained_folder)
        )
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


def embedder(settings: Settings, name: str | None = None) -> "Embedder":
    """Load the model that embeds questions: the named one, or the one in the settings.

    Raises:
        UserError: its weights are missing.
    """
    from workers.models.embedding import load_embedder

    name = name or settings.embedding
    if name == LEXICAL or providers.embedding_service(name):  # no model on this machine
        name = STATIC
    return load_embedder(name, Path(weights(settings.model, settings)) if name == STATIC else Path())


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
    client: ChatModel = _client(entry.chat, provider, model, settings)
    return client


def sampler(settings: Settings) -> Sampler:
    """Build the model that generator openai samples with: the provider and the model in the settings.

    Raises:
        UserError: the provider samples no votes, or a setting that it needs is missing.
    """
    entry = PROVIDERS.get(settings.provider or "")
    if entry is None or entry.sampler is None:
        able = ", ".join(each.name for each in PROVIDERS.values() if each.samples)
        raise UserError(
            f"VOTEQUEUE_PROVIDER is {settings.provider or 'not set'}: generator openai needs one of {able}"
        )
    client: Sampler = _client(entry.sampler, entry.name, settings.model, settings)
    return client


def embedding_model(provider: str, model: str, settings: Settings) -> EmbeddingModel:
    """Build an embedding model of a provider; raises as `chat_model` does."""
    entry = PROVIDERS[provider]
    if entry.embedder is None:
        able = ", ".join(each.name for each in PROVIDERS.values() if each.embedder)
        raise UserError(f"provider {provider!r} has no embeddings; these have: {able}")
    client: EmbeddingModel = _client(entry.embedder, provider, model, settings)
    return client


def once(build: Callable[[str, str, Settings], _Client]) -> Callable[[str, str], _Client]:
    """Give a function that builds one client per provider and model; all tasks share its connections."""
    return _cached(lambda provider, model: build(provider, model, load_settings()))


def _cached(build: Callable[..., _Built]) -> Callable[..., _Built]:
    """Remember what is built for some names; two threads never build the same."""
    cached = functools.cache(build)
    building = threading.Lock()

    def built(*names: str) -> _Built:
        with building:
            return cached(*names)

    return built


def translator(provider: str, model: str, settings: Settings) -> Translator:
    """Build a translator of a provider: its own service, or its chat model prompted to translate.

    Raises:
        UserError: the provider has none, or a setting that it needs is missing.
    """
    entry = PROVIDERS.get(provider)
    if entry is not None and entry.translator is not None:
        client: Translator = _client(entry.translator, provider, model, settings)
        return client
    from workers.providers.prompted import PromptedTranslator

    return PromptedTranslator(chat_model(provider, model, settings))


def account(*parts: str) -> str:
    """Name an account by a digest of its endpoint and credentials, which reveals neither."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _client(build: str, provider: str, model: str, settings: Settings) -> Any:
    return pkgutil.resolve_name(build)(_service(provider, model, settings), settings)


def _service(provider: str, model: str, settings: Settings) -> Service:
    url = PROVIDERS[provider].url
    place = getattr(settings, url) or "" if url else ""
    return Service(
        provider,
        model,
        account(provider, place, *_credentials(provider, settings)),
        providers.limits(provider, model, settings.limits),
        providers.price(provider, model, settings.prices),
        providers.is_priced(provider, model, settings.prices),
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
    return Gateway(limiter, counters(settings))


def counters(settings: Settings) -> Callable[[Service], Counter | None]:
    """Give what counts a service's prompts, where this machine has its tokenizer."""

    @functools.cache
    def counter(model: str) -> Counter | None:
        folder = model_store.find_tokenizer(model, settings.cache)
        # transformers may be missing on workers that only call services.
        if folder is None or importlib.util.find_spec("transformers") is None:
            return None
        from workers.models import token_counter

        return token_counter.counter(folder)

    return lambda service: counter(service.model)
