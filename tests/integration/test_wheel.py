"""The wheel by itself, unpacked far from the checkout: every file and command; `make images` does more."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
