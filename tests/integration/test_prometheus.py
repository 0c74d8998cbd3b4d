"""The real Prometheus, from Debian's packages, over a real worker and the real exporter."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from infra import local, monitoring, process_groups, programs
from infra.programs import Program
from shared import settings as environment
from shared.errors import UserError
from shared.options import Sampling
from shared.settings import Settings
from tests import valkey, waiting
from tests.chaos import questions
from tests.integration import run_fixtures

ROOT = Path(__file__).parents[2]
RULES = ROOT / "infra" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "infra" / "grafana" / "votequeue.json"
QUESTIONS, VOTES = 12, 3
# Words of PromQL that are no metrics.
KEYWORDS = {"by", "on", "and", "or", "unless", "bool", "without", "ignoring", "group_left", "group_right"}


@pytest.fixture(scope="session", autouse=True)
def _prometheus() -> None:
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("Prometheus is not installed: `make test` installs it")
        pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")


def promtool(*arguments: object, text: str | None = None) -> str:
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def query(base: str, expression: str) -> list[dict[str, Any]]:
    reply = json.loads(get(f"{base}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
    assert reply["status"] == "success"
    found: list[dict[str, Any]] = reply["data"]["result"]
    return found


def value(base: str, expression: str) -> float | None:
    found = query(base, expression)
    return float(found[0]["value"][1]) if len(found) == 1 else None


def free_ports(count: int) -> int:
    """Find the first of some successive free ports."""
    while True:
        first = valkey.free_port()
        if all(programs.Address("127.0.0.1", first + more).free() for more in range(count)):
            return first


# Files


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", ROOT / "infra" / "prometheus" / "prometheus.yml")


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", ROOT / "tests" / "integration" / "prometheus_rules.yml")


def test_every_alert_says_how_bad_it_is_and_what_to_do_and_is_tested() -> None:
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    tested = yaml.safe_load((ROOT / "tests" / "integration" / "prometheus_rules.yml").read_text("utf-8"))
    fired = {
        case["alertname"]
        for test in tested["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    for rule in group["rules"]:
        assert rule["for"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert all(rule["annotations"][word].endswith(".") for word in ("summary", "runbook"))
    assert {rule["alert"] for rule in group["rules"]} == fired


# A worker, the exporter and Prometheus


@dataclass(frozen=True)
class Scraped:
    """Prometheus's address, and the texts that it reads."""

    url: str
    worker: str
    exporter: str

    def names(self) -> set[str]:
        """Give the names of all metrics, as queries have them."""
        return set(re.findall(r"^# TYPE (\S+)", self.worker + self.exporter, re.MULTILINE)) | {"up"}


@pytest.fixture
def scraped(home: Path, on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scraped]:
    """Answer a run by a worker with a fast generator, while Prometheus looks on."""
    monkeypatch.setenv("VOTEQUEUE_METRICS_PORT", str(free_ports(4)))
    environment.load.cache_clear()
    options = environment.load()
    data = home / "questions.jsonl"
    questions.write(data, QUESTIONS)
    run_fixtures.infer(data, Sampling(votes=VOTES, max_attempts=9), "r")

    worker = Program("infer-1", (sys.executable, "-m", "tests.chaos.worker", "infer"), 20)
    others = Program("exporter", (sys.executable, "-m", "producers", "exporter"), 20)
    selected = monitoring.monitored(options, [worker])
    first = options.metrics_port
    assert [program.metrics_port for program in selected] == [first + 2, first, first + 1]
    monitoring.write(options, selected)
    configuration = home / "var" / "prometheus" / "prometheus.yml"
    promtool("check", "config", configuration)
    configuration.write_text(configuration.read_text("utf-8").replace("15s", "1s"), "utf-8")
    commands = [(worker.command, first + 2), (others.command, first), (selected[-1].command, 0)]
    running = []
    try:
        for command, port in commands:
            with (home / f"log-{port}").open("wb") as log:
                variables = {**os.environ, "VOTEQUEUE_METRICS_PORT": str(port)}
                running.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=ROOT))
        base = monitoring.url(options)
        waiting.until(lambda: answers(f"{base}/-/ready"))
        waiting.until(lambda: value(base, 'sum(votequeue_queue_items{state="done"})') == QUESTIONS)
        waiting.until(lambda: value(base, "sum(votequeue_answers_total)") == QUESTIONS)
        texts = [get(f"http://127.0.0.1:{port}/metrics") for port in (first + 2, first)]
        yield Scraped(base, *texts)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


def answers(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False


def queried(expression: str) -> set[str]:
    """Give the metrics that an expression queries."""
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", "", expression)
    rest = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", rest)
    return set(re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)) - KEYWORDS


def test_the_names_in_an_expression_are_found() -> None:
    said = 'sum by (queue) (rate(a_total{b=~"x|y"}[5m])) > 0 and on (c) vllm:d == 0 or absent(up{e="f"})'
    assert queried(said) == {"a_total", "vllm:d", "up"}


def expressions() -> list[str]:
    """Give the expressions of the dashboard and the rules."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    told = [rule["expr"] for rule in group["rules"]]
    return [said.replace("$__rate_interval", "5m").replace("$queue", ".*") for said in shown + told]


def test_prometheus_reads_a_worker_and_the_exporter(scraped: Scraped) -> None:
    base = scraped.url
    up = {found["metric"]["job"]: found["value"][1] for found in query(base, "up")}
    assert up == {"votequeue-worker": "1", "votequeue-exporter": "1"}
    assert value(base, "votequeue_worker_ready") == 1
    assert value(base, "votequeue_up") == value(base, "votequeue_broker_up") == 1
    # A round in ten has no readable vote, and is repeated.
    rounds = value(base, "sum(votequeue_rounds_total)")
    assert rounds is not None
    assert value(base, "sum(votequeue_claims_total)") == rounds
    assert value(base, "sum(votequeue_votes_asked_total)") == VOTES * rounds
    assert value(base, 'sum(votequeue_votes_total{outcome="accepted"})') == VOTES * QUESTIONS
    assert value(base, 'votequeue_items_done_total{queue="infer"}') == QUESTIONS
    assert value(base, 'votequeue_queue_workers{queue="infer"}') == 1
    assert value(base, 'sum(votequeue_queue_items{state!="done"})') == 0
    # The run is over: its name is no label any more.
    assert query(base, "votequeue_run_items") == []
    (generator,) = query(base, "votequeue_generator_info")
    assert (generator["metric"]["engine"], generator["metric"]["worker"]) == ("fast", "infer-1")

    # What both expose keeps Prometheus's conventions.
    for text in (scraped.worker, scraped.exporter):
        assert promtool("check", "metrics", text=text) == ""

    told = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    assert [name for name in scraped.names() if name.startswith("votequeue_") and name not in told] == []

    # Prometheus understands every expression, and each metric in it is exposed (vLLM's: `tests/e2e`).
    exposed = scraped.names()
    named = {name for said in expressions() for name in queried(said)}
    assert {name for name in named if not name.startswith("vllm:")} <= exposed
    for said in expressions():
        query(base, said)
    health = json.loads(get(f"{base}/api/v1/rules"))["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in health} == {"ok"}


# `up --metrics`


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    made = Settings(
        _env_file=None,
        home=tmp_path / "var",
        broker_url=SecretStr(f"redis://127.0.0.1:{valkey.free_port()}/0"),
        flower_port=valkey.free_port(),
        metrics_port=free_ports(4),
    )
    monkeypatch.setattr(programs, "worker_command", lambda queue: ("sleep", "1000"))
    yield made
    local.down(made)


def test_up_starts_prometheus_and_down_ends_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    local.up(settings, {"train": 1}, detach=True, metrics=True)
    base = monitoring.url(settings)
    assert f"Prometheus: {base}" in capsys.readouterr().out
    states = {program.name: program.state for program in local.running(settings)}
    assert states == dict.fromkeys(["valkey", "train-1", "flower", "exporter", "prometheus"], "RUNNING")
    workers = json.loads((settings.home / "prometheus" / "workers.json").read_text("utf-8"))
    address = f"127.0.0.1:{settings.metrics_port + 2}"
    assert workers == [{"targets": [address], "labels": {"worker": "train-1"}}]
    assert (settings.home / "prometheus" / "data").is_dir()
    waiting.until(lambda: value(base, 'up{job="votequeue-exporter"}') == 1)
    # The stand-in of the worker serves nothing.
    waiting.until(lambda: value(base, 'up{job="votequeue-worker"}') == 0)
    local.down(settings)
    assert process_groups.living(programs.layout(settings).notes) == {}
    assert not answers(f"{base}/-/ready")


def test_without_prometheus_up_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"apt install prometheus\), or leave out --metrics"):
        local.up(settings, {}, detach=True, metrics=True)


def test_a_taken_port_is_named(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", settings.metrics_port + 1))
        listener.listen()
        said = (
            rf"port {settings.metrics_port + 1} on 127.0.0.1 \(prometheus\) is taken.*VOTEQUEUE_METRICS_PORT"
        )
        with pytest.raises(UserError, match=said):
            local.up(settings, {}, detach=True, metrics=True)


def test_programs_of_a_plain_up_serve_no_metrics(settings: Settings) -> None:
    assert programs.environment(settings)["VOTEQUEUE_METRICS_PORT"] == "0"


def test_an_exporter_whose_port_is_taken_says_which_setting_to_change(home: Path, on_broker: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "producers", "exporter"],
            env={**os.environ, "VOTEQUEUE_METRICS_PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=waiting.PATIENCE,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert f"cannot serve metrics on 127.0.0.1 port {port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
