"""The environment (``VOTEQUEUE_*``), read once and frozen.

    VOTEQUEUE_LEDGER_URL=postgresql+psycopg://votequeue:...@db/votequeue

A `.env` file in the working directory is read too; the environment takes precedence. Every setting has the
recipe's default. This module defines names and defaults, not their use.
"""

import difflib
import functools
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from shared import file_permissions, text_files, urls
from shared.errors import UserError
from shared.generators import GENERATORS
from shared.options import RENAMED, SamplingDefaults
from shared.providers import PROVIDERS, Limits, Price

PREFIX = "VOTEQUEUE_"
DOTENV = ".env"
MAX_DOTENV = 1 << 20  # bytes
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
_T = TypeVar("_T")


def _check_providers(table: dict[str, _T]) -> dict[str, _T]:
    for name in table:
        if name.partition("/")[0] not in PROVIDERS:
            raise ValueError(f"{name!r} names no provider; the providers are: {', '.join(PROVIDERS)}")
    return table


def _check_extra_fields(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("messages", "model", "n", "stream"):
        if name in fields:
            raise ValueError(f"{name!r} cannot be set: votequeue reads one whole reply per call")
    json.dumps(fields, allow_nan=False)  # a ValueError for values that JSON lacks
    return fields


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None


ByService = Annotated[dict[str, _T], AfterValidator(_check_providers)]
UserPath = Annotated[Path, AfterValidator(_expand_home)]  # may begin with ~


def _secretly(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda secret: SecretStr(check(secret.get_secret_value())))


BrokerUrl = Annotated[SecretStr, _secretly(urls.broker)]
LedgerUrl = Annotated[SecretStr, _secretly(urls.ledger)]
ServiceUrl = Annotated[str, AfterValidator(urls.service)]


class ProgramLimits(BaseModel):
    """The limits of a program that is executed as a vote."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: Seconds = 2.0
    memory_mib: Count = 64
    recursion: Count = 1000
    output: Count = 10_000


class Settings(SamplingDefaults, BaseSettings):
    """All settings; each field's description is its documentation, also in `.env.example`.

    The fields of `SamplingDefaults` are defaults of runs, stored with a run when it is enqueued.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding="utf-8-sig",  # Windows editors write a byte order mark
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    # Where things are
    home: UserPath = Field(Path("var"), description="folder for all files of the local mode")
    broker_url: BrokerUrl = Field(
        SecretStr("redis://127.0.0.1:6399/0"), description="URL of the Redis or Valkey server for messages"
    )
    ledger_url: LedgerUrl | None = Field(
        None, description="SQLAlchemy URL of the ledger; empty: SQLite, ledger.db under the home folder"
    )
    qdrant_url: ServiceUrl | None = Field(
        None, description="URL of the Qdrant server; empty: an index in each worker's memory"
    )
    qdrant_api_key: SecretStr | None = Field(None, description="API key of the Qdrant server")
    trained: UserPath | None = Field(
        None,
        description="folder of trained models and checkpoints, shared by all machines; empty: trained/ under "
        "the home folder",
    )
    cache: UserPath = Field(
        Path(platformdirs.user_cache_dir("votequeue")), description="folder for downloaded weights"
    )

    # Answering: the engine (one per infer worker)
    model: str = Field(
        "Qwen2.5-Coder-0.5B-Instruct",
        description="model of the generator: a folder, a name in the cache, a hub id; of generator openai: "
        "the provider's name of it",
    )
    quantization: str | None = Field(None, description="vLLM quantisation, such as fp8 on GPUs; empty: none")
    gpu_memory: Share = Field(0.7, description="share of the GPU's memory for the engine; the rest: scorer")
    tensor_parallel: Count = Field(1, description="GPUs per engine (tensor parallelism)")
    max_model_len: Count = Field(8192, description="maximum length of prompt and answer, in tokens")
    kv_cache_gib: Count = Field(2, description="KV cache size of vLLM's CPU build, in GiB")
    batch_size: Count = Field(16, description="questions per batch")
    batches_in_flight: Count = Field(4, description="batches whose questions are sampled at once, per engine")
    linger: Seconds = Field(0.5, description="seconds that a batch waits to fill up")

    # Programs as votes
    program_limits: ProgramLimits = Field(
        ProgramLimits(),
        description="JSON: limits of a program: seconds, memory_mib, recursion (depth of calls), output "
        "(characters)",
    )

    # Retrieval
    embedding: str = Field(
        "static",
        description="sentence-transformers folder or hub id; static: the generator's own token embeddings; "
        "lexical: n-grams of characters, PROVIDER:MODEL: a provider's embeddings (generator vllm only)",
    )

    # Training
    report_to: str = Field(
        "", description="experiment trackers, by their transformers names: wandb,tensorboard"
    )
    checkpoint_every: Seconds = Field(300, description="seconds between a training's checkpoints")

    # The outside services: endpoints and keys (secrets come from the environment only)
    chat_base_url: ServiceUrl | None = Field(
        None, description="provider chat: base URL of an OpenAI-compatible endpoint, including /v1"
    )
    chat_api_key: SecretStr | None = Field(None, description="provider chat: API key of that endpoint")
    chat_extra: Annotated[dict[str, Any], AfterValidator(_check_extra_fields)] = Field(
        {},
        description="JSON: additional fields of every request of provider chat, such as "
        '{"enable_thinking": false}; null removes a field',
    )
    local_url: ServiceUrl = Field(
        "http://127.0.0.1:8399/v1", description="provider local: URL of `votequeue serve`"
    )
    qianfan_api: Literal["v1", "v2"] = Field(
        "v1", description="provider qianfan: API version; v1: the SDK's own chat, v2: OpenAI-compatible"
    )
    qianfan_ak: SecretStr | None = Field(None, description="provider qianfan: API key (AK) of an application")
    qianfan_sk: SecretStr | None = Field(
        None, description="provider qianfan: secret key (SK) of the application"
    )
    qianfan_access_key: SecretStr | None = Field(
        None, description="provider qianfan: access key of the account"
    )
    qianfan_secret_key: SecretStr | None = Field(
        None, description="provider qianfan: secret key of the access key"
    )
    qianfan_url: ServiceUrl | None = Field(
        None, description="provider qianfan: URL of a gateway; empty: Baidu's own"
    )
    tencent_secret_id: SecretStr | None = Field(None, description="provider tencent: SecretId")
    tencent_secret_key: SecretStr | None = Field(None, description="provider tencent: SecretKey")
    tencent_region: str = Field("ap-guangzhou", description="provider tencent: region")
    tencent_url: ServiceUrl | None = Field(
        None, description="provider tencent: URL of a gateway; empty: Tencent's own"
    )

    # The outside services: limits and prices
    limits: ByService[Limits] = Field(
        {},
        description="JSON: limits by provider or provider/model, which override the documented ones: "
        "per_second, per_minute, per_day, tokens_per_minute, max_concurrency, characters, texts",
    )
    prices: ByService[Price] = Field(
        {},
        description="JSON: prices by provider or provider/model: input, output (per million tokens), "
        "characters (per million)",
    )
    currency: str = Field("CNY", description="currency of prices and budgets")
    call_timeout: Seconds = Field(120, description="seconds until a call to a service times out")
    max_failures: Count = Field(
        12,
        description="consecutive failed calls (time-out, error) of an item until it is dead",
    )
    calls_in_flight: Count = Field(
        16,
        description="concurrent tasks of a worker that calls providers: reason, translate, some of infer",
    )

    # Claims
    lease: Seconds = Field(15, description="seconds that a claim lasts without a heartbeat")
    heartbeat: Seconds = Field(3, description="seconds between heartbeats")
    sweep: Seconds = Field(1, description="seconds between sweeps of the reconcile loop")
    window: Count = Field(
        5000, description="messages that a queue holds; further items wait in the ledger until it has room"
    )
    max_losses: Count = Field(
        8, description="consecutive deaths of an item's work with nothing else in play before it is dead"
    )

    # Monitoring
    flower_host: str = Field("127.0.0.1", description="listen address of Flower")
    flower_port: Annotated[int, Field(ge=1, le=65535)] = Field(5555, description="port of Flower")
    flower_auth: SecretStr | None = Field(
        None, description="user:password of Flower and of `votequeue ui`, required beyond loopback"
    )
    flower_db: UserPath | None = Field(
        None, description="file in which Flower keeps its tasks when it restarts; empty: it forgets them"
    )
    flower_tasks: Count = Field(
        20_000, description="newest tasks that Flower shows, about 5 kB of memory each"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65000)] = Field(
        0, description="port of the Prometheus metrics of a worker or the exporter; 0: none"
    )
    metrics_host: str = Field(
        "127.0.0.1", description="listen address of the metrics, which need no password"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[Any, ...]:
        """Let a variable replace a line of `.env` as a whole: by default, tables of both are merged."""

        def lines() -> dict[str, Any]:
            variables = {name.upper() for name in os.environ}
            found = dotenv_settings().items()
            return {name: value for name, value in found if PREFIX + name.upper() not in variables}

        return init_settings, env_settings, lines

    @model_validator(mode="after")
    def _heartbeats_keep_leases_alive(self) -> "Settings":
        if self.heartbeat * 2 > self.lease:
            raise ValueError("VOTEQUEUE_LEASE must be at least twice VOTEQUEUE_HEARTBEAT")
        return self

    @property
    def calls_provider(self) -> bool:
        """Tell whether infer workers call a provider instead of running an engine."""
        return GENERATORS[self.generator].calls_provider

    @property
    def batches(self) -> tuple[int, int]:
        """Give the size of an infer worker's batches, and how many are in flight."""
        # Calls to a provider gain nothing from a batch, in which one would wait for the slowest.
        return (1, self.calls_in_flight) if self.calls_provider else (self.batch_size, self.batches_in_flight)

    @property
    def refusal(self) -> tuple[str, str] | None:
        """Say why an infer worker would not start: an option and what is wrong with it; None: it would."""
        if not self.calls_provider:
            return None
        if self.provider is None:
            return "provider", f"generator {self.generator} needs one"
        if self.provider not in (able := [each.name for each in PROVIDERS.values() if each.samples]):
            return "provider", f"{self.provider} samples no votes; these do: {', '.join(able)}"
        if self.provider != "local" and "model" not in self.model_fields_set:
            return "model", f"name the model of provider {self.provider}"
        return None

    @property
    def ledger(self) -> str:
        """Give the ledger's URL with its password: for SQLAlchemy, never for a log."""
        if self.ledger_url is None or not self.ledger_url.get_secret_value():
            return f"sqlite:///{(self.home / 'ledger.db').resolve()}"
        # Name the driver: the plain scheme would select one that is not installed.
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.ledger_url.get_secret_value())

    @property
    def broker(self) -> str:
        """Give the broker's URL with its password: for Celery, never for a log."""
        return self.broker_url.get_secret_value()

    @property
    def trained_folder(self) -> Path:
        """Give the folder of trained models."""
        return self.trained or self.home / "trained"

    @property
    def trained_mask(self) -> int:
        """Give the umask for trained models: shared models get the permissions of their folder."""
        return file_permissions.as_open_as(self.trained) if self.trained else file_permissions.ONLY_OWNER


@functools.cache
def load() -> Settings:
    """Read the environment once.

    Raises:
        UserError: an invalid value, an unknown setting, or an unreadable `.env`.
    """
    refuse_unknown([*os.environ, *_names_in_file(Path(DOTENV))])
    # An empty variable means "not set": compose files and .env lines have no other way to express None.
    try:
        return Settings(_env_ignore_empty=True)
    except SettingsError as error:
        # The error names fields and sources; its cause describes the value.
        field = re.search(r'field "(\w+)"', str(error))
        name = PREFIX + (field[1].upper() if field else "?")
        raise UserError(f"setting {name}: not JSON ({error.__cause__})") from None
    except ValidationError as error:
        raise UserError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"settings: {message}"
    name = " ".join([PREFIX + str(first["loc"][0]).upper(), *map(str, first["loc"][1:])])
    # The messages of our own validators are complete, and the input may be secret.
    return f"setting {name}: {message}" + (
        "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    )


def _names_in_file(path: Path) -> list[str]:
    """List the names that a `.env` sets.

    Raises:
        UserError: it cannot be read, or a line of it is not NAME=VALUE.
    """
    if not path.exists() or (path / "pyvenv.cfg").exists():  # a virtual environment may have this name
        return []
    bindings = list(parse_stream(io.StringIO(text_files.read(path, MAX_DOTENV))))
    for binding in bindings:
        if binding.error:
            string = binding.original.string  # includes the empty lines before it
            line = binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")
            raise UserError(f"{path} line {line} is not NAME=VALUE: correct it, or put a # before it")
    return [binding.key for binding in bindings if binding.key]


# Prefixes of former settings that are options of a command now.
_MOVED = {
    "SCORER_": "train scorer",
    "LORA_": "train lora",
    "REASON_": "reason",
    **dict.fromkeys(
        ("LANGUAGE", "PIVOT", "TRANSLATE_", "SHORTEST", "LONGEST", "SYNONYM_", "VARIANT_", "NEAR_COPY"),
        "translate",
    ),
}


def refuse_unknown(names: Iterable[str]) -> None:
    """Reject misspelt settings, which would otherwise be ignored silently.

    Raises:
        UserError: a ``VOTEQUEUE_`` variable is not a setting.
    """
    fields = [name.upper() for name in Settings.model_fields]
    for name in names:
        word = name.upper().removeprefix(PREFIX)
        if word != name.upper() and word not in fields:
            if command := next((of for start, of in _MOVED.items() if word.startswith(start)), None):
                raise UserError(f"{name} is no longer a setting: see `votequeue enqueue {command} --help`")
            if other := RENAMED.get(word.lower()):
                raise UserError(f"{name} is now called {PREFIX}{other.upper()}")
            close = difflib.get_close_matches(word, fields, n=1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else "; .env.example lists them all"
            raise UserError(f"no setting is called {name}{hint}")
