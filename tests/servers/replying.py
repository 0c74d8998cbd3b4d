"""An OpenAI-compatible endpoint that answers with whatever bodies it is given, and keeps what it was asked.

    with Replying([Sent(429, {"error": {...}}), Sent(200, completion("答案是：B"))]) as server:
        OpenAIChat(service, server.url, SecretStr("sk-test"), 5.0)
    server.asked[0]["max_tokens"]  ->  1024

The last of the answers is given for ever. An answer may also be a function of the request.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers.wire import JSON, Answer, Asked, Wire


@dataclass(frozen=True)
class Sent:
    """What is sent back: a body that becomes JSON, or a string that is sent as it is."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


def completion(content: object, **changes: Any) -> dict[str, Any]:
    """Write a completion; ``changes`` are of its choice, a ``message`` is merged."""
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    choice = {"index": 0, "finish_reason": "stop", "message": message, **changes}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


Reply = Sent | Callable[[dict[str, Any]], Sent]


class Replying(Wire):
    """The server, while its context lasts."""

    def __init__(self, answers: Sequence[Reply]) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self._answers = list(answers)

    @property
    def url(self) -> str:
        """Give the base URL."""
        return f"{super().url}/v1"

    def answer(self, asked: Asked) -> Answer:
        """Give the next answer."""
        with self.arrivals.one():
            request = json.loads(asked.body)
            self.asked.append(request)
            reply = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            sent = reply if isinstance(reply, Sent) else reply(request)
            text = sent.body if isinstance(sent.body, str) else json.dumps(sent.body, ensure_ascii=False)
            return Answer(text.encode(), sent.status, {"Content-Type": JSON, **sent.headers})
