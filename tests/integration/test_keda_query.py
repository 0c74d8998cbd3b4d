"""The queries of infra/k8s by which KEDA scales workers, on a real PostgreSQL ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import generators
from shared.jobs import KINDS
from shared.ledger import engine, schema
from shared.ledger.schema import State
from tests.conftest import forget
from tests.integration.conftest import new_database
from tests.unit import test_kubernetes

MODEL = test_kubernetes.settings()["VOTEQUEUE_MODEL"]
SERVED = {
    "infer": generators.queues_of("vllm", None, MODEL, named=False),
    "train": ["train"],
    "reason": ["reason"],
    "translate": ["translate"],
}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("infer", {}),
    ("infer", {"generator": "vllm", "model": None, "votes_of": None}),
    ("infer", {"generator": "vllm", "model": MODEL}),
    ("infer", {"model": "other/model"}),
    ("infer", {"generator": "openai", "provider": "chat", "model": MODEL}),
    ("infer", {"generator": "openai", "provider": "chat", "model": "m", "votes_of": "first"}),
    ("infer", {"model": "other/model", "votes_of": ["first", "second"]}),
    ("infer", {"model": "other/model", "votes_of": []}),
    ("train", {"target": "scorer"}),
    ("reason", {"provider": "chat", "model": MODEL}),
    ("translate", {"strategy": "synonym"}),
]
# State, seconds until it is due, and whether it counts: what is due in an hour needs no worker yet.
ITEMS = [
    (State.PENDING, 0, True),
    (State.PENDING, 30, True),
    (State.PENDING, 3600, False),
    (State.LEASED, 0, True),
    (State.DONE, 0, False),
    (State.DEAD, 0, False),
]
EACH = sum(counts for *_, counts in ITEMS)


def query(queue: str) -> str:
    scaler = test_kubernetes.of_kind("ScaledObject")[queue]
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    text: str = trigger["metadata"]["query"]
    return text


def counted() -> dict[str, int]:
    with engine.reading() as connection:
        # As KEDA sends it: a colon in it is no parameter.
        return {queue: connection.exec_driver_sql(query(queue)).scalar_one() for queue in KINDS}


@pytest.fixture
def empty(postgres_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the settings at an empty ledger on PostgreSQL."""
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", new_database(postgres_url))
    forget()
    yield
    forget()


@pytest.fixture
def ledger(empty: None) -> None:
    """Fill it with a run of each kind, generator and model."""
    with engine.writing() as connection:
        now = engine.now(connection)
        for number, (kind, options) in enumerate(OPTIONS):
            run = f"run{number}"
            row = {
                "name": run,
                "kind": kind,
                "source": "",
                "digest": "",
                "options": options,
                "created_at": now,
            }
            connection.execute(sa.insert(schema.runs).values(row))
            items = [
                {
                    "run": run,
                    "number": at,
                    "key": str(at),
                    "entry": at,
                    "question": 0,
                    "state": state,
                    "not_before": now + wait if wait else 0.0,
                    "settled_at": now if state in (State.DONE, State.DEAD) else None,
                }
                for at, (state, wait, _) in enumerate(ITEMS)
            ]
            connection.execute(sa.insert(schema.items), items)


@pytest.mark.usefixtures("ledger")
def test_keda_counts_what_the_workers_of_a_deployment_take_and_nothing_else() -> None:
    expected = {
        queue: EACH * sum(generators.queue_of(kind, options) in served for kind, options in OPTIONS)
        for queue, served in SERVED.items()
    }
    assert expected == {"infer": 5 * EACH, "train": EACH, "reason": EACH, "translate": EACH}
    assert counted() == expected


@pytest.mark.usefixtures("ledger")
def test_a_paused_run_holds_no_worker() -> None:
    before = counted()
    with engine.writing() as connection:
        connection.execute(sa.text("UPDATE runs SET control = 'paused' WHERE kind = 'train'"))
    assert counted() == {**before, "train": 0}


@pytest.mark.usefixtures("empty")
def test_an_empty_ledger_needs_no_worker() -> None:
    engine.ready()
    assert counted() == dict.fromkeys(KINDS, 0)
