"""Map errors of `requests`, which Baidu's and Tencent's SDKs use, to ours.

    failure(requests.ReadTimeout("..."), "Tencent")  ->  NoReply("Tencent did not answer in time")

The mapping depends on whether the request may have been sent. The library's messages are never used: they
quote URLs, and Baidu's URLs contain secrets.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from shared.errors import NoReply, Unavailable, Unreadable, VotequeueError
from workers.providers import proxies

HIDDEN = "***"
DIRECT = {"http": "", "https": "", "all": ""}  # makes `requests` use no proxy
_T = TypeVar("_T")


def map_errors(work: Callable[[], _T], judge: Callable[[Exception], Exception]) -> _T:
    """Call an SDK; ``judge`` maps its exception to the error to raise."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  SDKs raise exceptions of any class
        mapped = judge(error)
    # Raised outside the handler, the error does not chain the SDK's, which quotes headers and addresses.
    raise mapped


def widen(session: Any, connections: int) -> None:
    """Size a session's connection pool for its callers; by default it keeps only ten connections."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections))


def silence(*loggers: str) -> None:
    """Disable an SDK's loggers: they log headers, and replies that may quote them."""
    for name in loggers:
        logging.getLogger(name).addFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def failure(error: BaseException, name: str, url: str) -> VotequeueError:
    """Map an exception of a call to the service at ``url`` to an error of ours."""
    from requests import exceptions

    # urllib3 raises a plain ValueError for a proxy with an unknown scheme.
    if isinstance(error, _of_this_machine()) or (type(error) is ValueError and proxies.apply_to(url)):
        return proxies.unreachable(name, type(error).__name__)
    if isinstance(error, exceptions.InvalidJSONError) or not isinstance(error, exceptions.RequestException):
        return Unreadable(f"{name}'s answer is not as documented ({type(error).__name__})")
    if isinstance(error, exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        return Unreadable(f"{name}'s answer broke off")
    if _was_sent(error):
        late = isinstance(error, exceptions.Timeout) or "timed out" in str(error)
        how = "did not answer in time" if late else "broke the connection off"
        return NoReply(f"{name} {how} ({type(error).__name__})")
    if proxies.apply_to(url):
        return proxies.unreachable(name, f"{type(error).__name__} at a proxy")
    return Unavailable(f"{name} cannot be reached ({type(error).__name__})")


def _of_this_machine() -> tuple[type[BaseException], ...]:
    from requests import exceptions

    return (
        exceptions.ProxyError,
        exceptions.SSLError,
        exceptions.InvalidSchema,  # a SOCKS proxy without its package, an unknown scheme
        exceptions.InvalidURL,
        exceptions.MissingSchema,
        exceptions.InvalidHeader,
        UnicodeEncodeError,
        ImportError,
    )


def _was_sent(error: BaseException) -> bool:
    import urllib3
    from requests import exceptions

    before = exceptions.ConnectTimeout, exceptions.SSLError, exceptions.ProxyError
    # urllib3 raises MaxRetryError if there was no connection, ProtocolError if the connection broke.
    unconnected = any(isinstance(cause, urllib3.exceptions.MaxRetryError) for cause in error.args)
    lost = isinstance(error, exceptions.ConnectionError | exceptions.Timeout)
    return lost and not unconnected and not isinstance(error, before)


def hidden(text: object, secrets: Iterable[str]) -> str:
    """Mask our secrets in a service's message."""
    message = str(text)
    for secret in filter(None, secrets):
        message = message.replace(secret, HIDDEN)
    return message
