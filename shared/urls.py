"""Validate configured URLs, and format them without their secrets.

    broker("redis://h:6379?password=p%23w&db=1")  ->  "redis://:p%23w@h:6379/1"
    broker("redis://:p#w@h")                      ->  ValueError("a # stands before its @: write it as %23")
    shown("redis://:p%23w@h:6379/1")              ->  "redis://h:6379/1"

An error names the fault and never quotes the URL: a malformed URL may contain parts of the password anywhere.
The libraries' own parsers do quote it.
"""

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

BROKER = "redis://:PASSWORD@HOST:6379/0"
LEDGER = "sqlite:////FOLDER/ledger.db or postgresql://USER:PASSWORD@HOST/DATABASE"
SERVICE = "https://HOST:PORT/PATH"
SQLITE = ("sqlite", "sqlite+pysqlite")
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
# Options that both clients of the broker support: redis-py and kombu.
TLS_OPTIONS = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_check_hostname",
)
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sslrootcert")
CERTIFICATES = ("required", "optional", "none")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_QUOTES = "\"'`“”‘’"
_RESERVED = "#/?@[]\\"
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
_HOST = re.compile(r"[\w.,-]*")


@dataclass(frozen=True)
class Parts:
    """The components of a URL, percent-encoded as in the URL."""

    scheme: str
    login: str  # user:password; empty: none
    place: str  # host:port
    path: str
    query: tuple[tuple[str, str], ...]  # decoded

    @property
    def text(self) -> str:
        """Assemble the URL."""
        login = f"{self.login}@" if self.login else ""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{self.scheme}://{login}{self.place}{self.path}{query}"


def broker(text: str) -> str:
    """Validate a Redis URL; move login and database number to where both clients read them.

    Raises:
        ValueError: the URL is not supported.
    """
    parts = _parts(text, ("redis", "rediss"), BROKER, "a Redis or Valkey server that is reached over TCP")
    parts = _folded(parts, "username", "db")
    if not parts.place or parts.place.startswith(":"):
        raise ValueError(f"it names no host: write it as {BROKER}")
    if not re.fullmatch(r"/?|/[0-9]{1,6}", parts.path):
        raise ValueError("the path after the host must be a database number, as in redis://HOST:6379/0")
    if parts.scheme == "redis" and parts.query:
        raise ValueError(
            "its query may only contain username, password and db: remove the rest (TLS options need rediss://)"
        )
    return _verifying(parts).text if parts.scheme == "rediss" else parts.text


def ledger(text: str) -> str:
    """Validate a database URL; move the login to where it is never displayed.

    Raises:
        ValueError: the URL is not supported.
    """
    _refuse_wrapping(text)
    scheme, separator, rest = text.partition("://")
    if separator and scheme in SQLITE:
        _check_file(rest)
        return text
    parts = _parts(text, (*POSTGRESQL, *SQLITE), LEDGER, "an SQLite file or a PostgreSQL database")
    parts = _folded(parts, "user", "dbname")
    if parts.place.startswith(":"):
        raise ValueError(f"it names a port and no host: write it as {LEDGER}")
    _check_certificates(parts)
    return parts.text


def service(text: str) -> str:
    """Validate the URL of an HTTP service; it has neither a login nor a query.

    Raises:
        ValueError: the URL is not supported.
    """
    _refuse_wrapping(text)
    if "://" in text and "@" in text:
        raise ValueError("it contains an @, which suggests a password: a key goes into a setting of its own")
    if re.search(r"[?#]", text):
        raise ValueError(
            "it contains a ? or #: remove it and what follows (a key goes into a setting of its own)"
        )
    parts = _parts(text, ("http", "https"), SERVICE, "a service that is called over HTTP")
    if not parts.place or parts.place.startswith(":"):
        raise ValueError(f"it names no host: write it as {SERVICE}")
    return text


def shown(url: str) -> str:
    """Format a URL for display: without login, query and fragment."""
    scheme, separator, rest = url.partition("://")
    place = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{place}" if separator else "(no URL)"


def is_loopback(host: str) -> bool:
    """Tell whether an address is a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def stays_here(url: str) -> bool:
    """Tell whether a URL points to this machine, which is never reached through a proxy."""
    return is_loopback(urlsplit(url).hostname or "")


# Parsing


def _parts(text: str, schemes: tuple[str, ...], example: str, what: str) -> Parts:
    _refuse_wrapping(text)
    if re.search(r"\s", text):
        raise ValueError("it contains white space: remove it (in a password, a space is %20)")
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError(f"it does not begin with a scheme: write it as {example}")
    if scheme not in schemes:
        raise ValueError(f"it begins with {scheme}://, but it must name {what}: write it as {example}")
    login, _, place = rest.rpartition("@")
    _refuse_reserved(login)
    if "#" in place:
        raise ValueError("it contains a #: remove it (in a password, write it as %23)")
    place, question_mark, query = place.partition("?")
    place, slash, path = place.partition("/")
    _check_place(place)
    try:
        urlsplit(text)
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if question_mark else []
    except ValueError:  # its message quotes the URL
        raise ValueError(f"it is not a valid URL: write it as {example}") from None
    return Parts(scheme, login, place, slash + path, tuple(options))


def _refuse_wrapping(text: str) -> None:
    if text != text.strip() or not text.isprintable():
        raise ValueError("it contains white space or invisible characters: remove them")
    if {text[:1], text[-1:]} & set(_QUOTES):
        raise ValueError("it is enclosed in quotation marks: remove them")


def _refuse_reserved(login: str) -> None:
    reserved = [character for character in _RESERVED if character in login]
    if _BARE_PERCENT.search(login):
        reserved.append("%")
    if reserved:
        encoded = " and ".join(f"{character} as {quote(character, safe='')}" for character in reserved)
        raise ValueError(
            f"its password (or other text before the last @) must be percent-encoded: write {encoded}"
        )


def _check_place(place: str) -> None:
    match = _PLACE.fullmatch(place)
    if match is None:
        if place.count(":") > 1:
            raise ValueError("an address with several colons goes into brackets, as in [::1]:6379")
        raise ValueError("its host is invalid: write a name or an address")
    host, port = match["host"], match["port"]
    if not (_is_ipv6(host[1:-1]) if host.startswith("[") else _HOST.fullmatch(host)):
        raise ValueError("its host is invalid: write a name or an address (IPv6 in brackets)")
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):
        raise ValueError("its port is not a number from 1 to 65535")


def _is_ipv6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _folded(parts: Parts, user: str, database: str) -> Parts:
    """Move login and database from the query to the components that every client reads and hides."""
    options = dict(parts.query)
    if user in options or "password" in options:
        name, _, password = parts.login.partition(":")
        name = name or quote(options.get(user, ""), safe="")
        password = password or quote(options.get("password", ""), safe="")
        parts = replace(parts, login=name + (f":{password}" if password else ""))
    if database in options:
        parts = replace(parts, path="/" + quote(options[database], safe=""))
    rest = [option for option in parts.query if option[0] not in {user, "password", database}]
    return replace(parts, query=tuple(rest))


def _verifying(parts: Parts) -> Parts:
    """Verify the certificate unless the URL disables it: kombu does not by default."""
    options = {"ssl_cert_reqs": "required", **dict(parts.query)}
    if not options.keys() <= set(TLS_OPTIONS):
        raise ValueError(f"its query may only contain username, password, db and {', '.join(TLS_OPTIONS)}")
    if options["ssl_cert_reqs"] not in CERTIFICATES:
        raise ValueError(f"its ssl_cert_reqs is not one of {', '.join(CERTIFICATES)}")
    _check_certificates(parts)
    return replace(parts, query=tuple(options.items()))


def _check_certificates(parts: Parts) -> None:
    """Check the named files: without them, a server would only seem not to answer."""
    for name, file in parts.query:
        if name in FILES and file != "system" and not (Path(file).is_file() and os.access(file, os.R_OK)):
            raise ValueError(f"its {name} names no file that can be read: correct its path")


def _check_file(rest: str) -> None:
    path, _, query = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") and rest:
        raise ValueError("a file's path comes after three slashes: sqlite:///FILE, or sqlite:////FOLDER/FILE")
    if not path or ":memory:" in path or "mode=memory" in query:
        raise ValueError("it is an in-memory database, which processes cannot share: name a file")
    if path.startswith("~"):
        raise ValueError("~ is not expanded: write the path in full, sqlite:////FOLDER/ledger.db")
    if path.endswith("/") or Path(path).is_dir():
        raise ValueError("it is a folder: name a file in it, such as ledger.db")
