"""Proxies from the environment, and clear errors when one does not work.

    trouble("api.deepseek.com", "ProxyError")
        ->  UserError("api.deepseek.com cannot be called from this machine (ProxyError): check HTTPS_PROXY")

Calls to this machine's loopback never go through one. A proxy's address is never told: it may have a
password in it. A fault of this machine is no item's fault, which `UserError` says.
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


def lead_to(url: str) -> bool:
    """Tell whether calls to a URL go through a proxy."""
    where = urlsplit(url)
    known = urllib.request.getproxies()
    named = known.get(where.scheme) or known.get("all")
    return bool(named) and not urls.stays_here(url) and not urllib.request.proxy_bypass(where.hostname or "")


def trouble(name: str, what: str) -> UserError:
    """Say that a service cannot be called from this machine, and what to check."""
    there = [
        variable for variable in _VARIABLES if os.environ.get(variable) or os.environ.get(variable.lower())
    ]
    check = f"check {', '.join(there)} and" if there else "check"
    return UserError(
        f"{name} cannot be called from this machine ({what}): {check} the service's address and certificates"
    )


def built(name: str, build: Callable[[], _T]) -> _T:
    """Build a client.

    Raises:
        UserError: its library does not let it be built, for whatever reason.
    """
    try:
        return build()
    except VotequeueError:
        raise
    except ImportError as error:
        missing = error.name or "for SOCKS proxies"
        ours = trouble(name, f"the package {missing} is missing: pip install 'votequeue[reason,translate]'")
    except Exception as error:  # noqa: BLE001  whatever a library raises that cannot use an address or a key
        ours = trouble(name, type(error).__name__)
    # Raised out here, it does not carry the library's error along, which may quote a proxy's password.
    raise ours
