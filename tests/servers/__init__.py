"""Local servers that speak the wires of the outside services, and what the conformance test asks of each.

    Harness("chat", call=..., fail_with=server.fail_with, received=lambda: len(server.requests), ...)

`tests/integration/test_providers.py` drives every provider through one of these. Each server's module has a
context manager ``harnesses()`` that gives a list of them while their servers run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

KINDS = (
    "ok",
    "throttled",
    "throttled with delay",
    "credentials",
    "server error",
    "timeout",
    "garbled",
    "exhausted",
    "refused",
)


@dataclass(frozen=True)
class Harness:
    """A provider's real class, talking to a local server that can be told how to fail.

    ``call`` makes one good-looking call and gives a `Reply` or `Translated`; ``fail_with`` says how all calls
    from now on end (one of `KINDS`); ``received`` counts the calls that reached the server, token exchanges
    left out; ``secrets`` must never be seen in an error; ``lacks`` are the kinds that the wire does not have.
    """

    name: str
    call: Callable[[], object]
    fail_with: Callable[[str], None]
    received: Callable[[], int]
    secrets: tuple[str, ...] = field(repr=False)
    lacks: frozenset[str] = frozenset()


def fullest(arrivals: Iterable[tuple[float, int]], seconds: float) -> int:
    """Give what the fullest window of a length holds of what arrived: pairs of a moment and a weight."""
    seen, first, inside, most = sorted(arrivals), 0, 0, 0
    for at, weight in seen:
        inside += weight
        while at - seen[first][0] >= seconds:
            inside -= seen[first][1]
            first += 1
        most = max(most, inside)
    return most
