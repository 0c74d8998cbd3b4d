"""The exporter over real ledgers, and what it says when they are away."""

import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from producers import exporter
from producers.exporter import Exporter
from shared.errors import ServiceUnreachable
from shared.ledger import calls, claims, controls, engine, leases, outbox, progress, schema
from shared.options import Sampling
from tests.integration import model_fixtures, run_fixtures

Series = dict[tuple[str, ...], float]


def scraped(of: Exporter) -> dict[str, Series]:
    """Scrape an exporter; give each metric's values by those of its labels, in the order of their names."""
    registry = CollectorRegistry()
    registry.register(of)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        family.name: {tuple(s.labels[name] for name in sorted(s.labels)): s.value for s in family.samples}
        for family in families
    }


def enqueue(home: Path, run: str, questions: int) -> None:
    data = run_fixtures.write(home / f"{run}.jsonl", run_fixtures.entry(run, "A" * questions))
    run_fixtures.infer(data, Sampling(votes=5), run)


@pytest.mark.usefixtures("any_ledger")
def test_what_the_ledger_and_the_broker_hold_is_exported(on_broker: str, home: Path) -> None:
    enqueue(home, "over", 2)
    run_fixtures.answer_all("over", 2)
    enqueue(home, "open", 5)
    run_fixtures.answer_all("open", 1)
    held, doomed = run_fixtures.claim("open", 1, 2)
    claims.bury(doomed, "content filtered")
    calls.set_budget("open", 20.0)
    with engine.writing() as connection:
        connection.execute(schema.spending.update().values(spent=18.5))
    calls.pause("chat/m@1f0c22aa", "no credit", None)
    leases.heartbeat("two", 60, queues=["infer", "infer.other"])
    model_fixtures.put("s1")

    subject = Exporter()
    subject.refresh()
    metrics = scraped(subject)

    assert metrics["votequeue_up"] == metrics["votequeue_broker_up"] == {(): 1}
    states = {"done": 3, "leased": 1, "pending": 2, "dead": 1, "cancelled": 0}
    assert metrics["votequeue_queue_items"] == {("infer", state): count for state, count in states.items()}
    of_run = {"done": 1, "leased": 1, "pending": 2, "dead": 1, "cancelled": 0}
    assert metrics["votequeue_run_items"] == {
        ("infer", "open", state): count for state, count in of_run.items()
    }
    # Nobody has taken any of the messages: no worker runs.
    assert metrics["votequeue_queue_messages"] == {("infer",): 7, ("infer.other",): 0}
    assert metrics["votequeue_queue_workers"] == {("infer",): 1, ("infer.other",): 1}
    assert metrics["votequeue_run_spent"] == {("CNY", "open"): 18.5}
    assert metrics["votequeue_run_budget"] == {("CNY", "open"): 20.0}
    assert metrics["votequeue_service_paused"] == {("chat/m@1f0c22aa",): 1}
    assert metrics["votequeue_model_in_use_info"] == {("scorer", "s1"): 1}
    assert held.job.item == 1


@pytest.mark.usefixtures("any_ledger")
def test_items_of_paused_runs_and_items_put_off_are_not_due(on_broker: str, home: Path) -> None:
    for run, questions in (("active", 4), ("paused", 3), ("over", 1)):
        enqueue(home, run, questions)
    run_fixtures.answer_all("over", 1)
    controls.pause("paused")
    _, later = run_fixtures.claim("active", 0, 1)
    assert claims.put_off(later, "the service has no room", 3600.0)
    subject = Exporter()
    subject.refresh()
    metrics = scraped(subject)
    assert metrics["votequeue_queue_items"][("infer", "pending")] == 6
    # One that is held, and two that wait.
    assert metrics["votequeue_queue_due_items"] == {("infer",): 3}


@pytest.mark.usefixtures("any_ledger")
def test_the_oldest_message_is_that_which_nobody_has_taken(on_broker: str, home: Path) -> None:
    enqueue(home, "r", 3)
    enqueue(home, "younger", 1)
    with engine.writing() as connection:
        now = engine.now(connection)
        for number, age in enumerate([300.0, 200.0, 100.0]):
            ours = (schema.items.c.run == "r") & (schema.items.c.number == number)
            connection.execute(schema.items.update().where(ours).values(sent_at=now - age))
    run_fixtures.claim("r", 0)  # the oldest is taken
    assert outbox.oldest_messages() == {"infer": pytest.approx(200, abs=60)}
    outbox.forget_sent()
    assert outbox.oldest_messages() == {}


@pytest.mark.parametrize("error", [ServiceUnreachable("the ledger does not answer"), RuntimeError("a bug")])
def test_a_ledger_that_cannot_be_read_is_the_only_thing_said(
    error: Exception, on_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> object:
        raise error

    subject = Exporter()
    assert scraped(subject) == {"votequeue_up": {(): 0}}
    subject.refresh()
    assert scraped(subject)["votequeue_up"] == {(): 1}
    monkeypatch.setattr(progress, "overview", read)
    assert subject.refresh() == exporter.EVERY
    assert scraped(subject) == {"votequeue_up": {(): 0}}


def test_a_read_that_does_not_end_withdraws_what_was_read_before(
    on_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Exporter()
    wait = subject.refresh()
    assert scraped(subject)["votequeue_up"] == {(): 1}
    later = time.monotonic() + wait + exporter.PATIENCE + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert scraped(subject) == {"votequeue_up": {(): 0}}


def test_a_broker_that_does_not_answer_leaves_the_ledgers_metrics(home: Path) -> None:
    leases.heartbeat("one", 60, queues=["infer"])
    subject = Exporter()
    subject.refresh()
    metrics = scraped(subject)
    assert (metrics["votequeue_up"], metrics["votequeue_broker_up"]) == ({(): 1}, {(): 0})
    assert metrics["votequeue_queue_messages"] == {}
    assert metrics["votequeue_queue_workers"] == {("infer",): 1}


def test_reading_a_large_ledger_takes_a_bounded_share_of_the_time(
    on_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_read", lambda: [])
    clock = iter([100.0, 103.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert Exporter().refresh() == 150
