"""Whether a service of this machine answers.

    flower_answers(settings)  ->  True

A probe never raises for a service that is silent: what is to be done about it, `local` knows.
"""

import http.client
import urllib.error
import urllib.request

from infra import programs
from shared.settings import Settings

SECONDS = 5.0


def flower_answers(settings: Settings) -> bool:
    """Tell whether Flower answers; its health page asks for no password."""
    flower = programs.flower(settings)
    host = f"[{flower.near}]" if ":" in flower.near else flower.near
    return silence(f"http://{host}:{flower.port}/healthcheck") is None


def chat_answers(settings: Settings) -> bool:
    """Tell whether the chat server of provider local has its model loaded."""
    return silence(f"{settings.local_url.rstrip('/')}/models") is None


def silence(url: str) -> str | None:
    """Ask for a page; give why there is none, ``None`` where it came."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):  # noqa: S310  addresses of the user's own settings
            return None
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return str(error) or type(error).__name__
