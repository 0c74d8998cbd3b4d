"""Chat with any OpenAI-compatible endpoint: DashScope, DeepSeek, Hunyuan, a local `vllm serve`.

    OpenAIChat(service, "https://api.deepseek.com/v1", key, 120.0).complete(Prompt("……", 1024, 0.7))
        ->  Reply("……\\n答案是：B", Usage(640, 310))

One call is one request. The gateway decides on retries; `openai_errors` maps errors to ours.
"""

import json
import ssl
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared import token_bounds, urls
from shared.errors import (
    Barred,
    Held,
    NoReply,
    Refused,
    Unavailable,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.providers import Usage
from shared.settings import Settings
from workers.ports import Prompt, Reply, Service
from workers.providers import (
    completion_parser,
    error_details,
    openai_errors,
    proxies,
    requests_errors,
    unsupported_parameters,
)
from workers.providers.error_details import ErrorAnswer
from workers.providers.openai_errors import Refusals

if TYPE_CHECKING:
    import openai

MOST_TOKENS = 10**8  # maximum plausible tokens of a call
CONNECTING = 10.0  # seconds to connect
_LIMITS_OF_LENGTH = ("max_tokens", "max_completion_tokens")
RENAMED = 1.0  # seconds until a question is retried with a parameter's other name
# Exceptions by name, since the SDK chooses its HTTP library.
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout"}
_OF_THIS_MACHINE = {
    "ProxyError",
    "LocalProtocolError",
    "UnsupportedProtocol",
    "InvalidURL",
    "TooManyRedirects",
}
_NO_EXTRA: Mapping[str, object] = {}
_TUNING = ("temperature", "top_p", "n", "stop", "seed")  # what a model may reject
_R = TypeVar("_R")

LOCAL_TIMEOUT = 900.0  # seconds: on a laptop's two cores, a long reply takes minutes under load


class OpenAIChat:
    """A chat model at an OpenAI-compatible endpoint; thread-safe, with a shared connection pool.

    ``extra`` are additional fields of every request: they override our own, and null removes a field.

    Raises:
        UserError: the key is invalid, or no client can be built for the endpoint.
    """

    def __init__(
        self,
        service: Service,
        base_url: str,
        api_key: SecretStr | None,
        timeout: float,
        extra: Mapping[str, object] = _NO_EXTRA,
    ) -> None:
        self._service = service
        self._timeout = timeout
        self._key = _key(api_key)
        self._url = base_url
        self._host = urlsplit(base_url).hostname or base_url
        self._extra = extra
        self._length = "max_tokens"  # the service's name for the limit of a reply
        self._refusals = Refusals()
        self._client = proxies.build_client(self._host, self._build_client)
        # The SDK imports this on first use, which must not delay the first call.
        self._completions = self._client.chat.completions

    @classmethod
    def of_chat(cls, service: Service, settings: Settings) -> Self:
        """Build a client of provider chat, for the endpoint in the settings."""
        extra = settings.chat_extra
        return cls(service, settings.chat_base_url or "", settings.chat_api_key, settings.call_timeout, extra)

    @classmethod
    def of_local(cls, service: Service, settings: Settings) -> Self:
        """Build a client of provider local, for the server at VOTEQUEUE_LOCAL_URL."""
        return cls(service, settings.local_url, None, max(settings.call_timeout, LOCAL_TIMEOUT))

    @property
    def service(self) -> Service:
        """Give the service that the model belongs to."""
        return self._service

    def complete(self, prompt: Prompt) -> Reply:
        """Answer one message, in one request."""
        fields = {
            "messages": [{"role": "user", "content": prompt.text}],
            self._length: prompt.max_tokens,
            "temperature": prompt.temperature,
        }

        def read(body: dict[str, Any], choice: dict[str, Any]) -> Reply:
            text = completion_parser.text(choice, self._host, prompt.max_tokens)
            return Reply(text, usage(body.get("usage"), prompt.text, text))

        return self._call(self._request(fields), prompt, read)

    def _call(
        self,
        request: dict[str, Any],
        prompt: Prompt,
        read: Callable[[dict[str, Any], dict[str, Any]], _R],
    ) -> _R:
        """Send a request; ``read`` gets the reply's object and its first choice."""
        answer = self._ask(request)
        if isinstance(answer, VotequeueError):
            raise answer
        if answer.status >= 400:
            raise self._map_error(answer, request)
        try:
            reply = read(*self._read(answer, request))
        except VotequeueError as error:
            error.used = _reported_usage(answer.text, prompt.text)
            raise
        self._refusals.forget()
        return reply

    def _build_client(self) -> "openai.OpenAI":
        import openai

        timeout = openai.Timeout(self._timeout, connect=min(CONNECTING, self._timeout))
        direct = None
        if urls.stays_here(self._url):
            direct = openai.DefaultHttpxClient(trust_env=False)
            # The SDK closes only its own clients.
            weakref.finalize(self, direct.close)
        return openai.OpenAI(
            base_url=self._url,
            api_key=self._key.get_secret_value() or "none",
            timeout=timeout,
            max_retries=0,
            http_client=direct,
        )

    def _ask(self, request: dict[str, Any]) -> ErrorAnswer | VotequeueError:
        # Errors are returned, not raised: raised here, they would chain the SDK's errors, which include the
        # request's headers.
        import openai

        try:
            return self._exchange(request)
        except openai.APIStatusError as error:
            response = error.response
            return self._answer(error.status_code, dict(response.headers), response.text)
        except openai.APITimeoutError as error:
            return self._connection_error(error, "timed out")
        except openai.APIConnectionError as error:
            return self._connection_error(error, "was cut")
        except openai.OpenAIError as error:
            return Unavailable(f"the call to {self._host} failed in the SDK ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001  the HTTP library rejects the address or a header
            return _invalid_text(request) or proxies.unreachable(self._host, type(error).__name__)

    def _request(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in fields.items() if name not in self._extra}
        return {
            "model": self._service.model,
            **own,
            "extra_body": {name: value for name, value in self._extra.items() if value is not None},
        }

    def _exchange(self, request: dict[str, Any]) -> ErrorAnswer | VotequeueError:
        deadline = time.monotonic() + self._timeout
        with self._resource(request).with_streaming_response.create(**request) as response:
            body = bytearray()
            try:
                for part in response.iter_bytes():
                    body += part
                    # Some services send blank lines while they think, so that no read times out.
                    if time.monotonic() > deadline:
                        return NoReply(f"{self._host} did not finish its reply in {self._timeout:g} s")
            except Exception as error:  # noqa: BLE001  after any error, the reply is incomplete
                return NoReply(f"the reply of {self._host} broke off ({type(error).__name__})")
            return self._answer(
                response.status_code, dict(response.headers), body.decode("utf-8", errors="replace")
            )

    def _resource(self, request: dict[str, Any]) -> Any:
        """Give the SDK's part for a request."""
        return self._client.completions if "prompt" in request else self._completions

    def _answer(self, status: int, headers: dict[str, str], text: str) -> ErrorAnswer:
        shown = requests_errors.hidden(text, [self._key.get_secret_value()])
        return ErrorAnswer(status, {name.lower(): value for name, value in headers.items()}, shown)

    def _connection_error(self, error: "openai.APIConnectionError", how: str) -> VotequeueError:
        cause = error.__cause__
        name = type(cause).__name__
        if name in _OF_THIS_MACHINE or _is_tls_error(cause):
            return proxies.unreachable(self._host, name)
        if name in _NEVER_SENT and proxies.apply_to(self._url):
            return proxies.unreachable(self._host, f"{name} at a proxy")
        if name in _NEVER_SENT:
            hint = ": is `votequeue serve` running?" if self._service.provider == "local" else ""
            return Unavailable(f"cannot connect to {self._host} ({name}){hint}")
        return NoReply(f"the call to {self._host} {how} ({name})")

    def _map_error(self, answer: ErrorAnswer, request: dict[str, Any]) -> VotequeueError:
        """Map an error response, considering the request and earlier calls."""
        sent = [name for name in (*_LIMITS_OF_LENGTH, *_TUNING) if name in request]
        error = openai_errors.judge(answer, self._service, self._host, self._extra, sent)
        if (
            isinstance(error, Barred)
            and not error.whole
            and unsupported_parameters.renamed(error_details.read(answer), sent)
        ):
            self._length = "max_completion_tokens"
            # An immediate retry would bypass the caller's limits.
            return Held(
                f"the model requires {self._length} instead of max_tokens: the call is retried with it",
                RENAMED,
            )
        if isinstance(error, openai_errors.Unclear):
            return self._refusals.weigh(error, _prompt_text(request), self._service)
        return error

    def _read(self, answer: ErrorAnswer, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        body = self._body(answer)
        choice = completion_parser.first(body)
        if body.get("error") or (choice is None and error_details.is_error(body)):
            raise self._map_error(answer, request)
        if choice is None:
            raise Unreadable(f"the reply of {self._host} has no choices")
        if choice.get("error") or completion_parser.finish_reason(choice) in completion_parser.FAILED:
            raise self._mid_reply_error(choice, answer, request)
        return body, choice

    def _body(self, answer: ErrorAnswer) -> dict[str, Any]:
        body = _object(answer.text)
        if body is None:
            raise Unreadable(
                f"the reply of {self._host} is not a JSON object: {error_details.quoted(answer.text)!r}"
            )
        return body

    def _mid_reply_error(
        self, choice: dict[str, Any], answer: ErrorAnswer, request: dict[str, Any]
    ) -> VotequeueError:
        inside = choice.get("error") or f"the reply ended with {completion_parser.finish_reason(choice)!r}"
        within = ErrorAnswer(answer.status, answer.headers, json.dumps({"error": inside}))
        error = self._map_error(within, request)
        # The service has begun to answer, and may charge for it.
        return Unreadable(str(error)) if type(error) is Unavailable else error


def _prompt_text(request: dict[str, Any]) -> str:
    if "input" in request:
        return "\n".join(request["input"])
    if "prompt" in request:
        return str(request["prompt"])
    return "\n".join(str(message["content"]) for message in request["messages"])


def _invalid_text(request: dict[str, Any]) -> Refused | None:
    try:
        _prompt_text(request).encode()
    except UnicodeEncodeError:
        return Refused("the question has invalid characters (lone surrogates)")
    return None


def _is_tls_error(error: BaseException | None) -> bool:
    """Tell whether a connection failed because of its certificate, or because the server has no TLS."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        error = error.__cause__ or error.__context__
    return False


def _key(secret: SecretStr | None) -> SecretStr:
    key = secret.get_secret_value().strip() if secret else ""
    # The HTTP library would reject such a header, and quote it.
    if not (key.isascii() and key.isprintable()):
        raise UserError("VOTEQUEUE_CHAT_API_KEY has characters that no key contains: copy it again")
    return SecretStr(key)


def _object(text: str) -> dict[str, Any] | None:
    body = error_details.parsed(text)
    if isinstance(body, list) and len(body) == 1:  # Gemini sends its errors so
        body = body[0]
    return body if isinstance(body, dict) else None


def usage(value: object, prompt: str, text: str) -> Usage:
    """Read a call's usage; an omitted count becomes its upper bound, since it may be charged."""
    counts = value if isinstance(value, dict) else {}
    prompt_tokens, reply_tokens, total = (
        _count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if prompt_tokens and reply_tokens and total:
        # Some services include thinking tokens in the total only.
        reply_tokens = max(reply_tokens, total - prompt_tokens)
    return Usage(prompt_tokens or token_bounds.message(prompt), reply_tokens or token_bounds.tokens(text))


def _reported_usage(answer: str, prompt: str) -> tuple[int, int] | None:
    """Read the usage of a call whose reply is unusable, if the service reports it."""
    value = (_object(answer) or {}).get("usage")
    if not isinstance(value, dict) or not _count(value.get("completion_tokens")):
        return None
    used = usage(value, prompt, "")
    return used.input_tokens, used.output_tokens


def _count(value: object) -> int | None:
    # Services that do not count report 0, which no prompt or reply can have.
    return int(value) if isinstance(value, int | float) and 1 <= value <= MOST_TOKENS else None
