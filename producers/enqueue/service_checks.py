"""Check the settings of external services before enqueueing; problems are only reported.

    provider tencent: VOTEQUEUE_TENCENT_SECRET_ID and VOTEQUEUE_TENCENT_SECRET_KEY are not set here, but ...

The workers make the calls and may have settings that are missing here. No service is called.
"""

import socket
from urllib.parse import urlsplit

from shared import providers, settings, urls
from shared.settings import PREFIX

PATIENCE = 1.0  # seconds for the local server to answer


def notes(provider: str) -> list[str]:
    """List the problems that a provider's calls would have on this machine."""
    missing = _missing(provider)
    problems = [f"provider {provider}: {missing} not set here, but the workers need them"] if missing else []
    url = settings.load().local_url
    if provider == "local" and not _answers(url):
        problems.append(
            f"nothing answers at {urls.shown(url)}: start it with `votequeue serve` or `votequeue up --serve`"
        )
    return problems


def _missing(provider: str) -> str:
    loaded = settings.load()
    lacks = [
        [name for name in alternative if not getattr(loaded, name)]
        for alternative in providers.PROVIDERS[provider].needs
    ]
    if not all(lacks):
        return ""
    alternatives = [" and ".join(PREFIX + name.upper() for name in names) for names in lacks]
    return ", or ".join(alternatives) + " are"


def _answers(url: str) -> bool:
    try:
        place = urlsplit(url)
        port = place.port or (443 if place.scheme == "https" else 80)
        with socket.create_connection((place.hostname or "", port), PATIENCE):
            return True
    except (OSError, ValueError):
        return False
