"""A local HTTP server that counts what reaches it and fails as it is told; each service fills in its answers.

with TencentServer() as server: ...; server.arrivals.most_in(1.0)  ->  5
"""

import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from tests.servers import fullest

JSON = "application/json"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Silence(Exception):
    """No answer goes back, and the connection stays open."""


class Reset(Exception):
    """The connection is reset instead of an answer."""


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return Answer(
        json.dumps(value, ensure_ascii=False).encode(), status, {"Content-Type": JSON, **(headers or {})}
    )


@dataclass(frozen=True)
class Arrival:
    """A call: which one it is, when it came (monotonic seconds), and how many were inside with it."""

    number: int
    at: float
    inside: int


class Arrivals:
    """The calls that came."""

    def __init__(self) -> None:
        self._all: list[Arrival] = []
        self._inside = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._all)

    @contextlib.contextmanager
    def one(self) -> Iterator[Arrival]:
        """Count a call, and that it is inside until the end."""
        with self._lock:
            self._inside += 1
            arrival = Arrival(len(self._all) + 1, time.monotonic(), self._inside)
            self._all.append(arrival)
        try:
            yield arrival
        finally:
            with self._lock:
                self._inside -= 1

    def until(self, arrival: Arrival, seconds: float) -> int:
        """Count the calls of the seconds up to a call, with it."""
        with self._lock:
            return sum(arrival.at - seconds < other.at <= arrival.at for other in self._all)

    def most_in(self, seconds: float) -> int:
        """Count the calls of the fullest window of that length."""
        with self._lock:
            return fullest(((arrival.at, 1) for arrival in self._all), seconds)

    @property
    def most_at_once(self) -> int:
        """Count the calls that were inside together, at most."""
        with self._lock:
            return max((arrival.inside for arrival in self._all), default=0)


class Wire:
    """A server on a free port of this machine; `answer` is what a service fills in.

    ``fault`` gives, for the number of a call, the kind of its end; the kinds that all wires have:
    "ok", "timeout", "reset", "server error", "garbled", "empty".
    """

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.connections = 0
        self.fault: Callable[[int], str] = lambda _: "ok"
        self._closing = threading.Event()
        self._server = _Server(self)

    def fail_with(self, kind: str) -> None:
        """End all calls from now on in the same way."""
        self.fault = lambda _: kind

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, asked: Asked) -> Answer:
        """Answer a request."""
        raise NotImplementedError

    def break_off(self, kind: str, good: Callable[[], Answer]) -> Answer:
        """Answer well, or fail in one of the ways that all wires have."""
        if kind == "timeout":
            raise Silence
        if kind == "reset":
            raise Reset
        if kind == "server error":
            return Answer(b"<html>500 Internal Server Error</html>", 500, {"Content-Type": "text/html"})
        if kind == "empty":
            return Answer(b"", 200, {"Content-Type": JSON})
        answer = good()
        return (
            Answer(answer.body[: len(answer.body) // 2], 200, answer.headers) if kind == "garbled" else answer
        )

    def hold(self) -> None:
        """Wait until the server is closed."""
        self._closing.wait()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: callers that give up break connections off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or the sender waits for an acknowledgement between them
    server: _Server

    def setup(self) -> None:
        self.server.wire.connections += 1
        super().setup()

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        where = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, where.path, dict(parse_qsl(where.query)), self.headers, body)
        try:
            answer = self.server.wire.answer(asked)
        except Silence:
            self.server.wire.hold()
            self.close_connection = True
        except Reset:
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
