"""What the Dockerfiles do, without Docker: `make images`, or `python -m tests.images [EXTRA ...]`.

The wheel is built and installed with each extra alone into an empty Python 3.11 environment, where every
command's help and one run work, in an empty folder with no checkout around. With `infer-cpu`, real questions
are answered. `infer` itself takes a CUDA build of vLLM: pip only resolves it. Each environment is removed
when it has passed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from tests import valkey

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = ["", *PROJECT["optional-dependencies"], "services.lock"]
NEEDS_CUDA = {"infer"}
WHOLE = {"infer-cpu"}  # its dependencies would bring CUDA builds beside a CPU torch: see infra/cpu.in
SERVICES = "services.lock"  # what infra/cpu.Dockerfile installs, with hashes
HELP = """
import typer, producers
from typer.testing import CliRunner
from producers import cli

assert "site-packages" in producers.__file__, producers.__file__

def walk(command, words):
    ended = CliRunner().invoke(cli.app, [*words, "--help"])
    assert ended.exit_code == 0, (words, ended.output)
    for name, below in getattr(command, "commands", {}).items():
        walk(below, [*words, name])

walk(typer.main.get_command(cli.app), [])
"""
SAMPLED = ["sample", "-n", "4", "--seed", "8", "-o", "questions.jsonl"]
SMOKE: dict[str, list[list[str]]] = {
    "": [SAMPLED, ["enqueue", "infer", "questions.jsonl", "--dry-run"], ["prompts", "list"]],
    "local": [["up", "-d", "--infer", "0", "--train", "0"], ["status"], ["down"]],
    "infer-cpu": [
        ["weights"],
        ["up", "-d", "--train", "0"],
        SAMPLED,
        ["enqueue", "infer", "questions.jsonl", "--run", "mine", "--votes", "3", "--max-tokens", "256"],
        ["collect", "mine", "-o", "answers.jsonl", "--wait"],
        ["report", "mine"],
        ["down"],
    ],
}
# Free ones: the usual ones may be in use.
PORTS = {
    "VOTEQUEUE_BROKER_URL": f"redis://127.0.0.1:{valkey.free_port()}/0",
    "VOTEQUEUE_FLOWER_PORT": str(valkey.free_port()),
}
# A worker's modules are imported as Celery imports them.
IMPORTS = {
    "infer-remote": "workers.infer, workers.openai_generator",
    "infer-cpu": "workers.infer",
    "train": "workers.train, workers.training_process",
    "reason": "workers.reason",
    SERVICES: "workers.reason",
    "translate": "workers.translate",
    "programs": "pydantic_monty",
    "report": "matplotlib, scipy",
    "collect": "datasets",
}


def main() -> int:
    """Try each extra; print one line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="default: all; '' is the bare wheel")
    chosen = parser.parse_args().extras or EXTRAS
    failed = []
    with tempfile.TemporaryDirectory(prefix="votequeue-images-") as folder:
        run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)], Path(folder))
        (wheel,) = Path(folder).glob("votequeue-*.whl")
        for extra in chosen:
            began = time.monotonic()
            try:
                said = attempt(wheel, extra, Path(folder) / (extra or "base"))
            except subprocess.CalledProcessError as error:
                failed.append(extra)
                said = f"FAILED: {' '.join(map(str, error.cmd))[:200]}\n{(error.stderr or '')[-3000:]}"
            print(f"votequeue[{extra}]: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(bool(failed))


def attempt(wheel: Path, extra: str, folder: Path) -> str:
    """Install one extra and use it; say what was done."""
    work = folder / "work"
    work.mkdir(parents=True)
    wanted = f"votequeue[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    run([sys.executable, "-m", "venv", str(folder / "venv")], work)
    python = folder / "venv/bin/python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    if extra in NEEDS_CUDA:
        run([*pip, "--dry-run", wanted], work)
        return "resolved, not installed: it needs CUDA"
    install(pip, wheel, extra, wanted, work)
    run([str(python), "-c", HELP], work)
    if modules := IMPORTS.get(extra):
        run([str(python), "-c", f"import {modules}"], work)
    for words in SMOKE.get(extra, []):
        run([str(python.with_name("votequeue")), *words], work)
    answers = work / "answers.jsonl"
    told = f", {answers.read_text('utf-8').count('answer')} answers" if answers.exists() else ""
    shutil.rmtree(folder)
    return f"installed, help of all commands, {len(SMOKE.get(extra, []))} commands run{told}"


def install(pip: list[str], wheel: Path, extra: str, wanted: str, work: Path) -> None:
    """Install one extra in the tested versions, or a whole image from its lock."""
    torch = next(line for line in pins() if line.startswith("torch=="))
    if extra in WHOLE:
        run([*pip, torch], work)
        run([*pip, "--no-deps", "--require-hashes", "-r", str(ROOT / "infra/cpu.lock")], work)
        run([*pip, "--no-deps", str(wheel)], work)
    elif extra == SERVICES:
        run([*pip, "--require-hashes", "-r", str(ROOT / "infra" / SERVICES)], work)
        run([*pip, "--no-deps", str(wheel)], work)
    else:
        constraints = work.parent / "constraints.txt"
        constraints.write_text("\n".join(line for line in pins() if not line.startswith("triton")))
        # torch first: pip then takes its CPU build where the registry offers one.
        if extra in ("train", "translate"):
            run([*pip, torch], work)
        run([*pip, "-c", str(constraints), wanted], work)


def pins() -> list[str]:
    """Give the pins of the tested environment."""
    lines = (ROOT / "infra/cpu.in").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def run(command: list[str], folder: Path) -> None:
    """Run a command as a user would, with nothing of this checkout in its environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VOTEQUEUE_") and name not in ("PYTHONPATH", "VIRTUAL_ENV")
    } | PORTS
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr + done.stdout)


if __name__ == "__main__":
    sys.exit(main())
