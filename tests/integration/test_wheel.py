"""The wheel by itself, unpacked far from the checkout: every file and command; `make images` does more."""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "producers", "workers", "infra")
# Every command's help, and one that reads files of the package: the puzzles' texts, the prompts, the recipes.
PROGRAM = """
import sys
import producers, typer
from typer.testing import CliRunner
from producers import cli

assert producers.__file__.startswith(sys.argv[1]), producers.__file__
calls = []

def walk(command, words):
    calls.append(words)
    for name, below in getattr(command, "commands", {}).items():
        walk(below, [*words, name])

walk(typer.main.get_command(cli.app), [])
for words in calls:
    ended = CliRunner().invoke(cli.app, [*words, "--help"])
    assert ended.exit_code == 0, (words, ended.output)
print(len(calls))
"""
# Every command that may need an extra, in the order of their words; none may raise.
BARE = """
import json, sys
from producers import cli

for words in json.loads(sys.argv[1]):
    print(cli.main(words), *words, file=sys.stderr)
"""
NEEDY = {
    "weights": "votequeue[local]",
    "up --detach": "votequeue[local]",
    "down": "votequeue[local]",
    "ui": "votequeue[ui]",
    "serve": None,  # the weights are looked for first
    "doctor": None,
    "worker infer": "votequeue[infer] or votequeue[infer-cpu]",
    "worker train": "votequeue[train]",
    "worker reason": "votequeue[reason]",
    "worker translate": "votequeue[translate]",
    "enqueue infer q.jsonl --voices program=2": "votequeue[programs]",
    "enqueue infer hf://owner/name": "votequeue[collect]",
    "improve q.jsonl": "votequeue[report]",
    "worker infer --generator openai --provider local": "votequeue[infer-remote]",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (built,) = folder.glob("votequeue-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def call(unpacked: Path, folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOTEQUEUE_")} | {
        "PYTHONPATH": str(unpacked)
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_every_tracked_file_of_the_packages_and_no_other(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert tracked <= packed
    assert {name for name in packed if not name.startswith(tuple(f"{each}/" for each in PACKAGES))} == set()
    assert {name for name in packed if "__pycache__" in name or name.endswith((".pyc", ".db"))} == set()


def test_every_command_of_the_wheel_has_help_without_a_checkout(unpacked: Path, tmp_path: Path) -> None:
    assert int(call(unpacked, tmp_path, "-c", PROGRAM, str(unpacked))) > 30


def test_the_wheel_makes_and_enqueues_questions_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    call(unpacked, tmp_path, "-m", "producers", "sample", "-n", "3", "--seed", "8", "-o", "questions.jsonl")
    preview = call(unpacked, tmp_path, "-m", "producers", "prompts", "show", "zh")
    assert "答案是" in preview
    told = call(unpacked, tmp_path, "-m", "producers", "enqueue", "infer", "questions.jsonl", "--dry-run")
    assert "4 questions; nothing was written or sent" in told


def link_base(unpacked: Path, folder: Path) -> None:
    """Link the packages that the wheel needs without extras, and theirs, into a folder."""
    (own,) = metadata.distributions(path=[str(unpacked)])
    left, seen = [(own, {""})], set()
    while left:
        distribution, extras = left.pop()
        for requirement in map(Requirement, distribution.requires or ()):
            name, marker = canonicalize_name(requirement.name), requirement.marker
            if name in seen or (marker and not any(marker.evaluate({"extra": e}) for e in extras)):
                continue
            seen.add(name)
            found = metadata.distribution(name)
            left.append((found, requirement.extras or {""}))
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                (folder / top).symlink_to(Path(str(found.locate_file(top))))


def test_no_command_of_the_bare_wheel_ends_in_a_traceback(unpacked: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    link_base(unpacked, packages)
    call(unpacked, tmp_path, "-m", "producers", "sample", "-n", "2", "-o", "q.jsonl")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOTEQUEUE_")},
        "PYTHONPATH": f"{unpacked}:{packages}",
        "VOTEQUEUE_CACHE": str(tmp_path / "cache"),
        "VOTEQUEUE_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    words = json.dumps([command.split() for command in NEEDY])
    done = subprocess.run(
        [sys.executable, "-S", "-c", BARE, words],  # -S: without site-packages
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = re.split(r"(?m)^(\d) (.+)\n", done.stderr)
    assert said[2::3] == list(NEEDY)
    for message, code, command in zip(said[::3], said[1::3], said[2::3], strict=False):
        assert (code, message.count("\n")) == ("1", 1), (command, message)
        assert (NEEDY[command] or "votequeue: ") in message
