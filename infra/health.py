"""Health checks of the services and workers on this machine.

flower_answers(settings)  ->  True

As a program, the probe of a container with a worker: `python -m infra.health live` (its process works) or
`ready` (its models are loaded, and it is not stopping). Neither asks the ledger or the broker: while these
are away, a restart of the worker would not help.
"""

import argparse
import http.client
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from infra import programs
from shared import settings as environment
from shared import urls, worker_state
from shared.errors import UserError
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


def require_index(settings: Settings) -> None:
    """Check that the Qdrant server answers, if the settings name one.

    Raises:
        UserError: it does not answer.
    """
    if not settings.qdrant_url or leads_through_socks(settings.qdrant_url):
        return
    if (error := probe_error(f"{settings.qdrant_url.rstrip('/')}/readyz")) is not None:
        raise UserError(
            f"Qdrant at {settings.qdrant_url} does not answer ({error}): start it, or fix "
            "VOTEQUEUE_QDRANT_URL (empty: an index in each worker's memory)"
        )


def worker_error(settings: Settings, question: str) -> str | None:
    """Ask whether the workers below this home folder are ``live`` or ``ready``; return why not."""
    workers = list(worker_state.read(settings.home))
    if not workers:
        return f"no worker runs below {settings.home}"
    for state, age in workers:
        if age > 2 * settings.lease:
            return f"the worker has shown no sign of life for {age:.0f} seconds"
        if question == "ready" and state != "ready":
            return f"the worker is {state}"
    return None


def main() -> int:
    """Answer one question about the workers of this machine; exit 1: no."""
    parser = argparse.ArgumentParser(prog="python -m infra.health", description="Probe the workers here.")
    parser.add_argument("question", choices=["live", "ready"])
    question = parser.parse_args().question
    try:
        error = worker_error(environment.load(), question)
    except UserError as invalid:
        error = str(invalid)
    if error:
        print(error, file=sys.stderr)
    return int(error is not None)


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy cannot reach this machine's loopback, and `no_proxy` is often not set.
    here = [urllib.request.ProxyHandler({})] if urls.stays_here(url) else []
    return urllib.request.build_opener(*here)


if __name__ == "__main__":
    sys.exit(main())
