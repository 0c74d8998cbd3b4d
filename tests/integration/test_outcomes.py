"""The states that Celery gives tasks by their outcomes, and what is said of items that cannot be claimed."""

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer

from shared import broker
from shared.errors import EngineDied, Held, Refused, UserError
from shared.jobs import Infer, Train
from shared.ledger import claims
from shared.options import Sampling
from tests.integration import run_fixtures
from workers import outcomes, settlement
from workers.outcomes import NOTHING_TO_DO, ItemTask, Lost, PutOff


def traced(outcome: str, item: int = 0) -> tuple[str, str]:
    """Let Celery's own tracer run a task with an outcome; give the state, and the result or error."""
    app = Celery("outcomes", set_as_current=False)
    app.conf.task_ignore_result = True

    @app.task(name="infer", base=ItemTask, shared=False)  # or all apps of the process would have it
    def infer(**_: Any) -> str:
        return outcome

    info = build_tracer("infer", infer, app=app)("id", (), {"run": "r", "item": item}, {"id": "id"})
    if info.info is None:
        return "SUCCESS", info.retval
    assert info.retval.traceback == ""
    error = info.retval.exception
    return info.info.state, repr(getattr(error, "exc", error))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("B: majority, 4 of 5 votes", "SUCCESS"),
        ("again: no vote was accepted", "SUCCESS"),
        (Lost("lost: the engine died"), "FAILURE"),
        (PutOff("again in 2.0 s: throttled"), "RETRY"),
    ],
)
def test_an_outcome_determines_the_state(outcome: str, state: str) -> None:
    assert traced(outcome) == (state, outcome)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RuntimeError("the engine died"), Lost, "lost: an unexplained error"),
        (EngineDied("the engine died"), Lost, "lost: the engine died"),
        (Refused("content"), Lost, "dead: content"),
        (Held("the day's quota is used up", 5.0), PutOff, "waits: the day's quota is used up"),
        (UserError("no weights"), PutOff, "given back: no weights"),
    ],
    ids=str,
)
def test_failed_work_is_no_success(
    home: Path, on_broker: str, error: Exception, kind: type[str], said: str
) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A"))
    run_fixtures.infer(data, Sampling(), "r")
    (outcome,) = settlement.settle(run_fixtures.claim("r", 0), error)
    assert (type(outcome), outcome) == (kind, said)


@pytest.mark.usefixtures("on_broker", "any_ledger")
def test_a_message_that_finds_nothing_to_do_says_what_the_item_is(home: Path) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "ABCA"))
    run_fixtures.infer(data, Sampling(), "r")
    answered, dead, _held = run_fixtures.claim("r", 0, 1, 2)
    run_fixtures.vote(answered, [run_fixtures.ballot("A", 0.9)] * 3)
    claims.bury(dead, "refused: content")

    assert traced(NOTHING_TO_DO, 0) == ("SUCCESS", "already done: A: majority")
    assert traced(NOTHING_TO_DO, 1) == ("FAILURE", "already dead: refused: content")
    assert traced(NOTHING_TO_DO, 2) == ("RETRY", "another worker has it")
    assert traced(NOTHING_TO_DO, 3) == ("RETRY", outcomes.NOT_DUE)
    assert traced(NOTHING_TO_DO, 99) == ("FAILURE", "the ledger has no such item")


@pytest.mark.usefixtures("on_broker", "any_ledger")
def test_a_task_whose_worker_is_gone_may_have_settled_its_item(home: Path) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))
    run_fixtures.infer(data, Sampling(), "r")
    run_fixtures.answer_all("r", 1)
    assert outcomes.after_death(Infer(run="r", item=0)) == "already done: A: majority"
    assert isinstance(outcomes.after_death(Infer(run="r", item=1)), Lost)


def test_a_training_continues_as_the_same_task(on_broker: str) -> None:
    sent: list[str] = []
    for job in (Train(run="t", item=0), Infer(run="r", item=0)) * 2:
        broker.send([job])
        (raw,) = broker.client().lrange(broker.KEY_PREFIX + job.queue, 0, 0)
        sent.append(json.loads(raw)["headers"]["id"])
    assert sent[0] == sent[2] == "t.0"
    assert sent[1] != sent[3]
