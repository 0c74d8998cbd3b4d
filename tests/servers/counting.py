"""A server that counts: when each call reached it, and how many were with it at once.

    with CountingServer(Allowance(per_second=20)) as server:
        call(server.url, "m", tokens=300)  ->  200
        server.most_within(1.0)            ->  20

A call is ``POST /<account>`` with ``{"tokens": 300, "seconds": 0.1}``: how many tokens it says to use, and
how long it takes. Arrivals are taken down, by `time.monotonic`, before anything else is done. Beyond its
allowance it answers 429, and on `refuse_for`, for a while.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.servers import fullest

OK, SLOW_DOWN = 200, 429
_thread = threading.local()


@dataclass(frozen=True)
class Allowance:
    """What is allowed an account, in any window; None: anything."""

    per_second: int | None = None
    at_once: int | None = None


@dataclass(frozen=True)
class Arrival:
    """A call that reached the server, and how it was answered."""

    at: float
    account: str
    tokens: int
    status: int


class CountingServer:
    """Counts calls on a free port of this machine."""

    def __init__(self, allowance: Allowance = Allowance()) -> None:
        self.arrivals: list[Arrival] = []
        self.most_at_once = 0
        self._allowance = allowance
        self._lock = threading.Lock()
        self._at_once = 0
        self._refusing_until = 0.0
        self._retry_after: str | None = None
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.counting = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "CountingServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def refuse_for(self, seconds: float, retry_after: str | None = None) -> None:
        """Answer 429 for a while."""
        with self._lock:
            self._refusing_until, self._retry_after = time.monotonic() + seconds, retry_after

    def times(self, account: str | None = None, status: int | None = None) -> list[float]:
        """Give when calls arrived."""
        with self._lock:
            return [
                arrival.at
                for arrival in self.arrivals
                if account in (None, arrival.account) and status in (None, arrival.status)
            ]

    def most_within(self, seconds: float, account: str | None = None) -> int:
        """Count the most calls that arrived in any window."""
        return fullest(((at, 1) for at in self.times(account)), seconds)

    def most_tokens_within(self, seconds: float) -> int:
        """Count the most tokens that were used in any window."""
        return fullest(((arrival.at, arrival.tokens) for arrival in self.arrivals), seconds)

    # What the handler asks

    def arrived(self, at: float, account: str, tokens: int) -> tuple[int, str | None]:
        """Take a call down; give its status and, where it is told, when to try again."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            status, retry_after = OK, None
            if at < self._refusing_until:
                status, retry_after = SLOW_DOWN, self._retry_after
            elif self._beyond(at, account):
                status = SLOW_DOWN
            self.arrivals.append(Arrival(at, account, tokens, status))
            return status, retry_after

    def left(self) -> None:
        """Know that a call is through."""
        with self._lock:
            self._at_once -= 1

    def _beyond(self, at: float, account: str) -> bool:
        most, at_once = self._allowance.per_second, self._allowance.at_once
        if at_once is not None and self._at_once > at_once:
            return True
        if most is None:
            return False
        taken = 0
        for arrival in reversed(self.arrivals):
            if arrival.at <= at - 2.0 or taken >= most:
                break
            taken += arrival.at > at - 1.0 and arrival.status == OK and arrival.account == account
        return taken >= most


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    counting: CountingServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def parse_request(self) -> bool:
        # The request line has just been read: this is when the call got here.
        self.at = time.monotonic()
        return super().parse_request()

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        counting = self.server.counting
        status, retry_after = counting.arrived(self.at, self.path[1:], told["tokens"])
        try:
            if status == OK and told["seconds"]:
                time.sleep(told["seconds"])
        finally:
            counting.left()
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def call(url: str, account: str, tokens: int = 0, seconds: float = 0.0) -> tuple[int, float | None]:
    """Call a counting server over this thread's own connection; give the status and the delay it asks for."""
    body = json.dumps({"tokens": tokens, "seconds": seconds})
    connection = _connection(url)
    connection.request("POST", "/" + account, body)
    reply = connection.getresponse()
    reply.read()
    told = reply.getheader("Retry-After")
    return reply.status, None if told is None else float(told)


def connect(url: str) -> None:
    """Open this thread's connection, so that the first call is as fast as the others."""
    _connection(url).connect()


@contextlib.contextmanager
def disconnected() -> Iterator[None]:
    """Close this thread's connections in the end."""
    try:
        yield
    finally:
        for connection in vars(_thread).pop("connections", {}).values():
            connection.close()


def _connection(url: str) -> http.client.HTTPConnection:
    made: dict[str, http.client.HTTPConnection] = vars(_thread).setdefault("connections", {})
    return made.setdefault(url, http.client.HTTPConnection(urlsplit(url).netloc, timeout=30))


def excess(times: Sequence[float], most: int, seconds: float) -> int:
    """Count the calls that came when ``most`` others had come in the window before."""
    ordered = sorted(times)
    return sum(at - before < seconds for before, at in zip(ordered, ordered[most:], strict=False))
