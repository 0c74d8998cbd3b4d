"""What users run: enqueue, watch, collect, report, sample; `Client` is the same in Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    # Imported on demand: the command line starts without what the client needs.
    if name == "Client":
        from producers.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
