"""infra/k8s, rendered by kubectl, against the schemas of Kubernetes and KEDA; no cluster runs."""

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from producers import cli
from shared import broker
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "infra/k8s"
TOOLS = sorted((BASE / "tools").glob("*.yaml"))
VERSIONS = ("1.29", "1.37")
Object = dict[str, Any]


def rendered(folder: Path) -> str:
    binary = str(Path(sys.executable).parent / "kubectl")
    done = subprocess.run([binary, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def base() -> list[Object]:
    return [found for found in yaml.safe_load_all(rendered(BASE)) if found]


def tools() -> list[Object]:
    return [yaml.safe_load(file.read_text("utf-8")) for file in TOOLS]


def secrets() -> dict[str, Object]:
    found = yaml.safe_load_all((BASE / "secret.example.yaml").read_text("utf-8"))
    return {each["metadata"]["name"]: each for each in found}


def of_kind(kind: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in base() if found["kind"] == kind}


def pods() -> dict[str, Object]:
    """Give the specification of each pod, also of the tools."""
    found = {name: each["spec"]["template"]["spec"] for name, each in of_kind("Deployment").items()}
    for each in tools():
        found[each["kind"]] = each["spec"]["template"]["spec"] if each["kind"] == "Job" else each["spec"]
    return found


def containers() -> list[Object]:
    return [each for pod in pods().values() for each in [*pod.get("initContainers", []), *pod["containers"]]]


def settings() -> dict[str, str]:
    (found,) = of_kind("ConfigMap").values()
    data: dict[str, str] = found["data"]
    return data


def is_keda(found: Object) -> bool:
    return bool(found["apiVersion"].startswith("keda.sh/"))


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_object(version: str) -> None:
    ours = [found for found in [*base(), *tools(), *secrets().values()] if not is_keda(found)]
    assert len(ours) > 10
    for found in ours:
        kubernetes_validate.validate(found, version, strict=True)


def test_the_schema_notices_a_mistake() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(of_kind("Deployment")["infer"]))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_keda_accepts_its_objects() -> None:
    # Its models leave out what they do not know: a misspelt field would be missing in what they print.
    from cloudcoil.models.keda import v1alpha1

    ours = [found for found in base() if is_keda(found)]
    assert len(ours) == len(broker.QUEUES) + 1
    for found in ours:
        read = getattr(v1alpha1, found["kind"]).model_validate(found)
        printed = read.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert {part: printed[part] for part in found} == found


def test_every_queue_has_a_deployment_a_scaler_and_a_disruption_budget_of_its_name() -> None:
    assert set(of_kind("Deployment")) == {*broker.QUEUES, "monitoring"}
    for kind in ("ScaledObject", "PodDisruptionBudget"):
        assert set(of_kind(kind)) == set(broker.QUEUES)
    for queue, scaler in of_kind("ScaledObject").items():
        deployment = of_kind("Deployment")[queue]
        (worker,) = deployment["spec"]["template"]["spec"]["containers"]
        assert worker["command"] == ["votequeue", "worker", queue]
        assert scaler["spec"]["scaleTargetRef"]["name"] == queue
        assert "replicas" not in deployment["spec"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for selector in (deployment, of_kind("PodDisruptionBudget")[queue]):
            assert selector["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_every_command_exists() -> None:
    command = typer.main.get_command(cli.app)
    for each in containers():
        if each["command"][0] == "votequeue":
            assert each["command"][1] in command.commands  # type: ignore[attr-defined]
        elif each["name"] == "flower":
            assert each["command"] == compose_services()["flower"]["command"]
        else:
            assert each["command"] == ["sleep", "infinity"]


def compose_services() -> dict[str, Object]:
    found: dict[str, Object] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    return found


def test_images_are_those_that_compose_builds() -> None:
    of_queue = {queue: pods()[queue]["containers"][0]["image"] for queue in broker.QUEUES}
    compose = {"infer": "votequeue-gpu:0.1.0", "train": "votequeue-gpu:0.1.0", "reason": "votequeue:0.1.0"}
    assert of_queue == {**compose, "translate": compose_services()["translate"]["image"]}
    assert {each["image"] for each in pods()["monitoring"]["containers"]} == {of_queue["reason"]}


def test_every_setting_exists() -> None:
    variables = {entry["name"] for each in containers() for entry in each.get("env", [])} | set(settings())
    fields = {PREFIX + name.upper() for name in Settings.model_fields}
    assert {name for name in variables if name.startswith(PREFIX)} <= fields
    assert {name for name in secrets()["votequeue-keys"]["stringData"] if name.startswith(PREFIX)} <= fields


def test_settings_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = secrets()["votequeue"]["stringData"]
    (worker,) = pods()["infer"]["containers"]
    for name, value in settings().items():
        monkeypatch.setenv(name, value)
    for entry in worker["env"]:
        monkeypatch.setenv(entry["name"], keys[entry["valueFrom"]["secretKeyRef"]["key"]])
    read = Settings(_env_file=None, _env_ignore_empty=True)  # type: ignore[call-arg]
    assert read.ledger.startswith("postgresql+psycopg://votequeue:PASSWORD@")
    assert read.broker.startswith("rediss://")


def test_secrets_are_only_referred_to() -> None:
    keys = set(secrets()["votequeue"]["stringData"])
    used = {
        entry["valueFrom"]["secretKeyRef"]["key"]
        for each in containers()
        for entry in each.get("env", [])
        if "valueFrom" in entry
    }
    (authentication,) = of_kind("TriggerAuthentication").values()
    used |= {target["key"] for target in authentication["spec"]["secretTargetRef"]}
    assert used == keys
    assert {"broker-url", "ledger-url", "scaler-url"} <= used
    assert "Secret" not in {found["kind"] for found in base()}
    assert not [name for name in settings() if re.search("KEY|SECRET|PASSWORD|TOKEN|_SK|_AK|_URL", name)]


def test_keys_of_services_reach_the_workers_and_what_downloads_for_them() -> None:
    named = {"secretRef": {"name": "votequeue-keys", "optional": True}}
    for queue in broker.QUEUES:
        pod = pods()[queue]
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            assert named in each["envFrom"]


def test_pods_are_restricted() -> None:
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for each in containers():
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
        assert "memory" in each["resources"]["limits"]


def test_every_folder_that_is_written_is_a_volume() -> None:
    for name, pod in pods().items():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            mounts = {mount["mountPath"]: mount["name"] for mount in each["volumeMounts"]}
            assert set(mounts.values()) <= volumes
            assert "/tmp" in mounts
            command = each["command"]
            if command[:2] == ["votequeue", "weights"] or command[-1] in ("infer", "train", "translate"):
                assert settings()["VOTEQUEUE_CACHE"] in mounts
            if command[-1] in ("infer", "train"):
                assert settings()["VOTEQUEUE_TRAINED"] in mounts
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if len(volume) == 2 and "persistentVolumeClaim" in volume
        }
        assert claims <= set(of_kind("PersistentVolumeClaim")), name
    for claim in of_kind("PersistentVolumeClaim").values():
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("queue", broker.QUEUES)
def test_only_queues_with_an_engine_have_a_gpu(queue: str) -> None:
    pod = pods()[queue]
    limits = pod["containers"][0]["resources"]["limits"]
    needs = queue in ("infer", "train")
    assert ("nvidia.com/gpu" in limits) == needs
    assert ("nodeSelector" in pod) == needs


def test_probes_tell_loading_from_dead() -> None:
    for queue in broker.QUEUES:
        (worker,) = pods()[queue]["containers"]
        ask = {
            name: worker[f"{name}Probe"]["exec"]["command"][-1]
            for name in ("startup", "liveness", "readiness")
        }
        assert ask == {"startup": "ready", "liveness": "live", "readiness": "ready"}
        startup = worker["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800


def test_a_worker_has_the_time_that_it_needs_to_end() -> None:
    services = compose_services()
    timeout = Settings.model_fields["call_timeout"].default
    for queue in broker.QUEUES:
        grace = pods()[queue]["terminationGracePeriodSeconds"]
        said = re.fullmatch(r"(\d+)([sm])", services[queue]["stop_grace_period"])
        assert said
        assert grace >= int(said[1]) * {"s": 1, "m": 60}[said[2]]
        if queue in ("reason", "translate"):
            assert grace > timeout


def test_workers_are_reached_only_for_metrics_and_reach_only_named_ports() -> None:
    (policy,) = of_kind("NetworkPolicy").values()
    rules = policy["spec"]
    assert rules["policyTypes"] == ["Ingress", "Egress"]
    assert rules["podSelector"] == {"matchExpressions": [{"key": "votequeue/role", "operator": "Exists"}]}
    ingress = [port["port"] for rule in rules["ingress"] for port in rule["ports"]]
    assert ingress == ["metrics"]
    egress = {port["port"] for rule in rules["egress"] for port in rule["ports"]}
    assert egress == {53, 443, 5432, 6333, 6379}
    for name, deployment in of_kind("Deployment").items():
        role = "worker" if name in broker.QUEUES else "monitoring"
        assert deployment["spec"]["template"]["metadata"]["labels"]["votequeue/role"] == role
        ports = {
            port["name"]: port["containerPort"]
            for each in pods()[name]["containers"]
            for port in each.get("ports", [])
        }
        assert ports == {"metrics": int(settings()["VOTEQUEUE_METRICS_PORT"])}
    for each in tools():
        found = each["spec"]["template"] if each["kind"] == "Job" else each
        assert found["metadata"]["labels"]["votequeue/role"] == "worker"


def test_flower_and_the_live_pages_are_reached_through_the_cluster_s_login_only() -> None:
    # Without a port and without an address beyond loopback, only `kubectl port-forward` leads to them.
    assert not [found for found in base() if found["kind"] in ("Service", "Ingress")]
    for each in pods()["monitoring"]["containers"][1:]:
        assert "ports" not in each
        assert not [entry["name"] for entry in each["env"] if entry["name"].startswith("VOTEQUEUE_FLOWER")]
    assert not [name for name in settings() if name.startswith("VOTEQUEUE_FLOWER")]


def test_the_query_names_the_model_of_the_settings() -> None:
    query = of_kind("ScaledObject")["infer"]["spec"]["triggers"][0]["metadata"]["query"]
    assert query.count(f"'{settings()['VOTEQUEUE_MODEL']}'") == 2


def test_the_producer_enqueues_for_the_model_of_the_settings() -> None:
    (producer,) = pods()["Pod"]["containers"]
    assert {"name": "VOTEQUEUE_MODEL", "value": settings()["VOTEQUEUE_MODEL"]} in producer["env"]
