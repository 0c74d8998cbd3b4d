"""Write docs/licences.md: `make licences`, which calls `python -m tests.licences PIP`.

The licences are those that the packages declare. pip reads them from the registry, and installs nothing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
# The locks, and the Python versions that they are for.
LOCKS = {"cpu": "3.11", "services": "3.11", "translate": "3.11", "gpu": "3.12"}
HEAD = """# Licences of the dependencies

The packages of the locks in `infra/`, with the licences that they declare (`make licences` writes this page).
votequeue does not ship them: pip installs them. `cpu` is the environment of `make venv`, and also has torch
(BSD-3-Clause). The images `translate` and `gpu` contain NVIDIA's CUDA libraries, under NVIDIA's own licences.

| package | version | licence | locks |
|---|---|---|---|
"""


def declared(pip: str, lock: str, python: str) -> dict[tuple[str, str], str]:
    """Give the licence of each package of a lock by name and version."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        where = [
            "--python-version",
            python,
            "--only-binary",
            ":all:",
            "--target",
            folder,
            "--report",
            str(report),
        ]
        what = ["--no-deps", "--ignore-installed", "--ignore-requires-python", "-r", f"infra/{lock}.lock"]
        subprocess.run([pip, "install", "--quiet", "--dry-run", *where, *what], check=True, cwd=ROOT)
        found = [each["metadata"] for each in json.loads(report.read_text("utf-8"))["install"]]
    return {(canonicalize_name(each["name"]), each["version"]): licence(each) for each in found}


def licence(metadata: dict[str, Any]) -> str:
    """Give the licence that a package declares."""
    names = [name for name in metadata.get("classifier", []) if name.startswith("License :: ")]
    classified = ", ".join(name.rpartition(" :: ")[2] for name in names)
    said = metadata.get("license_expression") or classified or metadata.get("license") or "not declared"
    return " ".join(said.split())[:80]


def main(pip: str) -> int:
    """Ask pip about each lock and write the page."""
    licences: dict[tuple[str, str], str] = {}
    locks: dict[tuple[str, str], list[str]] = {}
    for lock, python in LOCKS.items():
        for package, said in declared(pip, lock, python).items():
            licences[package] = said
            locks.setdefault(package, []).append(lock)
    rows = [
        f"| {name} | {version} | {licences[name, version]} | {', '.join(locks[name, version])} |"
        for name, version in sorted(licences)
    ]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
