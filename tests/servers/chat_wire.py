"""How an OpenAI-compatible endpoint answers: over HTTP, with a reply, or with one of many faults.

REFUSALS["throttled"]  ->  429 {"error": {"code": "rate_limit_exceeded", ...}}
"""

import base64
import contextlib
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from shared import prompts

OK, RESET, TIMEOUT, TRUNCATED, SHORT = "ok", "reset", "timeout", "truncated", "wrong number"

# Faults that are an answer with a status: status, code, message.
REFUSALS: dict[str, tuple[int, str, str]] = {
    "throttled": (429, "rate_limit_exceeded", "Requests rate limit exceeded, please try again later."),
    "throttled with delay": (429, "rate_limit_exceeded", "Requests rate limit exceeded."),
    "server error": (500, "internal_error", "The server had an error while processing your request."),
    "credentials": (401, "invalid_api_key", "Incorrect API key provided: {key}."),
    "exhausted": (429, "insufficient_quota", "You exceeded your current quota, check your plan."),
    "no balance": (402, "invalid_request_error", "Insufficient Balance"),
    "daily": (
        429,
        "rate_limit_exceeded",
        "Rate limit reached on requests per day (RPD): Limit 200, Used 200.",
    ),
    "refused": (400, "data_inspection_failed", "Input data may contain inappropriate content."),
    "too long": (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens."),
    "no model": (404, "model_not_found", "The model `m` does not exist."),
}
# Faults that are a reply nobody can use.
REPLIES: dict[str, dict[str, Any]] = {
    "empty": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": " "}}]},
    "thought": {"choices": [{"finish_reason": "length", "message": {"role": "assistant", "content": ""}}]},
    "filtered": {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]},
    "no choices": {"choices": []},
    "error inside": {"choices": None, "error": {"code": 429, "message": "rate limited upstream"}},
    "no object": {},
}
# Faults of an embeddings reply: one vector too few, one of another size, one that is null.
VECTORS = ("missing vector", "other size", "null vector")
FAULTS = frozenset({RESET, TIMEOUT, TRUNCATED, SHORT, "garbled", *VECTORS, *REFUSALS, *REPLIES})


class Calls(Protocol):
    """What a handler asks of whoever counts the calls."""

    key: str | None
    usage: bool
    most_votes: int | None
    takes_n: bool
    refuses: str | None
    complaint: str | None
    reasoning: str | None
    dimensions: int
    base64: bool
    latency: float
    hang: float
    retry_after: float | str

    def open(self, connection: socket.socket) -> None:
        """Count a connection."""

    def close(self, connection: socket.socket) -> None:
        """Forget a connection."""

    def arrive(
        self, connection: socket.socket, at: float, prompt: str, authorized: bool, asked: dict[str, Any]
    ) -> tuple[str, str]:
        """Take a call up; give how it is to end, and the text of its reply."""

    def leave(self, connection: socket.socket) -> None:
        """Note that a call is through: before its answer is sent, since the next may come right after."""

    def wait(self, seconds: float, connection: socket.socket) -> None:
        """Sleep, unless the server stops or the client goes."""

    def stats(self) -> dict[str, object]:
        """Sum up what was seen."""


class Server(ThreadingHTTPServer):
    """Takes many connections at once, and waits for all in the end."""

    request_queue_size = 512
    # Their sockets are shut down before: so all threads end, and are waited for.
    daemon_threads = False

    def shutdown_request(self, request: Any) -> None:
        """Close without a goodbye, so that a connection can be reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gives up is no error of the server."""


class Handler(BaseHTTPRequestHandler):
    """Reads requests, and answers each as it is told by whoever counts the calls."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chat: Calls

    def setup(self) -> None:
        super().setup()
        self.chat.open(self.connection)

    def parse_request(self) -> bool:
        # The request line has just been read: this is when the call got here.
        self.at = time.monotonic()
        return super().parse_request()

    def finish(self) -> None:
        super().finish()
        self.chat.close(self.connection)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        pages: dict[str, object] = {
            "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model"}]},
            "/stats": self.chat.stats(),
        }
        found = pages.get(self.path)
        self._send(404 if found is None else 200, found or {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path not in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
            return self._send(404, {"error": {"message": "not found"}})
        asked = json.loads(body)
        prompt = _prompt(asked)
        key = self.chat.key
        authorized = key is None or self.headers.get("Authorization") == f"Bearer {key}"
        outcome, text = self.chat.arrive(self.connection, self.at, prompt, authorized, asked)
        if outcome not in REFUSALS:
            self.chat.wait(self.chat.hang if outcome == TIMEOUT else self.chat.latency, self.connection)
        self.chat.leave(self.connection)
        return self._answer(outcome, asked, text)

    def _answer(self, outcome: str, asked: dict[str, Any], text: str) -> None:
        if outcome in REFUSALS:
            return self._refuse(outcome)
        if asked.get("n", 1) > 1 and not self.chat.takes_n:
            return self._send(400, {"error": {"message": "Only one choice is supported.", "param": "n"}})
        if self.chat.refuses in asked:
            unsupported = f"Unsupported parameter: '{self.chat.refuses}' is not supported with this model."
            message = self.chat.complaint or unsupported
            error = {"message": message, "param": self.chat.refuses, "code": "unsupported_parameter"}
            return self._send(400, {"error": error})
        if outcome == TIMEOUT:
            return self._reset()
        if "input" in asked:
            reply = _embeddings(asked, outcome, self.chat)
            text = json.dumps(reply)
            return self._send(200, text[:-60] if outcome in (TRUNCATED, "garbled") else text)
        votes = min(asked.get("n", 1), self.chat.most_votes or asked.get("n", 1))
        reply = {**_reply(asked, [text] * votes, self.chat.usage), **REPLIES.get(outcome, {})}
        if self.chat.reasoning is not None:
            for choice in reply["choices"]:
                choice["message"]["reasoning_content"] = self.chat.reasoning
        if outcome == RESET:
            return self._reset(reply)
        if outcome in (TRUNCATED, "garbled"):
            return self._send(200, json.dumps(reply, ensure_ascii=False)[:-60])
        return self._send(200, [] if outcome == "no object" else reply)

    def _refuse(self, outcome: str) -> None:
        status, code, message = REFUSALS[outcome]
        # What a careless service does with a key that it does not know.
        told = message.format(key=self.headers.get("Authorization", "").removeprefix("Bearer "))
        error = {"message": told, "type": code, "param": None, "code": code}
        headers = {"Retry-After": str(self.chat.retry_after)} if outcome == "throttled with delay" else {}
        self._send(status, {"error": error}, headers)

    def _reset(self, reply: object = None) -> None:
        """Break the connection off, in the middle of a reply where there is one."""
        if reply is not None:
            content = json.dumps(reply).encode()
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            self.wfile.write(head.encode() + content[: len(content) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _send(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        content = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def is_open(connection: socket.socket) -> bool:
    """Tell whether the other side has not closed its end."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _embeddings(asked: dict[str, Any], outcome: str, chat: Calls) -> dict[str, Any]:
    vectors: list[Any] = [_characters(text, chat.dimensions) for text in asked["input"]]
    if outcome == "missing vector":
        vectors.pop()
    elif outcome == "other size":
        vectors[-1] = vectors[-1][:-1]
    elif outcome == "null vector":
        vectors[-1] = None
    if chat.base64:
        vectors = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() for each in vectors]
    data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(vectors)]
    # Some servers answer in the order of completion: the index counts.
    reply: dict[str, Any] = {"object": "list", "model": asked["model"], "data": data[::-1]}
    if chat.usage:
        tokens = prompts.tokens(_prompt(asked))
        reply["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return reply


def _characters(text: str, size: int) -> list[float]:
    counts = Counter(ord(character) % size for character in text)
    return [float(counts[place]) for place in range(size)]


def _prompt(asked: dict[str, Any]) -> str:
    if "input" in asked:
        return "\n".join(asked["input"])
    return str(asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"])


def _reply(asked: dict[str, Any], texts: list[str], usage: bool) -> dict[str, Any]:
    raw = "prompt" in asked
    reply = {
        "id": "cmpl-1",
        "object": "text_completion" if raw else "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [
            {
                "index": at,
                "finish_reason": "stop",
                **({"text": text} if raw else {"message": {"role": "assistant", "content": text}}),
            }
            for at, text in enumerate(texts)
        ],
    }
    if usage:
        used = {
            "prompt_tokens": prompts.tokens(_prompt(asked)),
            "completion_tokens": sum(map(prompts.tokens, texts)),
        }
        reply["usage"] = {**used, "total_tokens": sum(used.values())}
    return reply


def shortened(text: str) -> str:
    """Take the last text off, where the text is a JSON array of them."""
    with contextlib.suppress(ValueError):
        texts = json.loads(text)
        if isinstance(texts, list):
            return json.dumps(texts[:-1], ensure_ascii=False)
    return text
