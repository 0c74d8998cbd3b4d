"""What a real Valkey refuses is said to be what it is; only one that is silent is said not to answer."""

import contextlib
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis

from shared import broker, settings
from shared.errors import ServiceUnreachable
from shared.jobs import Reason
from tests import valkey
from tests.conftest import forget

SILENCE = "does not answer"
Use = Callable[[str], None]


@pytest.fixture
def use(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Point the settings, and Celery, at a broker."""

    def use(url: str) -> None:
        monkeypatch.setenv("VOTEQUEUE_BROKER_URL", url)
        forget()
        monkeypatch.setattr(broker.app.conf, "broker_url", settings.load().broker)

    yield use
    forget()


@pytest.fixture
def server() -> Iterator[redis.Redis]:
    """Start a server of this test's own; give who may do everything there."""
    with valkey.running() as url, redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "admin", "on", ">S3cret", "~*", "&*", "+@all")
        with redis.Redis.from_url(url.replace("redis://", "redis://admin:S3cret@")) as admin:
            yield admin


def url_of(server: redis.Redis, login: str = "", database: int = 0) -> str:
    return f"redis://{login}127.0.0.1:{server.connection_pool.connection_kwargs['port']}/{database}"


def complaint(action: Callable[[], object]) -> str:
    with pytest.raises(ServiceUnreachable) as caught:
        action()
    said = str(caught.value)
    assert "\n" not in said
    assert "S3cret" not in said
    assert caught.value.__cause__ is None
    return said


def send() -> object:
    return broker.send([Reason(run="r", item=1)])


ACTIONS = [broker.memory, send]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "is full .*: raise its maxmemory"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "lacks replicas"),
        (("REPLICAOF", "127.0.0.1", "1"), "is a replica, which takes no writes .*: name its primary"),
        (("CONFIG", "SET", "maxclients", "1"), "has no connection left .*: raise its maxclients"),
        (("ACL", "SETUSER", "default", "reset", "on", "nopass", "+ping"), "does not let our user do this"),
        (("CONFIG", "SET", "requirepass", "S3cret"), "does not accept our login .*VOTEQUEUE_BROKER_URL"),
    ],
)
def test_a_refusal_is_named_with_what_to_do(
    use: Use, server: redis.Redis, action: Callable[[], object], made: tuple[str, ...], said: str
) -> None:
    use(url_of(server))
    server.execute_command(*made)
    told = complaint(action)
    assert SILENCE not in told
    assert re.search(said, told), told


@pytest.mark.parametrize("action", ACTIONS)
def test_a_full_disk_is_named(use: Use, server: redis.Redis, action: Callable[[], object]) -> None:
    use(url_of(server))
    # A snapshot cannot take the place of a folder that is not empty.
    folder = Path(server.config_get("dir")["dir"]) / "dump.rdb"
    (folder / "x").mkdir(parents=True)
    server.set("a", 1)
    server.bgsave()
    while server.info("persistence")["rdb_bgsave_in_progress"]:
        pass
    server.config_set("save", "1 1")
    told = complaint(action)
    server.config_set("save", "")  # it would not end before it has saved
    assert "cannot write them to its disk" in told


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("login", ["admin:wrong-S3cret@", "nobody:S3cret@"])
def test_a_wrong_login_is_named(
    use: Use, server: redis.Redis, action: Callable[[], object], login: str
) -> None:
    use(url_of(server, login))
    assert "does not accept our login" in complaint(action)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_database_that_is_not_there_is_named(
    use: Use, server: redis.Redis, action: Callable[[], object]
) -> None:
    use(url_of(server, database=99))
    assert "/99 has no such database" in complaint(action)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_server_that_nobody_started_is_to_be_started(use: Use, action: Callable[[], object]) -> None:
    use(f"redis://:S3cret@127.0.0.1:{valkey.free_port()}/0")
    assert f"{SILENCE} ([Errno 111] Connection refused): start it with `votequeue up`" in complaint(action)


def test_a_server_of_another_machine_is_to_be_started_there(use: Use) -> None:
    use("redis://:S3cret@queue.invalid/0")
    assert "start it there" in complaint(broker.ping)


class _Page(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def test_something_else_behind_the_port_is_not_said_to_be_away(use: Use) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as page:
        threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True).start()
        use(f"redis://:S3cret@127.0.0.1:{page.server_address[1]}/0")
        assert SILENCE not in complaint(broker.ping)
        page.shutdown()


@pytest.mark.parametrize("login", ["default:S3c%23ret@", ":S3c%23ret@"])
def test_a_login_in_the_query_is_one_for_both_clients(use: Use, server: redis.Redis, login: str) -> None:
    server.config_set("requirepass", "S3c#ret")
    use(url_of(server) + "?password=S3c%23ret")
    broker.ping()
    assert send() == 1
    assert broker.waiting("reason") == 1
    assert broker.app.connection().as_uri().count("**") == 1


@pytest.fixture
def tls(tmp_path: Path, server: redis.Redis) -> Iterator[str]:
    """Speak TLS before the server; give the URL's place, and the certificate as cert.pem."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext"
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(
        [*command.split(), "subjectAltName=DNS:localhost,IP:127.0.0.1", *files],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    port = server.connection_pool.connection_kwargs["port"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_carry, args=(listener, context, port), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _carry(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(caller, context, port), daemon=True).start()


def _serve(caller: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        caller,
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port)) as server,
        context.wrap_socket(caller, server_side=True) as inside,
    ):
        inside.settimeout(0.05)
        server.settimeout(0.05)
        while _moved(inside, server) and _moved(server, inside):
            pass


def _moved(one: socket.socket, other: socket.socket) -> bool:
    try:
        data = one.recv(65536)
    except TimeoutError:
        return True
    other.sendall(data)
    return bool(data)


def test_tls_is_spoken_by_both_clients_and_verified(use: Use, tls: str, tmp_path: Path) -> None:
    use(f"rediss://{tls}/0?ssl_ca_certs={tmp_path}/cert.pem")
    broker.ping()
    assert send() == 1
    use(f"rediss://{tls}/0")
    for action in (broker.ping, send):
        assert "do not agree on TLS" in complaint(action)


def test_no_tls_where_the_server_wants_it_is_named(use: Use, tls: str) -> None:
    use(f"redis://{tls}/0")
    assert "rediss://" in complaint(broker.ping)
