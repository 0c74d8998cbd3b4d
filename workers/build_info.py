"""The version of this code and, in a git checkout, its commit.

code()  ->  "0.1.0+35784c4-dirty"
"""

import functools
import importlib.metadata
import subprocess
from pathlib import Path

GIT = ("git", "describe", "--always", "--dirty", "--match=", "--abbrev=12")


@functools.cache
def code() -> str:
    """Name the running code."""
    version = importlib.metadata.version("votequeue")
    root = Path(__file__).resolve().parent.parent
    # An installed package may be below the checkout of another project.
    if not (root / ".git").exists():
        return version
    try:
        result = subprocess.run(  # noqa: S603  a fixed command
            GIT, cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{result.stdout.strip()}"
