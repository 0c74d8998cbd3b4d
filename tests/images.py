"""What the Dockerfiles do, without Docker: `make images`, or `python -m tests.images [EXTRA ...]`.

The wheel is built and installed with each extra alone into an empty Python 3.11 environment, where every
command's help and a smoke run work, in an empty folder with no checkout around. With `infer-cpu`, a real
engine answers questions; workers that call a provider call a local server. `infer` itself takes a CUDA build
of vLLM: pip only resolves it. Each environment is removed when it has passed.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import valkey
from tests.e2e import faulty
from tests.servers.openai import ChatServer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = ["services.lock", "translate.lock"]  # what infra/cpu.Dockerfile installs, with hashes
EXTRAS = ["", *PROJECT["optional-dependencies"], *LOCKS]
NEEDS_CUDA = {"infer"}
WHOLE = {"infer-cpu"}  # its dependencies would bring CUDA builds beside a CPU torch: see infra/cpu.in
PATIENCE = 300.0  # seconds
PIP = [sys.executable, "-m", "pip"]
OWN_PORTS = {
    "VOTEQUEUE_BROKER_URL": f"redis://127.0.0.1:{valkey.free_port()}/0",
    "VOTEQUEUE_FLOWER_PORT": str(valkey.free_port()),
}
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
CHAT = ["--provider", "chat", "--model", "m"]
REMOTE = ["--generator", "openai", *CHAT]
COLLECTED = ["collect", "mine", "-o", "answers.jsonl", "--wait"]
BASE = [
    SAMPLED,
    ["enqueue", "infer", "questions.jsonl", "--dry-run"],
    ["prompts", "list"],
    ["report", "done"],
]
REASONED = [
    SAMPLED,
    ["enqueue", "reason", "questions.jsonl", "--label", "correct", *CHAT, "--run", "mine"],
    COLLECTED,
]
TRANSLATED = [
    SAMPLED,
    ["enqueue", "translate", "questions.jsonl", "--strategy", "back-translation", *CHAT, "--run", "mine"],
    COLLECTED,
]
# The commands of each extra. The ledger has a run `done`, which is answered.
SMOKE: dict[str, list[list[str]]] = {
    "": BASE,
    "local": [["up", "-d"], ["status"], ["down"]],
    "infer-cpu": [
        ["weights"],
        ["up", "-d", "--train", "0"],
        SAMPLED,
        ["enqueue", "infer", "questions.jsonl", "--run", "mine", "--votes", "3", "--max-tokens", "256"],
        COLLECTED,
        ["report", "mine"],
        ["down"],
    ],
    "infer-remote": [SAMPLED, ["enqueue", "infer", "questions.jsonl", *REMOTE, "--run", "mine"], COLLECTED],
    "train": [],
    "reason": REASONED,
    "translate": TRANSLATED,
    "programs": BASE,
    "ui": [],
    "collect": [["collect", "done", "-o", "answers.parquet"], ["collect", "done", "-o", "answers.hf"]],
    "report": [["report", "done", "-o", "report"], ["report", "done", "--html", "-o", "page.html"]],
    "dev": BASE,
    "services.lock": [*REASONED, ["report", "done", "-o", "report"]],
    "translate.lock": TRANSLATED,
}
# What runs beside the commands; without commands, it only gets ready and is told to stop.
PORT = str(valkey.free_port())
BESIDE = {
    "infer-remote": ["worker", "infer", *REMOTE],
    "train": ["worker", "train"],
    "reason": ["worker", "reason"],
    "translate": ["worker", "translate"],
    "ui": ["ui", "--port", PORT],
    "services.lock": ["worker", "reason"],
    "translate.lock": ["worker", "translate"],
}
LISTENS = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/', timeout=5)"
RAN = """
from shared.settings import Settings
from workers.program_executor import MontyExecutor

ran = MontyExecutor(Settings()).run("print(6 * 7)")
assert ran.output.strip() == "42", ran
"""
# What is true of an extra beyond its commands: modules that no command here imports, and programs that run.
CHECKS = {
    "infer-remote": "import workers.openai_generator",
    "train": "import workers.training_process",
    "programs": RAN,
    "services.lock": f"{RAN}\nimport workers.openai_generator",
    "report": "import pathlib; assert list(pathlib.Path('report').glob('*.png'))",
}


def main() -> int:
    """Try each extra; print one line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="default: all; '' is the bare wheel")
    chosen = parser.parse_args().extras or EXTRAS
    failed = []
    with tempfile.TemporaryDirectory(prefix="votequeue-images-") as name, services() as variables:
        folder = Path(name)
        run([*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", name, str(ROOT)], folder, {})
        (wheel,) = folder.glob("votequeue-*.whl")
        prepare(folder / "done", variables)
        for extra in chosen:
            began = time.monotonic()
            try:
                said = attempt(wheel, extra, folder / (extra or "base"), variables)
            except subprocess.CalledProcessError as error:
                failed.append(extra)
                said = f"FAILED: {' '.join(map(str, error.cmd))[:200]}\n{(error.stderr or '')[-3000:]}"
            print(f"votequeue[{extra}]: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(bool(failed))


@contextlib.contextmanager
def services() -> Iterator[dict[str, str]]:
    """Start a broker and a provider; give the settings that lead to them."""
    with valkey.running() as url, ChatServer(key="sk-1", reply=faulty.reply) as chat:
        yield {
            "VOTEQUEUE_BROKER_URL": url,
            "VOTEQUEUE_CHAT_BASE_URL": chat.url,
            "VOTEQUEUE_CHAT_API_KEY": "sk-1",
        }


def prepare(folder: Path, variables: Mapping[str, str]) -> None:
    """Answer the run `done`, with this checkout's environment."""
    folder.mkdir()
    command = [sys.executable, "-m", "producers"]
    enqueued = ["enqueue", "infer", "questions.jsonl", *REMOTE, "--run", "done"]
    run([*command, *SAMPLED], folder, variables)
    run([*command, *enqueued], folder, variables)
    with beside([*command, *BESIDE["infer-remote"]], folder, variables):
        run([*command, "collect", "done", "-o", "answers.jsonl", "--wait"], folder, variables)


def attempt(wheel: Path, extra: str, folder: Path, provided: Mapping[str, str]) -> str:
    """Install one extra and use it; say what was done."""
    work = folder / "work"
    wanted = f"votequeue[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    # `up` starts a broker of its own, on a port that is free.
    variables = {**provided, **(OWN_PORTS if ["down"] in SMOKE.get(extra, []) else {})}
    shutil.copytree(folder.parent / "done", work)
    (work / "questions.jsonl").unlink()
    (work / "answers.jsonl").unlink()
    run([sys.executable, "-m", "venv", str(folder / "venv")], work, {})
    python = folder / "venv/bin/python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    if extra in NEEDS_CUDA:
        run([*pip, "--dry-run", wanted], work, {})
        return "resolved, not installed: it needs CUDA"
    install(pip, wheel, extra, wanted, work)
    run([str(python), "-c", HELP], work, variables)
    votequeue = str(python.with_name("votequeue"))
    with contextlib.ExitStack() as stack:
        if program := BESIDE.get(extra):
            stack.enter_context(beside([votequeue, *program], work, variables))
        if ["down"] in SMOKE[extra]:
            stack.callback(run, [votequeue, "down"], work, variables)
        for words in SMOKE[extra]:
            run([votequeue, *words], work, variables)
    if check := CHECKS.get(extra):
        run([str(python), "-c", check], work, variables)
    answers = work / "answers.jsonl"
    told = f", {len(answers.read_text('utf-8').splitlines())} entries collected" if answers.exists() else ""
    ran = f"{len(SMOKE[extra])} commands run{told}"
    if program:
        ran += f" beside `votequeue {' '.join(program)}`"
    shutil.rmtree(folder)
    return f"installed, help of all commands, {ran}"


@contextlib.contextmanager
def beside(command: list[str], folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Start a program, wait until it is ready, and stop it afterwards."""
    ready = ["-m", "infra.health", "ready"] if "worker" in command else ["-c", LISTENS]
    python = [str(Path(command[0]).with_name("python"))]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment(variables), stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.CalledProcessError):
                run([*python, *ready], folder, variables)
                break
        else:
            raise subprocess.CalledProcessError(1, command, stderr=log.read_text("utf-8", "replace"))
        yield
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
    if code not in (0, -signal.SIGTERM):  # uvicorn ends by the signal itself
        raise subprocess.CalledProcessError(code, command, stderr=log.read_text("utf-8", "replace"))


def install(pip: list[str], wheel: Path, extra: str, wanted: str, work: Path) -> None:
    """Install one extra in the tested versions, or a whole image from its lock."""
    torch = next(line for line in pins() if line.startswith("torch=="))
    if extra in WHOLE:
        run([*pip, torch], work, {})
        run([*pip, "--no-deps", "--require-hashes", "-r", str(ROOT / "infra/cpu.lock")], work, {})
        run([*pip, "--no-deps", str(wheel)], work, {})
    elif extra in LOCKS:
        run([*pip, "--require-hashes", "-r", str(ROOT / "infra" / extra)], work, {})
        run([*pip, "--no-deps", "--no-build-isolation", str(ROOT)], work, {})
    else:
        constraints = work.parent / "constraints.txt"
        constraints.write_text("\n".join(line for line in pins() if not line.startswith("triton")))
        # torch first: pip then takes its CPU build where the registry offers one.
        if extra in ("train", "translate"):
            run([*pip, torch], work, {})
        run([*pip, "-c", str(constraints), wanted], work, {})


def pins() -> list[str]:
    """Give the pins of the tested environment."""
    lines = (ROOT / "infra/cpu.in").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run a command as a user would."""
    done = subprocess.run(
        command, cwd=folder, env=environment(variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr + done.stdout)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Give the environment with nothing of this checkout in it."""
    own = ("PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOTEQUEUE_")}
    return {name: value for name, value in kept.items() if name not in own} | dict(variables)


if __name__ == "__main__":
    sys.exit(main())
