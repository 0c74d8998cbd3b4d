"""Explain a broker's error in a sentence that says what to do.

    sentence(OutOfMemoryError("command not allowed ..."), "redis://:pw@queue.lan:6379/0")
        ->  "the broker at queue.lan:6379/0 is full (command not allowed ...): raise its maxmemory, or ..."

Errors come from redis-py, or from kombu, which wraps them. Only an unreachable server "does not answer".
"""

import re
import ssl
from collections.abc import Iterator

import redis
from redis import exceptions

from shared import urls

SETTING = "VOTEQUEUE_BROKER_URL"
_PIPELINED = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ")
LONGEST = 120  # characters of a quoted server message
LOGIN = f"put the right user name and password into {SETTING} (percent-encoded)"
CLUSTER = f"is a cluster, which cannot carry the messages: name a single server in {SETTING}"
TLS = f"and we do not agree on TLS: use redis:// or rediss:// and its certificates in {SETTING}"
HUNG_UP = f"closed the connection: if it wants TLS, begin {SETTING} with rediss://"
# The most specific class first.
_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationWrongNumberOfArgsError, f"does not accept our login: {LOGIN}"),
    (exceptions.AuthenticationError, f"does not accept our login: {LOGIN}"),
    (exceptions.AuthorizationError, f"does not accept our login: {LOGIN}"),
    (exceptions.NoPermissionError, "does not let our user do this: give the user ~* &* +@all"),
    (exceptions.OutOfMemoryError, "is full: raise its maxmemory, or empty it"),
    (exceptions.ReadOnlyError, f"is a replica, which takes no writes: name its primary in {SETTING}"),
    (exceptions.BusyLoadingError, "is still loading its data: wait for it"),
    (exceptions.MasterDownError, "is a replica without its primary: start that"),
    (exceptions.AskError, CLUSTER),
    (exceptions.ClusterDownError, CLUSTER),
    (exceptions.ClusterCrossSlotError, CLUSTER),
    (exceptions.InvalidResponse, f"is no Redis or Valkey: mend {SETTING}"),
    (
        ssl.SSLError,
        TLS,
    ),
)
# Errors without a class of their own, by the server's message (valkey/src/server.c, db.c, networking.c).
_BY_MESSAGE: tuple[tuple[str, str], ...] = (
    ("MISCONF", "takes no messages since it cannot write them to its disk: make room there"),
    ("NOREPLICAS", "takes no messages since it lacks replicas: start them"),
    ("max number of clients", "has no connection left: raise its maxclients, or stop some workers"),
    ("max number of connections", "has no connection left: raise its maxclients, or stop some workers"),
    (
        "DB index",
        f"has no such database: put another number at the end of {SETTING}, or raise its `databases`",
    ),
    ("invalid username-password", f"does not accept our login: {LOGIN}"),
    ("HTTP/1", f"is no Redis or Valkey: mend {SETTING}"),
    ("handshake", TLS),
    ("SSL", TLS),
    ("onnection closed by server", HUNG_UP),
    ("reset by peer", HUNG_UP),
)


def sentence(error: BaseException, url: str) -> str:
    """Say what an error of the broker at this URL means, without the URL's password."""
    cause, explanation = _explained(list(_causes(error)), url)
    reason = _PIPELINED.sub("", " ".join(str(cause).split())) or type(cause).__name__
    problem, colon, advice = explanation.partition(": ")
    place = urls.shown(url).partition("://")[2]
    return f"the broker at {place} {problem} ({reason[:LONGEST]}){colon}{advice}"


def _explained(causes: list[BaseException], url: str) -> tuple[BaseException, str]:
    for kind, explanation in _BY_CLASS:
        for cause in causes:
            if isinstance(cause, kind):
                return cause, explanation
    for message, explanation in _BY_MESSAGE:
        for cause in causes:
            if message in str(cause):
                return cause, explanation
    for cause in causes:
        if isinstance(cause, exceptions.ResponseError):
            return cause, "refuses a command: see the server's log"
    how = "start it with `votequeue up`" if urls.stays_here(url) else "start it there"
    return causes[-1], f"does not answer: {how}, or set {SETTING}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Follow an error back to its cause in the network or the server."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        following = current.__cause__ or current.__context__
        current = following if isinstance(following, redis.RedisError | OSError) else None
