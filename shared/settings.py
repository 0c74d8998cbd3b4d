"""The environment (``VOTEQUEUE_*``), read once and frozen.

    VOTEQUEUE_LEDGER_URL=postgresql+psycopg://votequeue:...@db/votequeue

A `.env` file in the working directory is read too; the environment wins over it. Every setting has the
recipe's default. This module knows names and defaults, not what they are used for.
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
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared import file_permissions, text_files, urls
from shared.errors import UserError
from shared.options import RENAMED, SamplingDefaults
from shared.providers import PROVIDERS, Limits, Price

PREFIX = "VOTEQUEUE_"
DOTENV = ".env"
MOST_DOTENV = 1 << 20  # bytes
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
_T = TypeVar("_T")


def _known(table: dict[str, _T]) -> dict[str, _T]:
    for name in table:
        if name.partition("/")[0] not in PROVIDERS:
            raise ValueError(f"{name!r} names no provider; there are: {', '.join(PROVIDERS)}")
    return table


def _sendable(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("messages", "model", "n", "stream"):
        if name in fields:
            raise ValueError(f"{name!r} is not yours to set: replies are read one a call, and whole")
    json.dumps(fields, allow_nan=False)  # a ValueError where it holds what no JSON can
    return fields


ByService = Annotated[dict[str, _T], AfterValidator(_known)]


def _secretly(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda secret: SecretStr(check(secret.get_secret_value())))


BrokerUrl = Annotated[SecretStr, _secretly(urls.broker)]
LedgerUrl = Annotated[SecretStr, _secretly(urls.ledger)]
ServiceUrl = Annotated[str, AfterValidator(urls.service)]


class Settings(SamplingDefaults, BaseSettings):
    """All settings; each field's description is its documentation (`.env.example` carries it too).

    Those of `SamplingDefaults` are defaults of runs, stored with a run when it is enqueued.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding="utf-8-sig",  # Windows' editors put a byte order mark before it
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    # Where things are
    home: Path = Field(Path("var"), description="folder for all that the local mode writes")
    broker_url: BrokerUrl = Field(
        SecretStr("redis://127.0.0.1:6399/0"), description="Redis or Valkey that carries the messages"
    )
    ledger_url: LedgerUrl | None = Field(
        None, description="SQLAlchemy URL of the record; empty: SQLite, ledger.db under the home folder"
    )
    qdrant_url: ServiceUrl | None = Field(
        None, description="Qdrant server; empty: an index in each worker's memory"
    )
    qdrant_api_key: SecretStr | None = Field(None, description="key of the Qdrant server")
    trained: Path | None = Field(
        None,
        description="folder of trained models and of checkpoints, shared by all machines; empty: trained/ "
        "under home",
    )
    cache: Path = Field(
        Path(platformdirs.user_cache_dir("votequeue")), description="folder where weights are kept"
    )

    # Answering: the engine (one per infer worker)
    model: str = Field(
        "Qwen2.5-Coder-0.5B-Instruct", description="generator: a folder, a name in the cache, or a hub id"
    )
    quantization: str | None = Field(None, description="vLLM quantisation, fp8 on GPUs; empty: none")
    gpu_memory: Share = Field(0.7, description="share of the GPU's memory for the engine; the rest: scorer")
    tensor_parallel: Count = Field(1, description="GPUs that one engine spans")
    max_model_len: Count = Field(8192, description="longest prompt with its answer, in tokens")
    kv_cache_gib: Count = Field(2, description="KV cache of vLLM's CPU build, in GiB")
    batch_size: Count = Field(16, description="questions a batch")
    batches_in_flight: Count = Field(4, description="batches at once over one engine")
    linger: Seconds = Field(0.5, description="seconds a batch waits to fill up")

    # Retrieval
    embedding: str = Field(
        "static",
        description="sentence-transformers folder or hub id; static: the generator's own token embeddings",
    )

    # Training
    report_to: str = Field(
        "", description="trackers that trainings report to, as transformers names them: wandb,tensorboard"
    )
    checkpoint_every: Seconds = Field(300, description="seconds between a training's checkpoints")

    # The outside services: who they are (secrets come from the environment only)
    chat_base_url: ServiceUrl | None = Field(
        None, description="provider chat: base URL of an OpenAI-compatible endpoint, with its /v1"
    )
    chat_api_key: SecretStr | None = Field(None, description="provider chat: API key of that endpoint")
    chat_extra: Annotated[dict[str, Any], AfterValidator(_sendable)] = Field(
        {},
        description="JSON: fields that every request of provider chat has besides, such as "
        '{"enable_thinking": false}; null leaves one of ours out',
    )
    local_url: ServiceUrl = Field(
        "http://127.0.0.1:8399/v1", description="provider local: where `votequeue serve` listens"
    )
    qianfan_api: Literal["v1", "v2"] = Field(
        "v1", description="provider qianfan: v1 is the SDK's own chat, v2 its OpenAI-compatible one"
    )
    qianfan_ak: SecretStr | None = Field(None, description="provider qianfan: API key (AK) of an application")
    qianfan_sk: SecretStr | None = Field(
        None, description="provider qianfan: secret key (SK) that goes with it"
    )
    qianfan_access_key: SecretStr | None = Field(
        None, description="provider qianfan: access key of the account"
    )
    qianfan_secret_key: SecretStr | None = Field(
        None, description="provider qianfan: secret key that goes with the access key"
    )
    qianfan_url: ServiceUrl | None = Field(
        None, description="provider qianfan: a gateway's URL; empty: Baidu's own"
    )
    tencent_secret_id: SecretStr | None = Field(None, description="provider tencent: SecretId")
    tencent_secret_key: SecretStr | None = Field(None, description="provider tencent: SecretKey")
    tencent_region: str = Field("ap-guangzhou", description="provider tencent: region")
    tencent_url: ServiceUrl | None = Field(
        None, description="provider tencent: a gateway's URL; empty: Tencent's own"
    )

    # The outside services: what they allow and cost
    limits: ByService[Limits] = Field(
        {},
        description="JSON: limits by provider or provider/model, over the documented ones: "
        "per_second, per_minute, per_day, tokens_per_minute, max_concurrency, characters, texts",
    )
    prices: ByService[Price] = Field(
        {},
        description="JSON: prices by provider or provider/model: input, output (a million tokens), "
        "characters (a million)",
    )
    currency: str = Field("CNY", description="currency of prices and budgets")
    call_timeout: Seconds = Field(120, description="seconds until a call to a service is given up")
    max_failures: Count = Field(
        12, description="rounds of one item that end in a failed call (time-out, error) before it is dead"
    )
    calls_in_flight: Count = Field(16, description="tasks at once of a reason or translate worker")

    # Claims
    lease: Seconds = Field(15, description="seconds a claim lasts without a heartbeat")
    heartbeat: Seconds = Field(3, description="seconds between heartbeats")
    sweep: Seconds = Field(1, description="seconds between sweeps of the reconcile loop")
    max_losses: Count = Field(
        8, description="times in a row a question's work may die with nothing else in play before it is dead"
    )

    # Watching
    flower_host: str = Field("127.0.0.1", description="address Flower listens on")
    flower_port: Annotated[int, Field(ge=1, le=65535)] = Field(5555, description="port Flower listens on")
    flower_auth: SecretStr | None = Field(None, description="user:password, needed beyond loopback")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="how much is logged")

    @model_validator(mode="after")
    def _heartbeats_keep_leases_alive(self) -> "Settings":
        if self.heartbeat * 2 > self.lease:
            raise ValueError("VOTEQUEUE_LEASE must be at least twice VOTEQUEUE_HEARTBEAT")
        return self

    @property
    def ledger(self) -> str:
        """Give the ledger's URL, password and all: for SQLAlchemy, never for a log."""
        if self.ledger_url is None or not self.ledger_url.get_secret_value():
            return f"sqlite:///{(self.home / 'ledger.db').resolve()}"
        # The driver is ours to choose: the plain scheme would mean one that is not installed.
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.ledger_url.get_secret_value())

    @property
    def broker(self) -> str:
        """Give the broker's URL, password and all: for Celery, never for a log."""
        return self.broker_url.get_secret_value()

    @property
    def trained_folder(self) -> Path:
        """Give the folder whose sub-folders are trained models."""
        return self.trained or self.home / "trained"

    @property
    def trained_mask(self) -> int:
        """Give the umask for trained models: what a team shares stays as open as its folder is."""
        return file_permissions.as_open_as(self.trained) if self.trained else file_permissions.ONLY_OWNER


@functools.cache
def load() -> Settings:
    """Read the environment once.

    Raises:
        UserError: a value that does not fit its setting, a name that is no setting, or an unreadable `.env`.
    """
    refuse_unknown([*os.environ, *_names_in_file(Path(DOTENV))])
    # An empty variable means "not set": compose files and .env lines cannot say None any other way.
    try:
        return Settings(_env_ignore_empty=True)  # type: ignore[call-arg]
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
    # Messages of our own validators are complete, and the input may be secret.
    return f"setting {name}: {message}" + (
        "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
    )


def _names_in_file(path: Path) -> list[str]:
    """Give the names that a `.env` sets.

    Raises:
        UserError: it cannot be read, or a line of it is no NAME=VALUE.
    """
    if not path.exists() or (path / "pyvenv.cfg").exists():  # some call their virtual environment so
        return []
    bindings = list(parse_stream(io.StringIO(text_files.read(path, MOST_DOTENV))))
    for binding in bindings:
        if binding.error:
            string = binding.original.string  # the empty lines before it belong to it
            line = binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")
            raise UserError(f"{path} line {line} is no NAME=VALUE: mend it, or put a # before it")
    return [binding.key for binding in bindings if binding.key]


# Options of runs that were settings once: what their names begin with, and the command that has them now.
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
        UserError: a ``VOTEQUEUE_`` variable that no setting has.
    """
    fields = [name.upper() for name in Settings.model_fields]
    for name in names:
        word = name.upper().removeprefix(PREFIX)
        if word != name.upper() and word not in fields:
            if command := next((of for start, of in _MOVED.items() if word.startswith(start)), None):
                raise UserError(f"{name} is no setting any more: see `votequeue enqueue {command} --help`")
            if other := RENAMED.get(word.lower()):
                raise UserError(f"{name} is called {PREFIX}{other.upper()} now")
            close = difflib.get_close_matches(word, fields, n=1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else "; .env.example lists them all"
            raise UserError(f"no setting is called {name}{hint}")
