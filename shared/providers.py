"""The registry of outside services: their clients, limits and prices as documented.

    limits("tencent", "TextTranslateBatch", {})  ->  Limits(per_second=5, characters=2000, ...)

The clients are in `workers/providers`. A setting that names a provider, or a provider and a model
(``chat/deepseek-chat``), wins over what stands here.
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
    """What an account may do with one model; ``None``: no limit known.

    ``per_day`` counts calls by the provider's clock; ``characters`` and ``texts`` are the most of one call.
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
    """What a model costs, in the settings' currency a million tokens, or a million characters of source."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: Amount = 0.0
    output: Amount = 0.0
    characters: Amount = 0.0


@dataclass(frozen=True)
class Usage:
    """What a call used, or may use."""

    input_tokens: int = 0
    output_tokens: int = 0
    characters: int = 0

    @property
    def tokens(self) -> int:
        """Count all tokens, as limits do."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Provider:
    """A service: what talks to it, its default models, its documented limits, and the settings it needs.

    ``chat``, ``translator`` and ``sampler`` (of votes) name what builds a client from a `Service` and the
    settings, as ``module:name``, so that only a worker imports it. A provider that only chats translates by
    prompts.
    ``limits`` are an account's, by model; "" stands for all other models. ``needs`` lists alternatives: all
    settings of one of them must be set. ``timezone`` is whose midnight brings a day's quota back.
    """

    name: str
    chat: str | None = None
    translator: str | None = None
    sampler: str | None = None
    chat_model: str | None = None
    translation_model: str | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict)
    needs: tuple[tuple[str, ...], ...] = ((),)
    url: str | None = None  # the setting that says where it is
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
        """Tell whether it translates, by itself or because it is asked to."""
        return self.translator is not None or self.chats


_BUILT_IN = (
    # Our own server lets its calls wait by itself.
    Provider(
        "local",
        chat="workers.providers.openai:local",
        sampler="workers.providers.openai_sampling:local",
        url="local_url",
    ),
    Provider(
        "chat",
        chat="workers.providers.openai:chat",
        sampler="workers.providers.openai_sampling:chat",
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
ENTRY_POINTS = "votequeue.providers"  # the group in which an installed package names a `Provider` of its own
PROVIDERS = Registry(ENTRY_POINTS, Provider, _BUILT_IN)

# The most of one call to a chat model that is asked to translate, where no limit says otherwise.
PROMPTED_CHARACTERS, PROMPTED_TEXTS = 2000, 50


def limits(provider: str, model: str, chosen: Mapping[str, Limits]) -> Limits:
    """Give what an account may do with a model: what is documented, changed by what was chosen."""
    documented = PROVIDERS[provider].limits
    names = (provider, f"{provider}/{model}")
    changes = {field: value for name in names if name in chosen for field, value in _given(chosen[name])}
    return (documented.get(model) or documented.get("") or Limits()).model_copy(update=changes)


def _given(limits: Limits) -> list[tuple[str, object]]:
    # A limit set to null switches the documented one off, so "set" is what counts, not "not None".
    return [(field, getattr(limits, field)) for field in limits.model_fields_set]


def price(provider: str, model: str, prices: Mapping[str, Price]) -> Price:
    """Give what a model costs; nothing where no price was set."""
    return prices.get(f"{provider}/{model}") or prices.get(provider) or Price()


def cost(price: Price, usage: Usage) -> float:
    """Give what a usage costs, in the settings' currency."""
    tokens = usage.input_tokens * price.input + usage.output_tokens * price.output
    return (tokens + usage.characters * price.characters) / MILLION
