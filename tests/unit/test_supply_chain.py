"""The locks, the Dockerfiles and the list of licences: complete, hashed, and of the tested versions."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "infra").glob("*.lock"))
DOCKERFILES = sorted((ROOT / "infra").glob("*.Dockerfile"))
EXTRAS = {
    "services.lock": ["local", "report", "collect", "reason", "ui", "programs", "infer-remote"],
    "translate.lock": ["local", "report", "collect", "reason", "ui", "programs", "infer-remote", "translate"],
    "gpu.lock": ["infer", "train", "programs"],
}
# torch's registry build wants another version than its CPU build.
DIFFERENT = {"triton"}
TOO_FEW = 50


def pins(file: Path) -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text("utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


TESTED = pins(ROOT / "infra/cpu.in")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_of_a_lock_has_hashes(lock: Path) -> None:
    text = re.sub(r"^#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE)
    entries = re.split(r"(?<!\\)\n", text.strip())
    assert len(entries) > TOO_FEW
    for entry in entries:
        first, *hashes = entry.replace("\\\n", "").split("--hash=")
        assert "==" in first
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), first


def test_the_environments_lock_has_the_pins_that_it_is_made_from() -> None:
    assert pins(ROOT / "infra/cpu.lock") == TESTED, "infra/cpu.in has changed: run `make lock`"


@pytest.mark.parametrize("name", ["services.lock", "translate.lock"])
def test_images_have_the_tested_versions(name: str) -> None:
    locked = pins(ROOT / "infra" / name)
    other = {package for package, version in locked.items() if TESTED.get(package, version) != version}
    assert other <= DIFFERENT


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_satisfies_the_extras_that_its_image_installs(name: str) -> None:
    locked = pins(ROOT / "infra" / name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    wanted = [*project["dependencies"], *build]
    for extra in EXTRAS[name]:
        wanted += project["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: run `make lock`"


def test_the_gpu_image_and_its_lock_have_the_same_vllm() -> None:
    dockerfile = (ROOT / "infra/gpu.Dockerfile").read_text("utf-8")
    assert f"ARG VLLM={pins(ROOT / 'infra/gpu.lock')['vllm']}\n" in dockerfile


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_install_from_locks_only(dockerfile: Path) -> None:
    installs = re.findall(r"pip install (.*)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    assert installs
    for install in installs:
        lock = re.search(r"--require-hashes -r infra/(\S+)$", install)
        assert lock or install.endswith("--no-deps --no-build-isolation .")
        assert not lock or lock[1] in EXTRAS


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    binary = str(Path(sys.executable).parent / "hadolint")
    done = subprocess.run([binary, *map(str, DOCKERFILES)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_a_licence_on_the_page(lock: Path) -> None:
    page = (ROOT / "docs/licences.md").read_text("utf-8")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| .+ \| (.+) \|$", page, re.MULTILINE)
    listed = {name: version for name, version, locks in rows if lock.stem in locks.split(", ")}
    locked = pins(lock)
    conditional = {"async-timeout"}  # only on early patch versions of Python 3.11
    missing = {name for name, version in locked.items() if listed.get(name) != version} - conditional
    assert missing == set(), "run `make licences`"


AUDIT = """#!/bin/sh
for lock; do :; done
case $lock in
*cpu.lock) echo "Dependency not found on PyPI and could not be audited: mine (1)" ;;
*gpu.lock) echo "Found 1 known vulnerability in 1 package"; exit 1 ;;
*services.lock) echo "ERROR: ConnectionError: no network"; exit 1 ;;
*) echo "the lock cannot be read"; exit 1 ;;
esac
"""


def test_an_audit_looks_at_every_lock_and_fails_for_what_it_found(tmp_path: Path) -> None:
    tool = tmp_path / "bin/pip-audit"
    tool.parent.mkdir()
    tool.write_text(AUDIT)
    tool.chmod(0o755)
    make = ["make", "audit", f"TOOLS={tmp_path}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    packages = len(pins(ROOT / "infra/cpu.lock")) - 1
    assert done.stdout.splitlines() == [
        f"audit: infra/cpu.lock: nothing found in {packages} packages; 1 are unknown to the registry",
        "audit: infra/gpu.lock: Found 1 known vulnerability in 1 package",
        "audit: infra/services.lock: skipped: the registry does not answer",
        "audit: infra/translate.lock: the lock cannot be read",
    ]
