"""The registry of outside services: their clients, limits and prices as documented.

    limits("tencent", "TextTranslateBatch", {})  ->  Limits(per_second=5, characters=2000, ...)

The clients are in `workers/providers`. A setting for a provider, or for a provider and a model
(``chat/deepseek-chat``), overrides the values here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from shared.registry import Registry

MILLION = 1_000_000
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]


class Limits(BaseModel):
    """The limits of an account for one model; ``None``: no known limit.

    ``per_day`` follows the provider's time zone; ``characters`` and ``texts`` limit one call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    per_second: Annotated[float, Field(gt=0)] | None = None
    per_minute: Annotated[float, Field(gt=0)] | None = None
    per_day: Count | None = None
    tokens_per_minute: Count | None = None
    max_concurrency: Annotated[
        Count | None, Field(validation_alias=AliasChoices("max_concurrency", "at_once"))
    ] = None
    characters: Count | None = None
    texts: Count | None = None


class Price(BaseModel):
    """The price of a model, in the settings' currency per million tokens or million source characters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: Amount = 0.0
    output: Amount = 0.0
    characters: Amount = 0.0


@dataclass(frozen=True)
class Usage:
    """The usage of a call, actual or estimated."""

    input_tokens: int = 0
    output_tokens: int = 0
    characters: int = 0

    @property
    def tokens(self) -> int:
        """Count all tokens, as limits do."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Provider:
    """A service: its clients, default models, documented limits, and required settings.

    ``chat``, ``translator``, ``sampler`` (of votes) and ``embedder`` name, as ``module:name``, functions
    that build a client from a `Service` and the settings; only workers import them. A provider without a
    translator translates by prompts. ``limits`` are those of an account, by model; "" stands for all other
    models. ``needs`` lists alternatives: all settings of one of them must be set. Daily quotas renew at
    midnight in ``timezone``.
    """

    name: str
    chat: str | None = None
    translator: str | None = None
    sampler: str | None = None
    embedder: str | None = None
    chat_model: str | None = None
    translation_model: str | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict)
    needs: tuple[tuple[str, ...], ...] = ((),)
    url: str | None = None  # the setting with its URL
    timezone: str = "Asia/Shanghai"

    @property
    def chats(self) -> bool:
        """Tell whether it has chat models."""
        return self.chat is not None

    @property
    def samples(self) -> bool:
        """Tell whether it samples votes."""
        return self.sampler is not None

    @property
    def translates(self) -> bool:
        """Tell whether it translates, by a translation service or by prompts."""
        return self.translator is not None or self.chats


_BUILT_IN = (
    # Our own server queues calls itself.
    Provider(
        "local",
        chat="workers.providers.openai:OpenAIChat.of_local",
        sampler="workers.providers.openai_sampling:OpenAISampler.of_local",
        embedder="workers.providers.openai_embeddings:OpenAIEmbeddings.of_local",
        url="local_url",
    ),
    Provider(
        "chat",
        chat="workers.providers.openai:OpenAIChat.of_chat",
        sampler="workers.providers.openai_sampling:OpenAISampler.of_chat",
        embedder="workers.providers.openai_embeddings:OpenAIEmbeddings.of_chat",
        limits={"": Limits(per_minute=300, max_concurrency=16)},
        needs=(("chat_base_url", "chat_api_key"),),
    ),
    Provider(
        "qianfan",
        chat="workers.providers.qianfan:chat",
        chat_model="Yi-34B-Chat",
        translation_model="Yi-34B-Chat",
        # ai.baidu.com/ai-doc/WENXINWORKSHOP/Llroa77io: 5 a second, later 300 and 300,000 tokens a minute.
        limits={"": Limits(per_second=5, per_minute=300, tokens_per_minute=300_000)},
        needs=(("qianfan_ak", "qianfan_sk"), ("qianfan_access_key", "qianfan_secret_key")),
        url="qianfan_url",
    ),
    Provider(
        "tencent",
        translator="workers.providers.tencent:TencentTranslator",
        translation_model="TextTranslateBatch",
        limits={
            # cloud.tencent.com/document/api/551/40566: 5 a second, all texts of a call below 6,000
            # characters. Older pages (tencentcloud.com/document/product/1161/50084, and the error
            # TextTooLong) say 2,000.
            "TextTranslateBatch": Limits(per_second=5, characters=2000, texts=100),
            # Hunyuan's ChatTranslations, cloud.tencent.com/document/api/1729/113395: 20 a second, 5 at once.
            "": Limits(per_second=20, max_concurrency=5, characters=2000, texts=1),
        },
        needs=(("tencent_secret_id", "tencent_secret_key"),),
        url="tencent_url",
    ),
)
ENTRY_POINTS = "votequeue.providers"  # group of other packages' `Provider` entries
PROVIDERS = Registry(ENTRY_POINTS, Provider, _BUILT_IN)

# Default limits of one call to a chat model that translates.
PROMPTED_CHARACTERS, PROMPTED_TEXTS = 2000, 50


def embedding_service(retriever: str | None) -> tuple[str, str] | None:
    """Give provider and model of a retriever such as ``chat:bge-m3``; ``None``: it calls no provider."""
    provider, colon, model = (retriever or "").partition(":")
    return (provider, model) if colon and provider in PROVIDERS else None


def limits(provider: str, model: str, chosen: Mapping[str, Limits]) -> Limits:
    """Give the limits of an account for a model: the documented ones, overridden by ``chosen``."""
    documented = PROVIDERS[provider].limits
    names = (provider, f"{provider}/{model}")
    changes = {field: value for name in names if name in chosen for field, value in _explicit(chosen[name])}
    return (documented.get(model) or documented.get("") or Limits()).model_copy(update=changes)


def _explicit(limits: Limits) -> list[tuple[str, object]]:
    # A limit set to null disables the documented one, so explicit nulls count.
    return [(field, getattr(limits, field)) for field in limits.model_fields_set]


def price(provider: str, model: str, prices: Mapping[str, Price]) -> Price:
    """Give the price of a model; zero if none is set."""
    return prices.get(f"{provider}/{model}") or prices.get(provider) or Price()


def is_priced(provider: str, model: str, prices: Mapping[str, Price]) -> bool:
    """Tell whether the price of a model is set; provider local needs none."""
    return provider == "local" or bool({provider, f"{provider}/{model}"} & prices.keys())


def cost(price: Price, usage: Usage) -> float:
    """Give the cost of a usage, in the settings' currency."""
    tokens = usage.input_tokens * price.input + usage.output_tokens * price.output
    return (tokens + usage.characters * price.characters) / MILLION
