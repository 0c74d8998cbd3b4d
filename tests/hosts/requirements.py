"""What the hosts need of this machine: Debian's programs, and a kernel that makes namespaces.

missing()  ->  "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
"""

from pathlib import Path

from tests.hosts import lab
from tests.integration import postgres


def faketime() -> Path | None:
    """Find the library that makes a process's clock wrong."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def not_installed() -> str | None:
    """Say which program is missing; ``None``: all are there."""
    if postgres.binaries() is None:
        return "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    if faketime() is None:
        return "libfaketime is not installed (Debian: apt-get install libfaketime)"
    return lab.not_installed()


def missing() -> str | None:
    """Say why no hosts can be made here; ``None``: they can."""
    return not_installed() or lab.forbidden()
