"""The pinned environment is whole for every Python 3.11, whichever of them wrote it."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Its registry builds are CUDA builds: why the environment is installed without dependencies (infra/cpu.in).
LEFT_OUT = {"torchaudio", "torchvision", "torchcodec"}


def _pinned() -> Iterator[Requirement]:
    for line in (ROOT / "infra/cpu.in").read_text().splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


@pytest.mark.parametrize("version", ["3.11.0", "3.11.2", "3.11.3", "3.11.15"])
def test_what_every_package_needs_is_there(version: str) -> None:
    python = {**default_environment(), "python_full_version": version, "extra": ""}
    installed = list(importlib.metadata.distributions())
    there = {canonicalize_name(package.name) for package in installed}
    for pin in _pinned():
        if pin.marker is not None and not pin.marker.evaluate(python):
            there.discard(canonicalize_name(pin.name))
        else:
            there.add(canonicalize_name(pin.name))
    missing = {
        f"{package.name}: {text}"
        for package in installed
        for text in package.requires or []
        if (needed := Requirement(text)).name not in LEFT_OUT
        and (needed.marker is None or needed.marker.evaluate(python))
        and canonicalize_name(needed.name) not in there
    }
    assert missing == set()
