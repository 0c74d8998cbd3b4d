"""Prometheus on this machine: a port for each process that it reads, and its files.

    exporter    127.0.0.1:9400  ledger and broker
    prometheus  127.0.0.1:9401  configuration and data in var/prometheus
    infer-1     127.0.0.1:9402  a worker

The ports follow each other, from VOTEQUEUE_METRICS_PORT on.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from infra import programs
from infra.programs import PYTHON, Address, Program
from shared import file_permissions, metrics_server
from shared.errors import UserError
from shared.jobs import KINDS
from shared.settings import Settings

EXPORTER, PROMETHEUS = "exporter", "prometheus"
LOOPBACK = "127.0.0.1"  # Prometheus asks for no password
FILES = Path(__file__).with_name("prometheus")


def monitored(settings: Settings, selected: Sequence[Program]) -> list[Program]:
    """Give each worker a port, and add the exporter and Prometheus.

    Raises:
        UserError: Prometheus is not installed.
    """
    if (binary := shutil.which(PROMETHEUS)) is None:
        raise UserError(
            "Prometheus is not installed: install it (Debian: apt install prometheus), or leave out --metrics"
        )
    first, folder = _first_port(settings), _folder(settings)
    command = (
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={LOOPBACK}:{first + 1}",
    )
    exporter = (*PYTHON, "-m", "producers.cli", "exporter")
    ports = iter(range(first + 2, first + 2 + len(selected)))
    return [
        *(
            dataclasses.replace(each, metrics_port=next(ports)) if _is_worker(each) else each
            for each in selected
        ),
        Program(EXPORTER, exporter, 20, metrics_port=first),
        Program(PROMETHEUS, command, 30, metrics_port=first + 1),
    ]


def _is_worker(program: Program) -> bool:
    return program.name.rpartition("-")[0] in KINDS


def _first_port(settings: Settings) -> int:
    return settings.metrics_port or metrics_server.PORT


def _folder(settings: Settings) -> Path:
    return programs.layout(settings).home / PROMETHEUS


def url(settings: Settings) -> str:
    """Give the address of Prometheus's page."""
    return f"http://{LOOPBACK}:{_first_port(settings) + 1}"


def refuse_taken_ports(settings: Settings, selected: Sequence[Program]) -> None:
    """Fail if a port of the metrics is taken."""
    for program in selected:
        host, port = LOOPBACK if program.name == PROMETHEUS else settings.metrics_host, program.metrics_port
        if port and not Address(host, port).free():
            raise UserError(
                f"port {port} on {host} ({program.name}) is taken: stop what listens there, or set "
                "VOTEQUEUE_METRICS_PORT, the first of these ports"
            )


def write(settings: Settings, selected: Sequence[Program]) -> None:
    """Write Prometheus's configuration, and the addresses that it reads."""
    folder = _folder(settings)
    file_permissions.make_folder(folder)
    for name in ("prometheus.yml", "rules.yml"):
        shutil.copyfile(FILES / name, folder / name)
    workers = [program for program in selected if _is_worker(program)]
    for name, read in ("workers", workers), (EXPORTER, [each for each in selected if each.name == EXPORTER]):
        targets = [_target(settings, program) for program in read]
        (folder / f"{name}.json").write_text(json.dumps(targets, indent=2) + "\n", encoding="utf-8")


def _target(settings: Settings, program: Program) -> dict[str, object]:
    host = Address(settings.metrics_host, program.metrics_port).url_host
    return {"targets": [f"{host}:{program.metrics_port}"], "labels": {"worker": program.name}}
