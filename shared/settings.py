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


class Settings(BaseSettings):
    """All settings; each field's description is its documentation (`.env.example` carries it too)."""

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

    # Answering: defaults of a run, stored with it when it is enqueued
    votes: Count = Field(5, description="votes a question and round")
    max_attempts: Count = Field(5, description="rounds of sampling before the fallback answers")
    max_tokens: Count = Field(1024, description="longest vote, in tokens")
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(0.7, description="sampling temperature")
    top_p: Share = Field(
        1.0, description="nucleus sampling: probability mass kept; 1: all, much faster on CPUs"
    )
    seed: int | None = Field(None, description="seed of the sampling, on GPUs only; empty: each run differs")
    fallback: Literal["majority", "constant"] = Field(
        "majority",
        description="when no vote was ever accepted: the majority of all letters read, or the constant A",
    )
    reader: str = Field(
        "conclusion",
        description="how a letter is read: conclusion (the last statement of an answer), reference (the "
        "first 答案是：X, before any sign of a new problem)",
    )
    scorer: str = Field(
        "in-use",
        description="scorer that judges: in-use (as `votequeue models` says), none, or a model's name",
    )
    lora: str = Field("in-use", description="LoRA adapter of the generator: in-use, none, or a model's name")
    use: Literal["auto", "majority", "gate", "weighted", "gate-weighted"] = Field(
        "auto",
        description="what scores are used for: gate (a vote below the threshold is void), weighted (a vote "
        "counts as much as its odds), gate-weighted, majority (nothing); auto: as the scorer found best",
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="score from which a vote is accepted; empty: as the scorer found best"
    )
    neighbours: Annotated[int, Field(ge=0)] = Field(2, description="solved examples shown in a prompt")
    siblings: bool = Field(
        False,
        description="let the examples be about the question's own problem: better answers where a part of a "
        "problem is solved, but votes that say nothing of new problems",
    )

    # Retrieval
    embedding: str = Field(
        "static",
        description="sentence-transformers folder or hub id; static: the generator's own token embeddings",
    )

    # Training: what is left empty is the recipe's
    report_to: str = Field(
        "", description="trackers that trainings report to, as transformers names them: wandb,tensorboard"
    )
    checkpoint_every: Seconds = Field(300, description="seconds between a training's checkpoints")
    scorer_recipe: Literal["verifier", "reference"] = Field(
        "verifier", description="recipe that scorers are trained by: verifier is ours, reference its baseline"
    )
    scorer_base: str | None = Field(None, description="weights to train scorers from; empty: generator")
    scorer_input: Literal["reasoning", "question+reasoning", "question+answer"] | None = Field(
        None, description="text the scorer is fed; stored with the model"
    )
    scorer_objective: Literal["classification", "pairwise"] | None = Field(
        None,
        description="what scorers learn: right or wrong (classification), or which of two votes is right "
        "(pairwise)",
    )
    scorer_tune: Literal["all", "lora", "head"] | None = Field(
        None,
        description="what of the scorer is trained: all of it, LoRA adapters, or a head on frozen layers",
    )
    scorer_layers: Annotated[float, Field(gt=0)] | None = Field(
        None, description="keep this many layers, or below 1 this share of them"
    )
    scorer_freeze_embeddings: bool | None = Field(
        None, description="leave the token embeddings as they are (CPUs: three times as fast)"
    )
    scorer_balance: bool | None = Field(
        None, description="learn from as many right as wrong texts of each question"
    )
    scorer_calibrate: bool | None = Field(
        None, description="fit scores to what was right on the held-out part, and choose thresholds there"
    )
    scorer_epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="passes over the training data"
    )
    scorer_max_steps: Count | None = Field(None, description="steps after which training ends early")
    scorer_learning_rate: Annotated[float, Field(gt=0)] | None = Field(None, description="peak learning rate")
    scorer_batch_size: Count | None = Field(None, description="texts (or pairs) a training step")
    scorer_accumulation: Count | None = Field(None, description="batches a training step")
    scorer_max_length: Count | None = Field(None, description="longest text the scorer reads, in tokens")
    scorer_optimizer: str | None = Field(
        None, description="transformers optimiser name: lomo, adamw_torch, ..."
    )
    scorer_held_out: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of entries held out"
    )
    scorer_seed: int | None = Field(None, description="seed of training and of the held-out split")
    lora_base: str | None = Field(None, description="weights to train adapters for; empty: generator")
    lora_rank: Count = Field(8, description="rank of an adapter")
    lora_alpha: Count = Field(32, description="scale of an adapter, over its rank")
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout while training one")
    lora_targets: str = Field(
        "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", description="layers that are adapted"
    )
    lora_per_question: Count = Field(4, description="right texts of a question that are learned from")
    lora_epochs: Annotated[float, Field(gt=0)] = Field(12, description="passes over the training data")
    lora_max_steps: Count | None = Field(None, description="steps after which training ends early")
    lora_learning_rate: Annotated[float, Field(gt=0)] = Field(2e-4, description="peak learning rate")
    lora_batch_size: Count = Field(1, description="texts at once")
    lora_accumulation: Count = Field(2, description="batches a training step")
    lora_max_length: Count = Field(1024, description="longest prompt with its completion, in tokens")
    lora_optimizer: str = Field("adamw_torch", description="transformers optimiser name")
    lora_held_out: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="share of entries held out")
    lora_seed: int = Field(42, description="seed of training and of the held-out split")

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
        "per_second, per_minute, per_day, tokens_per_minute, at_once, characters, texts",
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

    # Reasoning data
    reason_asks: Count = Field(
        3, description="times each model is asked for a reasoning with the right letter"
    )
    reason_max_tokens: Count = Field(1024, description="longest reasoning, in tokens")
    reason_temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        0.7, description="sampling temperature of reasonings"
    )

    # Augmentation
    language: str = Field("zh", description="language of the data")
    pivot: str = Field("ja", description="language that back-translation goes through")
    translate_skip: str = Field(
        "翻译|译成|译为|[Tt]ranslat",
        description="regular expression: entries that have it are not translated",
    )
    shortest: Share = Field(0.4, description="shortest a text may come back, as a share of its length")
    longest: Annotated[float, Field(ge=1)] = Field(2.5, description="longest a text may come back, likewise")
    synonym_share: Share = Field(1.0, description="share of the replaceable words that are replaced")
    synonym_seed: int = Field(42, description="seed of the choice of words and synonyms")
    variant_samples: Count = Field(5, description="times a variant is answered to check its letter")
    variant_agree: Count = Field(4, description="of those, how many must give its letter")
    near_copy: Share = Field(0.97, description="embedding similarity from which a variant is a copy")

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
        # Its text is about fields and sources; what is wrong with the value, its cause knows.
        field = re.search(r'field "(\w+)"', str(error))
        name = PREFIX + (field[1].upper() if field else "?")
        raise UserError(f"setting {name}: not JSON ({error.__cause__})") from None
    except ValidationError as error:
        raise UserError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"settings: {said}"
    name = " ".join([PREFIX + str(first["loc"][0]).upper(), *map(str, first["loc"][1:])])
    # Our own checks say all there is to say, and what they look at may be secret.
    return f"setting {name}: {said}" + (
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


def refuse_unknown(names: Iterable[str]) -> None:
    """Stop at a misspelt setting, which would otherwise be silently ignored.

    Raises:
        UserError: a ``VOTEQUEUE_`` variable that no setting has.
    """
    known = [name.upper() for name in Settings.model_fields]
    for name in names:
        word = name.upper().removeprefix(PREFIX)
        if word != name.upper() and word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else "; .env.example lists them all"
            raise UserError(f"no setting is called {name}{hint}")
