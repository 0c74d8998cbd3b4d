"""Claims whose answer is lost, and a ledger that is away: no message is acknowledged for nothing."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from shared import broker, dataset
from shared.errors import ServiceUnreachable
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, runs
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from tests.integration import run_fixtures
from workers import instrumentation, retries
from workers.claimer import Claimer

JOBS: list[Job] = [Infer(run="r", item=number) for number in range(4)]


@pytest.fixture(autouse=True)
def _run(any_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open a run of four questions."""
    assert engine.engine().dialect.name == any_ledger
    monkeypatch.setattr(retries, "PAUSE", 0.01)
    path = run_fixtures.write(tmp_path / "data.jsonl", run_fixtures.entry("p1", "ABAB"))
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    runs.open_run(Run("r", "infer", str(path), "d", None, {}), lines)


def failing(monkeypatch: pytest.MonkeyPatch, times: int, after: bool) -> None:
    """Let claims fail some times, before they are made or after."""
    claim = claims.claim
    left = [ServiceUnreachable("the ledger does not answer")] * times

    def unsteady(jobs: Iterable[Job], *given: Any) -> list[Claim]:
        if after and left:
            claim(jobs, *given)
        if left:
            raise left.pop()
        return claim(jobs, *given)

    monkeypatch.setattr(claims, "claim", unsteady)


@pytest.fixture
def claimer() -> Claimer:
    return Claimer("one", 60)


def test_claims_are_counted_by_the_queue_that_the_worker_consumes(claimer: Claimer) -> None:
    options = {"generator": "openai", "provider": "chat", "model": "m"}
    for option, value in options.items():
        runs.set_option("r", option, value)
    counted = instrumentation.CLAIMS.labels("infer.openai.chat.m")._value
    before = counted.get()
    claimer.claim(JOBS[:3])
    assert counted.get() - before == 3


def test_a_ledger_that_is_away_when_the_queue_is_looked_up_costs_no_claim(
    claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, errors = broker.queue_for, [ServiceUnreachable("the ledger does not answer")]

    def unsteady(job: Job) -> str:
        if errors:
            raise errors.pop()
        return look_up(job)

    monkeypatch.setattr(broker, "queue_for", unsteady)
    assert [claim.job for claim in claimer.claim(JOBS)] == JOBS
    assert errors == []


def test_a_ledger_that_is_away_is_waited_for(claimer: Claimer, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 3, after=False)
    assert [held.job for held in claimer.claim(JOBS[:2])] == JOBS[:2]


def test_claims_whose_answer_was_lost_are_found_again(
    claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.claim(JOBS[:1], "another", 60)
    failing(monkeypatch, 2, after=True)
    held = claimer.claim(JOBS[:3])
    assert [(claim.job, claim.fence) for claim in held] == [(JOBS[1], 1), (JOBS[2], 1)]


def test_what_another_thread_of_this_worker_works_on_is_not_found_again(
    claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = claimer.claim(JOBS[:1])
    failing(monkeypatch, 1, after=True)
    assert [claim.job for claim in claimer.claim(JOBS[:2])] == [JOBS[1]]
    claimer.done(first)


def test_waiting_ends_when_the_worker_stops(claimer: Claimer, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 1000, after=False)
    asked: list[int] = []

    def stop_at_the_third() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    stopping: Callable[[], None] = stop_at_the_third
    with pytest.raises(InterruptedError):
        claimer.claim(JOBS, before_retry=stopping)
