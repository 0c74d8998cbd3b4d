"""Baidu Qianfan's chat models through Baidu's SDK: API version 1 and the OpenAI-like version 2.

    QianfanChat(service, settings).complete(Prompt("……", 1024, 0.7))
        ->  Reply("……\\n答案是：B", Usage(640, 310))

The SDK looks up a model's endpoint, signs, and fetches tokens. Its retries and its own limiter stay off, so
that one call is one request to the model. `qianfan_sdk` restricts the SDK's behaviour and logging.
"""

import json
from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from shared.errors import (
    Barred,
    Exhausted,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.providers import PROVIDERS
from shared.settings import PREFIX, Settings
from workers.ports import Prompt, Reply, Service
from workers.providers import completion_parser, openai, openai_errors, proxies, qianfan_sdk, requests_errors

NAME = "Qianfan"
OWN_URL = "https://aip.baidubce.com"  # of version 1; all of Baidu's hosts are below baidubce.com
COOLEST, HOTTEST = 0.01, 1.0  # version 1 accepts temperatures above 0, up to 1
SHORTEST = 2  # tokens: the minimum of max_output_tokens
_KEYS, _ACCESS_KEYS = ("AK", "SK"), ("ACCESS_KEY", "SECRET_KEY")

# Version 1's codes (cloud.baidu.com/doc/WENXINWORKSHOP/s/tlmyncueh; those per minute: s/hlzic283e).
_THROTTLED = {4, 18, 336501, 336502}
_DAY_USED_UP = 17
_BARRED = {
    6: "give the application this model in Baidu's console",
    13: "check {}",
    14: "check {}",
    15: "check in Baidu's console that the application of {} exists",
    19: "the total quota is used up: buy more in Baidu's console",
    100: "check {}",
}
_REFUSED = {3, *range(336001, 336008), *range(336101, 336106)}


class _Expired(Exception):
    """The service no longer accepts the token."""


class _Qianfan(ABC):
    """The common part of both API versions: the SDK's client, its token, and the steps of a call."""

    def __init__(self, service: Service, settings: Settings, pairs: tuple[tuple[str, str], ...]) -> None:
        self._service = service
        self._timeout = settings.call_timeout
        credentials = qianfan_sdk.credentials(settings, pairs)
        self._setting_names = " and ".join(f"{PREFIX}QIANFAN_{name}" for name in credentials)
        self._secrets = tuple(credentials.values())
        self._url = settings.qianfan_url or OWN_URL
        self._host = urlsplit(settings.qianfan_url or "").hostname or "Baidu"
        self._config = proxies.build_client(NAME, lambda: qianfan_sdk.config(settings, credentials))
        qianfan_sdk.use(self._config)
        self._client = proxies.build_client(NAME, self._build_client)
        requests_errors.widen(self._client._client._client._session, settings.calls_in_flight)
        # By default, the SDK calls the model again after a token has expired.
        self._client._client._retry_if_token_expired = lambda ask: ask
        self._auth = self._client._client._auth

    @property
    def service(self) -> Service:
        """Give the service that the model belongs to."""
        return self._service

    def complete(self, prompt: Prompt) -> Reply:
        """Answer one message, in one call; raises as `ports.ChatModel.complete`."""
        # Parts of the SDK read its global settings instead of the client's.
        qianfan_sdk.use(self._config)
        token = requests_errors.map_errors(self._token, self._no_token)
        try:
            body = requests_errors.map_errors(
                lambda: self._ask(prompt), lambda error: self._failure(error, token)
            )
        except _Expired:
            raise self._renewed(token) from None
        if not isinstance(body, dict):
            raise Unreadable(f"{NAME}'s answer is not a JSON object")
        return self._read(body, prompt)

    @abstractmethod
    def _build_client(self) -> Any:
        """Build the SDK's client."""

    @abstractmethod
    def _current_token(self) -> str:
        """Give the SDK's token for the next call, if it has one; an old token is renewed."""

    @abstractmethod
    def _renew(self) -> None:
        """Let the SDK fetch another token."""

    @abstractmethod
    def _ask(self, prompt: Prompt) -> Any:
        """Make the call; return the reply's JSON."""

    @abstractmethod
    def _code(self, code: object, message: str) -> Exception:
        """Map an error code of the service to an error of ours."""

    @abstractmethod
    def _read(self, body: dict[str, Any], prompt: Prompt) -> Reply:
        """Parse the model's answer from the reply."""

    def _token(self) -> str:
        token = self._current_token()
        if not token:
            # After a failed exchange, the SDK does not retry by itself.
            self._renew()
            token = self._current_token()
        if not token:
            raise Unavailable(f"{NAME} returned no token")
        return token

    def _failure(self, error: Exception, token: str) -> Exception:
        from qianfan import errors

        match error:
            case errors.AccessTokenExpiredError() | errors.BearerTokenExpiredError():
                return _Expired()
            case errors.APIError():
                # The SDK's own addition contains a part of our key.
                message = str(error.error_msg).partition(" 可能的原因")[0]
                return self._code(error.error_code, openai_errors.quoted(self._hidden(message, token)))
            case errors.RequestError() if error.status_code is not None:
                return self._http(error, token)
            case errors.RequestError():
                return Unreadable(f"{NAME}'s answer is not JSON")
            case errors.InvalidArgumentError():
                return Refused(f"{NAME}'s SDK knows no model {self._service.model!r}: check --model")
        return requests_errors.failure(error, NAME, self._url)

    def _http(self, error: Any, token: str) -> Exception:
        text = self._hidden(qianfan_sdk.answer_in(error), token)
        if "unsafe" in text:
            return Refused(f"{NAME}'s content filter refuses the request: {openai_errors.quoted(text)}")
        if error.status_code == 401:
            refused = f"{NAME} does not let us call {self._service.model} (401)"
            return _Expired() if "iam_token" in text else self._barred(refused, "check {} and their rights")
        headers = {str(name).lower(): str(value) for name, value in dict(error.headers or {}).items()}
        return openai_errors.judge(
            openai_errors.ErrorAnswer(error.status_code, headers, text), self._service, self._host
        )

    def _no_token(self, error: Exception) -> VotequeueError:
        from qianfan import errors

        match error:
            case VotequeueError():
                return error
            case errors.AuthError():
                return self._barred(f"{NAME} does not accept our credentials", "check {}")
            case errors.RequestError() if error.status_code in range(400, 500) and error.status_code != 429:
                return self._barred(f"{NAME} gives us no token ({error.status_code})", "check {}")
            case errors.APIError():
                return self._barred(f"{NAME} gives us no token (code {error.error_code})", "check {}")
        failure = requests_errors.failure(error, NAME, self._url)
        if isinstance(failure, UserError):
            return failure
        # The model has not been called yet, so nothing can have been charged.
        return Unavailable(f"no token could be obtained: {failure}")

    def _renewed(self, expired: str) -> VotequeueError:
        requests_errors.map_errors(self._renew, self._no_token)
        if requests_errors.map_errors(self._token, self._no_token) == expired:
            return self._barred(f"{NAME} refuses the token that it has just issued", "check {}")
        return Unavailable(f"the token for {NAME} had expired and was renewed")

    def _barred(self, message: str, remedy: str) -> Barred:
        return Barred(f"{message}; {remedy.format(self._setting_names)}, {openai_errors.AGAIN}")

    def _hidden(self, message: str, token: str) -> str:
        return requests_errors.hidden(message, (*self._secrets, token))


class QianfanChat(_Qianfan):
    """A chat model behind version 1, with an application's keys (AK, SK) or an account's access keys."""

    def __init__(self, service: Service, settings: Settings) -> None:
        super().__init__(service, settings, (_KEYS, _ACCESS_KEYS))
        models = {name.lower(): model for name, model in self._client._local_models().items()}
        entry = models.get(service.model.lower())
        self._takes_length = entry is not None and "max_output_tokens" in entry.optional_keys
        self._signed = self._config.AK is None

    def _build_client(self) -> Any:
        return qianfan_sdk.chat_v1(self._service.model, self._config)

    def _token(self) -> str:
        return "" if self._signed else super()._token()

    def _current_token(self) -> str:
        return str(self._auth.access_token())

    def _renew(self) -> None:
        self._auth.refresh_access_token()

    def _ask(self, prompt: Prompt) -> Any:
        length = {"max_output_tokens": max(SHORTEST, prompt.max_tokens)} if self._takes_length else {}
        return self._client.do(
            [{"role": "user", "content": prompt.text}],
            retry_count=1,
            request_timeout=self._timeout,
            temperature=min(max(prompt.temperature, COOLEST), HOTTEST),
            **length,
        ).body

    def _code(self, code: object, message: str) -> Exception:
        number = int(code) if str(code).isdigit() else -1  # type: ignore[call-overload]
        problem = f"{NAME}: code {code}: {message}"
        if number in _THROTTLED:
            return Throttled(problem)
        if number == _DAY_USED_UP:
            zone = PROVIDERS[self._service.provider].timezone
            why = f"the day's quota is used up until midnight in {zone}, or the account is in arrears"
            return Exhausted(f"{problem} ({why})", openai_errors.until_midnight(zone))
        if number in _BARRED:
            return self._barred(problem, _BARRED[number])
        return Refused(problem) if number in _REFUSED else Unavailable(problem)

    def _read(self, body: dict[str, Any], prompt: Prompt) -> Reply:
        if "result" not in body and "code" in body:
            # The documented form of rate limit errors, which the SDK does not detect.
            raise self._code(body["code"], openai_errors.quoted(str(body.get("msg"))))
        if body.get("need_clear_history") or body.get("flag") or body.get("is_safe") in (0, False):
            raise Refused(f"{NAME}'s content filter stopped the question or its answer")
        return _reply(body.get("result"), body, prompt)


class QianfanV2Chat(_Qianfan):
    """A chat model behind version 2, with an account's access keys."""

    def __init__(self, service: Service, settings: Settings) -> None:
        super().__init__(service, settings, (_ACCESS_KEYS,))

    def _build_client(self) -> Any:
        return qianfan_sdk.chat_v2(self._service.model, self._config)

    def _current_token(self) -> str:
        return str(self._auth.bearer_token())

    def _renew(self) -> None:
        self._auth.refresh_bearer_token()

    def _ask(self, prompt: Prompt) -> Any:
        return self._client.do(
            [{"role": "user", "content": prompt.text}],
            model=self._service.model,
            retry_count=1,
            request_timeout=self._timeout,
            temperature=max(prompt.temperature, COOLEST),
            max_tokens=prompt.max_tokens,
        ).body

    def _code(self, code: object, message: str) -> Exception:
        # An error in an answer of status 200: use the documented status of its code.
        statuses = {"rate_limit": 429, "internal": 500, "iam_token": 401, "permission": 401}
        status = next((status for part, status in statuses.items() if part in str(code)), 400)
        if "unsafe" in str(code):
            return Refused(f"{NAME}'s content filter refuses the request: {message}")
        if status == 401 and "token" in str(code):
            return _Expired()
        text = json.dumps({"error": {"code": str(code), "message": message}})
        return openai_errors.judge(openai_errors.ErrorAnswer(status, {}, text), self._service, self._host)

    def _read(self, body: dict[str, Any], prompt: Prompt) -> Reply:
        choice = completion_parser.first(body)
        if choice is None:
            raise Unreadable(f"{NAME}'s answer has no choices")
        if choice.get("flag"):
            raise Refused(f"{NAME}'s content filter stopped the question or its answer")
        if completion_parser.finish_reason(choice) in completion_parser.FAILED:
            raise Unreadable(f"{NAME} broke the reply off ({completion_parser.finish_reason(choice)})")
        return _reply(completion_parser.text(choice, self._host, prompt.max_tokens), body, prompt)


def _reply(text: object, body: dict[str, Any], prompt: Prompt) -> Reply:
    if not isinstance(text, str) or not text.strip():
        raise Unreadable(f"{NAME}'s answer is empty")
    return Reply(text, openai.usage(body.get("usage"), prompt.text, text))


def chat(service: Service, settings: Settings) -> "QianfanChat | QianfanV2Chat":
    """Build a client for the version of the API that the settings name."""
    return (QianfanV2Chat if settings.qianfan_api == "v2" else QianfanChat)(service, settings)
