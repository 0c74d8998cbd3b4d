"""Chat with any OpenAI-compatible endpoint: DashScope, DeepSeek, Hunyuan, a local `vllm serve`.

    OpenAIChat(service, "https://api.deepseek.com/v1", key, 120.0).complete(Prompt("……", 1024, 0.7))
        ->  Reply("……\\n答案是：B", Usage(640, 310))

One call is one request; whether it is made again is the desk's business, what a "no" means `failures`'.
"""

import json
import time
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from pydantic import SecretStr

from shared import bounds
from shared.errors import NoReply, Refused, Unavailable, Unreadable, UserError, VotequeueError
from shared.providers import Usage
from workers.ports import Prompt, Reply, Service
from workers.providers import failures, transport
from workers.providers.failures import Answer

if TYPE_CHECKING:
    import openai

MOST_COUNTED = 10**8  # tokens of a call: what is more is no count
CONNECTING = 10.0  # seconds for a connection to stand
# By name, since the library that carries the requests is the SDK's business.
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "LocalProtocolError"}


class OpenAIChat:
    """A chat model at an OpenAI-compatible endpoint; threads may share it, and with it its connections.

    Raises:
        UserError: the key cannot be one.
    """

    def __init__(self, service: Service, base_url: str, api_key: SecretStr | None, timeout: float) -> None:
        import openai

        self._service = service
        self._timeout = timeout
        self._key = _key(api_key)
        self._host = urlsplit(base_url).hostname or base_url
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=self._key.get_secret_value() or "none",
            timeout=openai.Timeout(timeout, connect=min(CONNECTING, timeout)),
            max_retries=0,
        )
        # The SDK imports this when it is first used, which must not delay the first call.
        self._completions = self._client.chat.completions

    @property
    def service(self) -> Service:
        """Say what it is."""
        return self._service

    def complete(self, prompt: Prompt) -> Reply:
        """Answer one message, in one request."""
        answer = self._ask(prompt)
        if isinstance(answer, VotequeueError):
            raise answer
        if answer.status >= 400:
            raise failures.judge(answer, self._service, self._host)
        try:
            return self._read(answer, prompt)
        except VotequeueError as error:
            error.used = _charged(answer.text, prompt.text)
            raise

    def _ask(self, prompt: Prompt) -> Answer | VotequeueError:
        # Errors are given back, not raised: raised here they would carry the SDK's own along, and with it
        # the request's headers.
        import openai

        try:
            return self._exchange(prompt)
        except openai.APIStatusError as error:
            response = error.response
            return self._answer(error.status_code, dict(response.headers), response.text)
        except openai.APITimeoutError as error:
            return self._lost(error, "timed out")
        except openai.APIConnectionError as error:
            return self._lost(error, "was cut")
        except openai.OpenAIError as error:
            return Unavailable(f"the call to {self._host} failed in the SDK ({type(error).__name__})")

    def _exchange(self, prompt: Prompt) -> Answer | VotequeueError:
        deadline = time.monotonic() + self._timeout
        asked = self._completions.with_streaming_response.create(
            model=self._service.model,
            messages=[{"role": "user", "content": prompt.text}],
            max_tokens=prompt.max_tokens,
            temperature=prompt.temperature,
        )
        with asked as response:
            body = bytearray()
            try:
                for part in response.iter_bytes():
                    body += part
                    # Some services send blank lines while they think, which no time-out of a read notices.
                    if time.monotonic() > deadline:
                        return NoReply(f"{self._host} did not finish its reply in {self._timeout:g} s")
            except Exception as error:  # noqa: BLE001  whatever it is, the reply did not come whole
                return NoReply(f"the reply of {self._host} broke off ({type(error).__name__})")
            return self._answer(
                response.status_code, dict(response.headers), body.decode("utf-8", errors="replace")
            )

    def _answer(self, status: int, headers: dict[str, str], text: str) -> Answer:
        shown = transport.hidden(text, [self._key.get_secret_value()])
        return Answer(status, {name.lower(): value for name, value in headers.items()}, shown)

    def _lost(self, error: "openai.APIConnectionError", how: str) -> Unavailable:
        cause = type(error.__cause__).__name__
        if cause in _NEVER_SENT:
            hint = ": is `votequeue serve` running?" if self._service.provider == "local" else ""
            return Unavailable(f"cannot connect to {self._host} ({cause}){hint}")
        return NoReply(f"the call to {self._host} {how} ({cause})")

    def _read(self, answer: Answer, prompt: Prompt) -> Reply:
        body = _object(answer.text)
        if body is None:
            raise Unreadable(f"the reply of {self._host} is no JSON object: {failures.quoted(answer.text)!r}")
        choice = _first(body.get("choices"))
        if choice is None:
            if body.get("error"):
                raise failures.judge(answer, self._service, self._host)
            raise Unreadable(f"the reply of {self._host} has no choices")
        ended = choice.get("finish_reason")
        if ended in ("content_filter", "sensitive"):
            raise Refused(f"the content filter of {self._host} held the reply back")
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        if not isinstance(text, str) or not text.strip():
            self._complain_of_nothing(ended, prompt)
        return Reply(text, usage(body.get("usage"), prompt.text, text))

    def _complain_of_nothing(self, ended: object, prompt: Prompt) -> NoReturn:
        spent = f": all {prompt.max_tokens} tokens were used up before it began" if ended == "length" else ""
        raise Unreadable(f"the reply of {self._host} is empty{spent}")


def _key(given: SecretStr | None) -> SecretStr:
    key = given.get_secret_value().strip() if given else ""
    # The HTTP library would refuse such a header, and quote it.
    if not (key.isascii() and key.isprintable()):
        raise UserError("VOTEQUEUE_CHAT_API_KEY has characters that no key has: copy it again")
    return SecretStr(key)


def _object(text: str) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _first(choices: object) -> dict[str, Any] | None:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def usage(told: object, prompt: str, text: str) -> Usage:
    """Read what a call used; what the service does not tell is bounded, since it may be charged."""
    counts = told if isinstance(told, dict) else {}
    asked, answered, total = (
        _count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if asked and answered and total:
        # Some services count what a model thinks in the total only.
        answered = max(answered, total - asked)
    return Usage(asked or bounds.message(prompt), answered or bounds.tokens(text))


def _charged(answer: str, prompt: str) -> tuple[int, int] | None:
    """Read what a call used whose reply is of no use, if the service tells."""
    told = (_object(answer) or {}).get("usage")
    if not isinstance(told, dict) or not _count(told.get("completion_tokens")):
        return None
    used = usage(told, prompt, "")
    return used.input_tokens, used.output_tokens


def _count(told: object) -> int | None:
    # A service that counts nothing says 0, which no prompt and no reply has.
    return int(told) if isinstance(told, int | float) and 1 <= told <= MOST_COUNTED else None
