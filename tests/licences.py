"""Write docs/licences.md: `make licences`, which calls `python -m tests.licences PIP-LICENSES`.

The licences are those that the installed packages declare.
"""

import json
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
HEAD = """# Licences of the dependencies

The packages of `infra/cpu.lock`, with the licences that they declare (`make licences` writes this page).
votequeue does not ship them: pip installs them. The GPU image has in addition NVIDIA's CUDA libraries, under
NVIDIA's own licences, and vLLM's dependencies (`infra/gpu.lock`).

| package | version | licence |
|---|---|---|
"""


def pinned() -> set[str]:
    """Name the packages of the pinned environment that are installed on every Python 3.11."""
    lines = (ROOT / "infra/cpu.in").read_text("utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line and ";" not in line}


def main(program: str) -> int:
    """Ask pip-licenses about this environment and write the page."""
    command = [program, f"--python={sys.executable}", "--from=mixed", "--with-system", "--format=json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rows = {canonicalize_name(each["Name"]): each for each in found}
    lines = [
        f"| {name} | {rows[name]['Version']} | {' '.join(rows[name]['License'].split())[:80]} |"
        for name in sorted(pinned())
    ]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
