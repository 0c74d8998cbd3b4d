"""Health checks of the services on this machine.

flower_answers(settings)  ->  True
"""

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from infra import programs
from shared import urls
from shared.settings import Settings

SECONDS = 5.0


def flower_answers(settings: Settings) -> bool:
    """Return whether Flower answers; its health page needs no password."""
    flower = programs.flower(settings)
    return probe_error(f"http://{flower.url_host}:{flower.port}/healthcheck") is None


def chat_answers(settings: Settings) -> bool:
    """Return whether the chat server of provider local has loaded its model."""
    return probe_error(f"{settings.local_url.rstrip('/')}/models") is None


def probe_error(url: str) -> str | None:
    """Request a page; return the error, or ``None`` on success."""
    try:
        with _opener(url).open(url, timeout=SECONDS):
            return None
    except ValueError:  # its message contains the proxy's address and password
        return "the proxy in the environment has no address"
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        return str(error) or type(error).__name__


def leads_through_socks(url: str) -> bool:
    """Return whether calls to an address use a SOCKS proxy, which the probes do not support."""
    host = urlsplit(url).hostname or ""
    if urls.is_loopback(host) or urllib.request.proxy_bypass(host):
        return False
    return any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values())


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy cannot reach this machine's loopback, and `no_proxy` is often not set.
    here = [urllib.request.ProxyHandler({})] if urls.stays_here(url) else []
    return urllib.request.build_opener(*here)
