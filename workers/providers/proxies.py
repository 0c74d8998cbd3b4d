"""Proxies from the environment, and clear errors for their failures.

    unreachable("api.deepseek.com", "ProxyError")
        ->  UserError("api.deepseek.com cannot be called from this machine (ProxyError): check HTTPS_PROXY")

Calls to this machine's loopback never use a proxy. Errors never contain a proxy's address, which may include
a password. They are a `UserError`, since a failure of this machine must not count against an item.
"""

import os
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from shared import urls
from shared.errors import UserError, VotequeueError

_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_T = TypeVar("_T")


def apply_to(url: str) -> bool:
    """Tell whether calls to a URL use a proxy."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return bool(proxy) and not urls.stays_here(url) and not urllib.request.proxy_bypass(parts.hostname or "")


def unreachable(name: str, cause: str) -> UserError:
    """Build the error for a service that this machine cannot call; it names what to check."""
    variables = [name for name in _VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
    check = f"check {', '.join(variables)} and" if variables else "check"
    return UserError(
        f"{name} cannot be called from this machine ({cause}): {check} the service's address and certificates"
    )


def build_client(name: str, build: Callable[[], _T]) -> _T:
    """Build a client.

    Raises:
        UserError: the library raised an error.
    """
    try:
        return build()
    except VotequeueError:
        raise
    except ImportError as error:
        missing = error.name or "for SOCKS proxies"
        failure = unreachable(
            name, f"the package {missing} is missing: pip install 'votequeue[reason,translate]'"
        )
    except Exception as error:  # noqa: BLE001  libraries raise exceptions of any class for an unusable address or key
        failure = unreachable(name, type(error).__name__)
    # Raised outside the handler, this does not chain the library's error, which may quote a proxy's password.
    raise failure
