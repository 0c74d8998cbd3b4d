"""Map errors of `requests`, which Baidu's and Tencent's SDKs use, to ours.

    failure(requests.ReadTimeout("..."), "Tencent")  ->  NoReply("Tencent did not answer in time")

Whether the call may have gone out is what counts. Its messages are never used: they quote addresses, and
Baidu takes secrets in those.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from shared.errors import NoReply, Unavailable, Unreadable, VotequeueError
from workers.providers import proxies

HIDDEN = "***"
DIRECT = {"http": "", "https": "", "all": ""}  # what `requests` is given where no proxy is to lead a call
_T = TypeVar("_T")


def tried(work: Callable[[], _T], judge: Callable[[Exception], Exception]) -> _T:
    """Do some work with an SDK; ``judge`` gives the error to raise where it fails."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  whatever an SDK lets through
        ours = judge(error)
    # Raised out here, it does not carry the SDK's error along, which quotes headers and addresses.
    raise ours


def widen(session: Any, connections: int) -> None:
    """Let a session keep as many connections as there are callers; by default it throws all over ten away."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=connections))


def silence(*loggers: str) -> None:
    """Let an SDK log nothing: it logs headers, and replies that may quote them; our errors say it."""
    for name in loggers:
        logging.getLogger(name).addFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def failure(error: BaseException, name: str, url: str) -> VotequeueError:
    """Say what an exception means for the call to a service, which is at ``url``."""
    from requests import exceptions

    # A bare ValueError is what urllib3 says of a proxy whose scheme it does not know.
    if isinstance(error, _of_this_machine()) or (type(error) is ValueError and proxies.lead_to(url)):
        return proxies.trouble(name, type(error).__name__)
    if isinstance(error, exceptions.InvalidJSONError) or not isinstance(error, exceptions.RequestException):
        return Unreadable(f"{name}'s answer is not as documented ({type(error).__name__})")
    if isinstance(error, exceptions.ChunkedEncodingError | exceptions.ContentDecodingError):
        return Unreadable(f"{name}'s answer broke off")
    if _went_out(error):
        late = isinstance(error, exceptions.Timeout) or "timed out" in str(error)
        how = "did not answer in time" if late else "broke the connection off"
        return NoReply(f"{name} {how} ({type(error).__name__})")
    if proxies.lead_to(url):
        return proxies.trouble(name, f"{type(error).__name__} at a proxy")
    return Unavailable(f"{name} cannot be reached ({type(error).__name__})")


def _of_this_machine() -> tuple[type[BaseException], ...]:
    from requests import exceptions

    return (
        exceptions.ProxyError,
        exceptions.SSLError,
        exceptions.InvalidSchema,  # a SOCKS proxy without its package, a scheme that is none
        exceptions.InvalidURL,
        exceptions.MissingSchema,
        exceptions.InvalidHeader,
        UnicodeEncodeError,
        ImportError,
    )


def _went_out(error: BaseException) -> bool:
    import urllib3
    from requests import exceptions

    before = exceptions.ConnectTimeout, exceptions.SSLError, exceptions.ProxyError
    # No connection at all is urllib3's MaxRetryError; one that breaks off is its ProtocolError.
    none = any(isinstance(cause, urllib3.exceptions.MaxRetryError) for cause in error.args)
    lost = isinstance(error, exceptions.ConnectionError | exceptions.Timeout)
    return lost and not none and not isinstance(error, before)


def hidden(text: object, secrets: Iterable[str]) -> str:
    """Give what a service said, our secrets taken out of it."""
    said = str(text)
    for secret in filter(None, secrets):
        said = said.replace(secret, HIDDEN)
    return said
