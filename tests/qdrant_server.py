"""The handful of Qdrant's REST endpoints that we call, answered over HTTP from the client's own local index.

    with qdrant_server.serving() as url: QdrantClient(url=url)

No registry carries the real server. Bodies are read and replies are written through the client's models, so
that what a real server could not parse is refused here too (https://api.qdrant.tech/api-reference).
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, ValidationError
from qdrant_client import QdrantClient, models

COLLECTION = r"/collections/(?P<name>[^/?]+)"


@dataclass
class State:
    """What the server holds and has seen."""

    local: QdrantClient = field(default_factory=lambda: QdrantClient(":memory:"))
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    # Set to a status and headers, every request is answered with it.
    refuse: tuple[int, dict[str, str]] | None = None


class Conflict(Exception):
    """The server's 409."""


def _list(local: QdrantClient, name: str, body: bytes) -> Any:
    return local.get_collections()


def _exists(local: QdrantClient, name: str, body: bytes) -> Any:
    return models.CollectionExistence(exists=local.collection_exists(name))


def _create(local: QdrantClient, name: str, body: bytes) -> Any:
    wanted = models.CreateCollection.model_validate_json(body)
    if local.collection_exists(name):
        raise Conflict(f"Wrong input: Collection `{name}` already exists!")
    return local.create_collection(name, vectors_config=wanted.vectors)


def _count(local: QdrantClient, name: str, body: bytes) -> Any:
    wanted = models.CountRequest.model_validate_json(body)
    return local.count(name, count_filter=wanted.filter, exact=bool(wanted.exact))


def _get(local: QdrantClient, name: str, body: bytes) -> Any:
    return local.get_collection(name)


def _retrieve(local: QdrantClient, name: str, body: bytes) -> Any:
    wanted = models.PointRequest.model_validate_json(body)
    return local.retrieve(name, wanted.ids, bool(wanted.with_payload), bool(wanted.with_vector))


def _upsert(local: QdrantClient, name: str, body: bytes) -> Any:
    return local.upsert(name, models.PointsList.model_validate_json(body).points)


def _query(local: QdrantClient, name: str, body: bytes) -> Any:
    return local.query_batch_points(name, models.QueryRequestBatch.model_validate_json(body).searches)


Endpoint = Callable[[QdrantClient, str, bytes], Any]
ENDPOINTS: list[tuple[str, Endpoint]] = [
    (r"GET (?P<name>/collections)", _list),
    (rf"GET {COLLECTION}/exists", _exists),
    (rf"GET {COLLECTION}", _get),
    (rf"POST {COLLECTION}/points", _retrieve),
    (rf"PUT {COLLECTION}", _create),
    (rf"POST {COLLECTION}/points/count", _count),
    (rf"PUT {COLLECTION}/points\?wait=true", _upsert),
    (rf"POST {COLLECTION}/points/query/batch", _query),
]


class _Handler(BaseHTTPRequestHandler):
    state: State

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_GET  # noqa: N815  (the names are http.server's)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.seen.append(f"{self.command} {self.path}")
        self.state.keys.add(self.headers.get("api-key"))
        if self.state.refuse is not None:
            status, headers = self.state.refuse
            self._reply(status, {"status": {"error": "refused"}, "time": 0.0}, headers)
            return
        self._reply(*self._result(body), {})

    def _result(self, body: bytes) -> tuple[int, dict[str, Any]]:
        for pattern, endpoint in ENDPOINTS:
            found = re.fullmatch(pattern, f"{self.command} {self.path}")
            if found is None:
                continue
            try:
                with self.state.lock:
                    result = endpoint(self.state.local, found["name"], body)
            except (Conflict, ValidationError, ValueError) as error:
                # The local index says ValueError for "not found"; pydantic's error is one, too.
                status = 409 if isinstance(error, Conflict) else 404 if "not found" in str(error) else 400
                return status, {"status": {"error": str(error)}, "time": 0.0}
            return 200, {"result": _plain(result), "status": "ok", "time": 0.0}
        return 404, {"status": {"error": "no such endpoint"}, "time": 0.0}

    def _reply(self, status: int, value: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "Content-Type": "application/json"}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(one) for one in result]
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, State]]:
    """Run a server on a free port; give its URL and what it holds."""
    state = State()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", state
        finally:
            server.shutdown()
            thread.join()
            state.local.close()
