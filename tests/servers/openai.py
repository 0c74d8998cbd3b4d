"""An OpenAI-compatible server that counts what reaches it, keeps limits, and fails as it is told.

    with ChatServer(key="sk-test", faults={"server error": 0.1}, seed=7) as server:
        OpenAIChat(service, server.url, SecretStr("sk-test"), 5.0)
    server.most_in(1.0)  ->  5

Also a program: ``python -m tests.servers.openai --port 8500 --key sk-test --faults '{"reset": 0.05}'`` serves
until it is told to stop; ``GET /stats`` gives its counts then, as `ChatServer.stats` does.
"""

import argparse
import contextlib
import json
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from shared import prompts
from tests.servers import Harness, fullest
from tests.servers.chat_wire import FAULTS, OK, SHORT, Handler, Server, is_open, shortened


@dataclass(frozen=True)
class Arrival:
    """A call that reached the server: when (monotonic seconds), and what became of it.

    ``tokens`` is what it counts against a limit of tokens: its prompt's and its reply's. ``asked`` is the
    request as it came.
    """

    at: float
    prompt: str
    authorized: bool
    at_once: int
    tokens: int
    outcome: str
    asked: dict[str, Any] = field(default_factory=dict)


def oblige(prompt: str) -> str:
    """Answer our own prompts as a good model would: agree with a letter, give the texts back as they are."""
    letter = re.search(r"这道题的答案是：([A-Z])", prompt)
    if letter:
        return f"由条件逐一推理，只有这一项成立。\n答案是：{letter[1]}"
    if prompt.startswith(prompts.TRANSLATING[:12]):
        return prompt.splitlines()[-1]
    return "一步一步推理。\n答案是：A"


class ChatServer:
    """The server, in threads of this process, between `start` and `stop`.

    ``script`` says how the first calls end, one by one; then ``faults`` gives each fault's share of all,
    drawn with ``seed``. Over ``per_second`` calls in any second, or ``at_once`` at a time, it answers 429.
    ``latency`` is how long a good call takes, ``hang`` how long a call waits that is to time out, in seconds.
    Embeddings have ``dimensions`` numbers, in ``base64`` whatever is asked for.
    It gives ``most_votes`` choices at most, whatever ``n`` is; without ``takes_n`` it refuses more than one.
    Set afterwards: it ``refuses`` a parameter by name, with a ``complaint`` of its own, and chats with
    ``reasoning`` beside the content.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        reply: Callable[[str], str] = oblige,
        script: Iterable[str] = (),
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        per_second: int | None = None,
        at_once: int | None = None,
        latency: float = 0.0,
        hang: float = 60.0,
        retry_after: float | str = 2,
        usage: bool = True,
        most_votes: int | None = None,
        takes_n: bool = True,
        dimensions: int = 64,
        base64: bool = False,
        port: int = 0,
    ) -> None:
        self.dimensions, self.base64 = dimensions, base64
        self.key, self.reply, self.usage = key, reply, usage
        self.per_second, self.at_once = per_second, at_once
        self.latency, self.hang, self.retry_after = latency, hang, retry_after
        self.most_votes, self.takes_n = most_votes, takes_n
        self.refuses: str | None = None
        self.complaint: str | None = None
        self.reasoning: str | None = None
        self.requests: list[Arrival] = []
        self.connections = 0
        self._script, self._faults, self._always = list(script), dict(faults or {}), OK
        assert {*self._script, *self._faults} <= FAULTS | {OK}, "no such fault"
        self._random = random.Random(seed)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._in_flight: list[socket.socket] = []
        self._recent: list[float] = []
        self._sockets: set[socket.socket] = set()
        handler = type("Bound", (Handler,), {"chat": self})
        self._server = Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Give the base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def start(self) -> "ChatServer":
        """Listen."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End all connections, and listen no more."""
        self._stopped.set()
        self._server.shutdown()
        with self._lock:
            for open_one in self._sockets:
                with contextlib.suppress(OSError):
                    open_one.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "ChatServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it is told

    def fail_with(self, fault: str) -> None:
        """End all calls from now on with this fault, or ("ok") with none."""
        assert fault in FAULTS | {OK}, f"no such fault: {fault}"
        with self._lock:
            self._always = fault

    # What it has seen

    def most_in(self, seconds: float) -> int:
        """Count the calls of the fullest window of that length."""
        return fullest(((arrival.at, 1) for arrival in self._seen()), seconds)

    def most_tokens_in(self, seconds: float) -> int:
        """Count the tokens of the fullest window of that length."""
        return fullest(((arrival.at, arrival.tokens) for arrival in self._seen()), seconds)

    @property
    def most_at_once(self) -> int:
        """Count the calls that were in flight together, at most."""
        return max((arrival.at_once for arrival in self._seen()), default=0)

    @property
    def outcomes(self) -> dict[str, int]:
        """Count the calls by how they ended."""
        ended = [arrival.outcome for arrival in self._seen()]
        return {outcome: ended.count(outcome) for outcome in sorted(set(ended))}

    def stats(self) -> dict[str, object]:
        """Sum up what it has seen."""
        seen = self._seen()
        return {
            "calls": len(seen),
            "seconds": seen[-1].at - seen[0].at if seen else 0.0,
            "outcomes": self.outcomes,
            "most_in_second": self.most_in(1.0),
            "most_in_minute": self.most_in(60.0),
            "most_tokens_in_minute": self.most_tokens_in(60.0),
            "most_at_once": self.most_at_once,
            "unauthorized": sum(not arrival.authorized for arrival in seen),
            "connections": self.connections,
        }

    def _seen(self) -> list[Arrival]:
        with self._lock:
            return sorted(self.requests, key=lambda arrival: arrival.at)

    # What its handlers ask

    def open(self, connection: socket.socket) -> None:
        """Count a connection."""
        with self._lock:
            self.connections += 1
            self._sockets.add(connection)

    def close(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._sockets.discard(connection)

    def arrive(
        self, connection: socket.socket, at: float, prompt: str, authorized: bool, asked: dict[str, Any]
    ) -> tuple[str, str]:
        """Take a call up; give how it is to end, and the text of its reply."""
        text = self.reply(prompt)
        with self._lock:
            # Whoever gave up on a call has it no longer in flight, though we may still work on it.
            self._in_flight = [*filter(is_open, self._in_flight), connection]
            at_once = len(self._in_flight)
            outcome = self._outcome(at, authorized)
            if outcome == SHORT:
                text = shortened(text)
            tokens = prompts.tokens(prompt) + prompts.tokens(text)
            self.requests.append(Arrival(at, prompt, authorized, at_once, tokens, outcome, asked))
        return outcome, text

    def leave(self, connection: socket.socket) -> None:
        """Note that a call is through: before its answer is sent, since the next may come right after."""
        with self._lock:
            self._in_flight = [other for other in self._in_flight if other is not connection]

    def wait(self, seconds: float, connection: socket.socket) -> None:
        """Sleep, unless the server stops or the client goes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and is_open(connection):
            if self._stopped.wait(min(left, 0.05)):
                return

    def _outcome(self, at: float, authorized: bool) -> str:
        if not authorized:
            return "credentials"
        self._recent = [earlier for earlier in self._recent if at - earlier < 1.0]
        if self.per_second is not None and len(self._recent) >= self.per_second:
            return "throttled"
        if self.at_once is not None and len(self._in_flight) > self.at_once:
            return "throttled"
        self._recent.append(at)
        if self._script:
            return self._script.pop(0)
        if self._always != OK:
            return self._always
        drawn = self._random.random()
        for fault, share in self._faults.items():
            drawn -= share
            if drawn < 0:
                return fault
        return OK


# For the conformance test

KEY = "sk-4f9a61c2d7e8b3"
TEXTS = ["甲比乙高。", "谁最高？"]


@contextlib.contextmanager
def harnesses() -> Iterator[list[Harness]]:
    """Give what the conformance test drives, while their servers run."""
    from workers import wiring
    from workers.ports import Prompt

    with ChatServer(key=KEY) as chats, ChatServer(key=KEY) as translates:
        model = wiring.chat_model("chat", "m", _settings(chats))
        translator = wiring.translator("chat", "m", _settings(translates))
        yield [
            _harness("chat", chats, lambda: model.complete(Prompt("谁最高？", 64, 0.7))),
            _harness("chat translation", translates, lambda: translator.translate(TEXTS, "zh", "ja")),
        ]


def _settings(server: ChatServer) -> Any:
    from shared.settings import Settings

    return Settings(_env_file=None, chat_base_url=server.url, chat_api_key=KEY, call_timeout=2.0)  # type: ignore[call-arg]


def _harness(name: str, server: ChatServer, call: Callable[[], object]) -> Harness:
    return Harness(name, call, server.fail_with, lambda: len(server.requests), (KEY,))


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then print what was seen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    parser.add_argument("--script", type=lambda text: text.split(","), default=[], help="ok,reset,...")
    parser.add_argument("--faults", type=json.loads, default={}, help='JSON: {"reset": 0.05, ...}')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-second", type=int)
    parser.add_argument("--at-once", type=int)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--hang", type=float, default=60.0)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    with ChatServer(**vars(parser.parse_args())) as server:
        print(server.url, flush=True)
        told.wait()
    print(json.dumps(server.stats()), flush=True)


if __name__ == "__main__":
    main()
