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
    """Tell whether Flower answers; its health page asks for no password."""
    flower = programs.flower(settings)
    host = f"[{flower.near}]" if ":" in flower.near else flower.near
    return probe_error(f"http://{host}:{flower.port}/healthcheck") is None


def chat_answers(settings: Settings) -> bool:
    """Tell whether the chat server of provider local has its model loaded."""
    return probe_error(f"{settings.local_url.rstrip('/')}/models") is None


def probe_error(url: str) -> str | None:
    """Ask for a page; give why there is none, ``None`` where it came."""
    try:
        with _opener(url).open(url, timeout=SECONDS):
            return None
    except ValueError:  # whose words quote the proxy's address, password and all
        return "the proxy that the environment names has no address"
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        return str(error) or type(error).__name__


def leads_through_socks(url: str) -> bool:
    """Tell whether calls to an address go through a SOCKS proxy, which no probe speaks."""
    host = urlsplit(url).hostname or ""
    if urls.is_loopback(host) or urllib.request.proxy_bypass(host):
        return False
    return any(proxy.startswith("socks") for proxy in urllib.request.getproxies().values())


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy cannot reach this machine's loopback, and many a machine has one and no `no_proxy`.
    here = [urllib.request.ProxyHandler({})] if urls.stays_here(url) else []
    return urllib.request.build_opener(*here)
