"""Configure Baidu's SDK for a worker: our settings, no cache on disk, no secret in a log.

    config(settings, {"AK": "...", "SK": "..."})  ->  the SDK's own Config, read from no file

Version 0.4.12.3 is the SDK's last release, so its private parts that are used here will not change.
"""

import ast
import logging
import math
import re
import sys
from typing import Any

from shared import urls
from shared.errors import UserError
from shared.settings import PREFIX, Settings
from workers.providers import requests_errors

AUXILIARY = 10.0  # seconds for a token or the list of models: threads wait for these in turn
TOKENS_LAST = 60.0  # seconds within which the SDK does not ask for another token
# Headers with tokens at ERROR, signing keys at DEBUG.
_TALKATIVE = ("qianfan", "baidubce.auth.bce_v1_signer")
_CREDENTIALS = (
    "AK",
    "SK",
    "ACCESS_KEY",
    "SECRET_KEY",
    "ACCESS_TOKEN",
    "BEARER_TOKEN",
    "ACCESS_CODE",
    "APP_ID",
)


def config(settings: Settings, credentials: dict[str, str]) -> Any:
    """Build the SDK's settings for an account; the SDK reads none from files."""
    _load()
    from qianfan.config import Config
    from qianfan.consts import DefaultValue

    gateway = (settings.qianfan_url or "").rstrip("/")
    _use_proxies(not urls.stays_here(gateway))
    auxiliary = min(settings.call_timeout, AUXILIARY)
    values: dict[str, Any] = {
        **dict.fromkeys(_CREDENTIALS),
        **credentials,
        "BASE_URL": gateway or DefaultValue.BaseURL,
        "CONSOLE_API_BASE_URL": gateway or DefaultValue.ConsoleAPIBaseURL,
        "IAM_BASE_URL": gateway or DefaultValue.IAMBaseURL,
        "AUTH_TIMEOUT": auxiliary,
        "CONSOLE_API_RETRY_COUNT": 1,
        "CONSOLE_API_RETRY_TIMEOUT": math.ceil(auxiliary),
        "LLM_API_RETRY_COUNT": 1,
        # The SDK stores its cache as pickles in the home directory.
        "DISABLE_CACHE": True,
        "ENABLE_PRIVATE": False,
        "NO_AUTH": False,
        "V2_INFER_API_DOWNGRADE": False,
    }
    if "AK" in credentials or settings.qianfan_api == "v2":
        # With signed calls, this is the lifetime of the list of models, which stays an hour.
        values["ACCESS_TOKEN_REFRESH_MIN_INTERVAL"] = TOKENS_LAST
    return Config(_env_file=None, **values)  # type: ignore[call-arg]


def credentials(settings: Settings, pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Give the first pair of credentials that is set, by the SDK's names.

    Raises:
        UserError: none is set.
    """
    for pair in pairs:
        values = [getattr(settings, f"qianfan_{name.lower()}") for name in pair]
        if all(value is not None and value.get_secret_value() for value in values):
            return {name: value.get_secret_value() for name, value in zip(pair, values, strict=True)}
    required = ", or ".join(" and ".join(f"{PREFIX}QIANFAN_{name}" for name in pair) for pair in pairs)
    raise UserError(f"version {settings.qianfan_api} of provider qianfan needs {required}")


def _use_proxies(enabled: bool) -> None:
    """Switch the environment's proxies on or off for all sessions of the SDK, also those for tokens."""
    from qianfan.resources.http_client import HTTPClient

    client: Any = HTTPClient
    client._requests_proxy = lambda _: None if enabled else requests_errors.DIRECT


def answer_in(error: Exception) -> str:
    """Extract the service's answer from the message of an SDK error; the error has no field for it."""
    bodies: list[str] = re.findall(r"^response body: (b?['\"].*['\"])$", str(error), re.MULTILINE)
    try:
        body = ast.literal_eval(bodies[-1])
    except (IndexError, ValueError, SyntaxError):
        return ""
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body)


def use(config: Any) -> None:
    """Set the SDK's global settings; signing and the calls for tokens read only these."""
    from qianfan import config as module

    module._GLOBAL_CONFIG = config


# The public ChatCompletion requests the list of models when it is created; these private classes do not.
# `forcing_disable` switches the SDK's limiter off, which a header of any reply would switch on.


def chat_v1(model: str, config: Any) -> Any:
    """Build the SDK's client for a model behind version 1."""
    from qianfan.resources.llm.chat_completion import _ChatCompletionV1

    return _ChatCompletionV1(model=model, config=config, forcing_disable=True)


def chat_v2(model: str, config: Any) -> Any:
    """Build the SDK's client for a model behind version 2."""
    from qianfan.resources.llm.chat_completion import _ChatCompletionV2

    return _ChatCompletionV2(model=model, config=config, forcing_disable=True)


def _load() -> None:
    import qianfan

    # The SDK adds an import finder that supplies a fake pyarrow if none is installed: remove it.
    finders = [
        finder
        for finder in sys.meta_path
        if type(finder).__module__ != f"{qianfan.__name__}.fake_pyarrow_replacer"
    ]
    sys.meta_path[:] = finders
    requests_errors.silence(*_TALKATIVE)
    logging.getLogger("urllib3.connectionpool").addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    # URLs contain keys and tokens, and urllib3 logs URLs at DEBUG.
    if isinstance(record.args, tuple):
        record.args = tuple(
            re.sub(r"\?.*", "?...", value) if isinstance(value, str) else value for value in record.args
        )
    return True
