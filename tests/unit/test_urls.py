"""URLs that people write: what is wrong with them, and that nothing of a password is told."""

import re

import pytest

from shared import urls


@pytest.mark.parametrize("scheme", ["redis://", "rediss://", "postgresql://"])
@pytest.mark.parametrize(
    ("character", "spelt"),
    [("#", "%23"), ("/", "%2F"), ("?", "%3F"), ("@", "%40"), ("%", "%25"), ("[", "%5B"), ("\\", "%5C")],
)
@pytest.mark.parametrize("user", ["", "me"])
def test_an_unencoded_character_is_named_with_its_code_and_nothing_else_of_the_password(
    scheme: str, user: str, character: str, spelt: str
) -> None:
    check = urls.ledger if scheme == "postgresql://" else urls.broker
    with pytest.raises(ValueError, match=re.escape(f"write {character} as {spelt}")) as caught:
        check(f"{scheme}{user}:S3c{character}ret@host:6379/0")
    assert "S3" not in str(caught.value)
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6399/0",
        "redis://queue.lan",
        "redis://queue_1.lan:6379/",
        "redis://:a:b%40@[::1]:6379/15",
        "redis://me:密码@queue.lan/0",
    ],
)
def test_a_brokers_url_that_fits_stays_as_it_is(url: str) -> None:
    assert urls.broker(url) == url


def test_a_login_and_a_database_in_the_query_move_to_where_both_clients_read_them() -> None:
    assert urls.broker("redis://h:1?password=a%23b&db=3") == "redis://:a%23b@h:1/3"
    assert urls.broker("redis://me@h/0?password=p") == "redis://me:p@h/0"
    assert urls.broker("redis://h/0?username=me&password=p") == "redis://me:p@h/0"
    assert urls.ledger("postgresql://h/d?user=me&password=p&sslmode=require") == (
        "postgresql://me:p@h/d?sslmode=require"
    )


def test_tls_verifies_the_server_unless_told_otherwise() -> None:
    assert urls.broker("rediss://:p@h/0") == "rediss://:p@h/0?ssl_cert_reqs=required"
    lax = "rediss://h/0?ssl_cert_reqs=none"
    assert urls.broker(lax) == lax


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("h:6379", "not begin with a scheme"),
        ("", "not begin with a scheme"),
        ("redis:/h", "not begin with a scheme"),
        ("sentinel://:S3cret@h/0", "sentinel://.*redis://:PASSWORD@HOST"),
        ("amqp://u:S3cret@h", "amqp://"),
        ("unix:///tmp/redis.sock", "reached over TCP"),
        ("redis+socket:///tmp/redis.sock", "reached over TCP"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:6379/0", "names no host"),
        ("redis://h:99999", "port"),
        ("redis://h:0", "port"),
        ("redis://h:", "port"),
        ("redis://h:S3cret", "port"),
        ("redis://:S3cret", "port"),
        ("redis://::1:6379/0", "brackets"),
        ("redis://[zz]:1/0", "host"),
        ("redis://h：6379/0", "host"),
        ("redis://S3cret]x", "host"),
        ("redis://:S3＃cret@h", "not a valid URL"),
        (" redis://h", "white space"),
        ("redis://h\n", "white space"),
        ("redis://:S3 cret@h", "white space"),
        ("redis://h\u200b", "invisible"),
        ('"redis://h"', "quotation marks"),
        ("“redis://h”", "quotation marks"),
        ("redis://h/abc", "database number"),
        ("redis://h/0/1", "database number"),
        ("redis://h/-1", "database number"),
        ("redis://h?db=S3cret", "database number"),
        ("redis://h/0#S3cret", "%23"),
        ("redis://h?S3cret", "not a valid URL"),
        ("redis://h?socket_timeout=3", "contain username, password and db"),
        ("redis://h?ssl_password=S3cret", "rediss://"),
        ("rediss://h?S3cret=1", "ssl_cert_reqs"),
        ("rediss://h?ssl_cert_reqs=S3cret", "required, optional, none"),
        ("rediss://h?ssl_ca_certs=/S3/none", "its ssl_ca_certs names no file that can be read"),
        ("rediss://h?ssl_keyfile=/usr", "its ssl_keyfile names no file that can be read"),
    ],
)
def test_a_broker_that_cannot_be_used_is_said_in_a_sentence(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        urls.broker(url)
    assert "S3" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///ledger.db",
        "sqlite:////nowhere/my data/ledger.db",
        "sqlite:///file:/nowhere/ledger.db?mode=ro&uri=true",
        "postgres://me:a:b@db.lan:5432/votequeue?sslmode=require",
        "postgresql+psycopg://me@h1,h2/votequeue",
        "postgresql:///votequeue",
        "postgresql://h/d?sslmode=verify-full&sslrootcert=system",
    ],
)
def test_a_ledgers_url_that_fits_stays_as_it_is(url: str) -> None:
    assert urls.ledger(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://ledger.db", "three slashes"),
        ("sqlite://", "in-memory"),
        ("sqlite:///", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in-memory"),
        ("sqlite:////", "folder"),
        ("sqlite:////usr", "folder"),
        ("sqlite:///nowhere/", "folder"),
        ("sqlite:///~/ledger.db", "~"),
        ("sqlite:///ledger.db ", "white space"),
        ("ledger.db", "scheme"),
        ("mysql://u:S3cret@h/d", "mysql://.*SQLite file or a PostgreSQL"),
        ("postgresql+psycopg2://u:S3cret@h/d", "psycopg2"),
        ("postgresql://:5432/d", "no host"),
        ("postgresql://u:S3cret@h:port/d", "port"),
        ("postgresql://h/d?sslrootcert=/S3/none", "its sslrootcert names no file that can be read"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_said_in_a_sentence(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        urls.ledger(url)
    assert "S3" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:S3cret@h:6333", "setting of its own"),
        ("http://u:S3#cret@h:6333", "setting of its own"),
        ("http://S3cret@h", "setting of its own"),
        ("http://h:6333?api-key=S3cret", "setting of its own"),
        ("h:6333", "scheme"),
        ("http://", "no host"),
        ("http:///v1", "no host"),
        ("grpc://h:6334", "HTTP"),
        ("http://h:99999", "port"),
        ("http://h:6333 ", "white space"),
    ],
)
def test_a_service_that_cannot_be_called_is_said_in_a_sentence(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        urls.service(url)
    assert "S3" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:S3cret@h:1/0",
        "redis://h:1/0?password=S3cret",
        "redis://:S3#c@ret@h:1/0",
        "redis://h:1/0#S3cret",
    ],
)
def test_what_is_shown_of_a_url_has_no_secret(url: str) -> None:
    assert urls.shown(url) == "redis://h:1/0"


def test_of_what_is_no_url_nothing_is_shown() -> None:
    assert "S3" not in urls.shown("S3cret@h")


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.0.0.1", "http://[::1]:1/v1", "http://127.9.9.9"]
)
def test_loopback_is_known(url: str) -> None:
    assert urls.stays_here(url)
    assert not urls.stays_here("http://127.0.0.1.example.com")
