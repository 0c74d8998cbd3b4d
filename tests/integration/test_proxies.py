"""With proxies in the environment: loopback is reached past them, everything else through them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra import health, local, weights
from shared.errors import ServiceUnreachable, UserError
from shared.settings import Settings
from tests import qdrant_server
from tests.qdrant_server import State
from tests.servers import proxy
from workers import wiring
from workers.models import retrieval

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
DEAD = "socks5://127.0.0.1:9"  # the discard port: nobody listens there


@pytest.fixture(autouse=True)
def _no_proxies(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in VARIABLES[:3]:
        monkeypatch.setenv(name, url)
        monkeypatch.setenv(name.upper(), url)


@pytest.fixture
def qdrant() -> Iterator[tuple[str, State]]:
    with qdrant_server.serving() as (url, state):
        yield url, state


@pytest.fixture
def page() -> Iterator[str]:
    """A server that answers every address, as Flower's and the chat server's health pages do."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_on_loopback_is_reached_past_a_proxy(
    page: str, qdrant: tuple[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(page.rpartition(":")[2])
    settings = Settings(_env_file=None, flower_port=port, local_url=f"{page}/v1")
    with proxy.running() as (url, asked):
        set_all(monkeypatch, url)
        assert health.flower_answers(settings)
        assert health.chat_answers(settings)
        retrieval.open_client(qdrant[0], None).close()
        retrieval.open_client(qdrant[0].replace("127.0.0.1", "localhost"), None).close()
        assert asked == []


@pytest.mark.parametrize("dead", [DEAD, "http://127.0.0.1:9", "nonsense"])
def test_what_is_on_loopback_is_reached_whatever_the_proxy_is(
    dead: str, page: str, qdrant: tuple[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, dead)
    assert health.probe_error(page) is None
    retrieval.open_client(qdrant[0], None).close()


def test_an_index_elsewhere_is_reached_through_the_proxy(
    page: str, qdrant: tuple[str, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy.running(qdrant[0]) as (url, asked):
        monkeypatch.setenv("http_proxy", url)
        retrieval.open_client("http://vectors.invalid:6333", None).close()
        assert asked == ["GET http://vectors.invalid:6333/collections"]
    with proxy.running(page) as (url, asked):
        monkeypatch.setenv("http_proxy", url)
        assert health.probe_error("http://vectors.invalid:6333/readyz") is None
        assert len(asked) == 1


def test_an_index_behind_a_socks_proxy_is_the_workers_to_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None, qdrant_url="http://vectors.invalid:6333")
    with pytest.raises(UserError, match=r"Qdrant at http://vectors\.invalid:6333 does not answer"):
        local.refuse_without_index(settings, {"infer": 1})
    monkeypatch.setenv("ALL_PROXY", DEAD)
    local.refuse_without_index(settings, {"infer": 1})


@pytest.mark.parametrize(
    "dead", [DEAD, "http://127.0.0.1:9", "foo://u:S3cret@h", "http://u:S3cret@127.0.0.1:9"]
)
def test_a_proxy_that_does_not_work_is_said_in_a_sentence_without_its_password(
    dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, dead)
    with pytest.raises(ServiceUnreachable, match="VOTEQUEUE_QDRANT_URL") as caught:
        retrieval.open_client("http://vectors.invalid:6333", None)
    with pytest.raises(UserError, match="no weights called 'org/model'") as missing:
        wiring.weights("org/model", Settings(_env_file=None))
    said = [str(caught.value), str(missing.value), str(weights.hub_sizes("org/model"))]
    assert not any("\n" in one or "S3cret" in one for one in said), said
