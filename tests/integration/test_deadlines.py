"""Deadlines: votes are recorded as they come, and answer what is open when the time is over."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from producers import Client
from producers.enqueue import option_checks
from shared import broker, settings
from shared.errors import InvalidOption, UserError
from shared.jobs import Job
from shared.ledger import claims, controls, deadlines, engine, leases, outbox, runs, schema
from shared.ledger.claims import Claim, RoundRecord
from shared.ledger.deadlines import EarlyVote
from shared.ledger.schema import State
from shared.options import Sampling
from shared.prompts import ModelInput
from shared.voting import Outcome
from tests.conftest import Command, Value
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_controls import rows_of, states, sweep
from workers import infer, reconcile
from workers.inference import finished_rounds
from workers.inference.batcher import Batcher
from workers.inference.rounds import Rounds
from workers.ports import WHOLE_ROUND, Completion, Progress, Step

SAMPLING = Sampling(votes=3, max_attempts=2, scorer="none", lora="none")
NEAR, LATE = schema.SAMPLING_ENDS - 1.0, schema.SAMPLING_ENDS / 2 - 1.0
RECORD = RoundRecord("fake", None, "prompt", 10, [], None, 1.0, 2.0)


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str) -> None:
    assert engine.engine().dialect.name == any_ledger
    assert on_broker


def enqueue(home: Path, questions: int = 4, deadline: str = "1h", **changes: Any) -> None:
    data = run_fixtures.write(home / "data.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(questions)))
    given = {**SAMPLING.model_dump(exclude_unset=True), **changes}
    Client().enqueue_infer(data, run="r", deadline=deadline, **given)


def ahead(seconds: float) -> None:
    """Let the deadline be so many seconds ahead."""
    with engine.writing() as connection:
        at = engine.now(connection) + seconds
        connection.execute(schema.runs.update().values(deadline=at))
    finished_rounds.plan_of.cache_clear()


def early(held: Claim, letters: str, first: int = 0) -> None:
    """Record votes of a claim as a worker does while it samples."""
    finished = [
        EarlyVote(held, place, run_fixtures.ballot(letter), 1.0, None, RECORD)
        for place, letter in enumerate(letters, first)
    ]
    deadlines.keep(finished)


def answers() -> list[tuple[str, str, int, int]]:
    """Read number, letter, how it came about, support and attempt."""
    columns = schema.answers.c
    query = sa.select(columns.letter, columns.how, columns.support, columns.attempt)
    with engine.reading() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(columns.number))]


def test_votes_answer_what_is_open_near_the_deadline_and_the_fallback_the_rest(home: Path) -> None:
    enqueue(home, 5)
    first, second, third, fourth = run_fixtures.claim("r", 0, 1, 2, 3)
    early(first, "BBA")
    early(second, "C")
    run_fixtures.vote(third, [run_fixtures.ballot(None)] * 3)  # its round has no letter
    claims.release([first, fourth], "stopped")
    assert len(deadlines.answer_due()) == 0
    ahead(NEAR)
    assert run_fixtures.claim("r", 4) == []
    assert outbox.unsent(10) == []
    # What a worker holds is its own a little longer.
    assert len(deadlines.answer_due()) == 4
    assert states() == {State.LEASED: 1, State.DONE: 4}
    ahead(LATE)
    assert len(deadlines.answer_due()) == 1
    assert len(deadlines.answer_due()) == 0
    assert answers() == [
        ("B", Outcome.DEADLINE, 2, 1),
        ("C", Outcome.DEADLINE, 1, 1),
        ("A", Outcome.DEADLINE_DEFAULT, 0, 1),
        ("A", Outcome.DEADLINE_DEFAULT, 0, 0),
        ("A", Outcome.DEADLINE_DEFAULT, 0, 0),
    ]
    assert rows_of("r")["votes"] == 3 + 1 + 3
    assert "early_votes" not in rows_of("r")
    # The one that held it is refused.
    run_fixtures.vote(second, [run_fixtures.ballot("A")] * 3)
    assert answers()[1][0] == "C"
    with engine.reading() as connection:
        rounds = schema.rounds.c
        query = sa.select(rounds.number, rounds.attempt, rounds.unfinished, rounds.examples)
        assert connection.execute(query.order_by(rounds.number)).all() == [(0, 1, 0, []), (1, 1, 2, [])]
        outcomes = connection.execute(
            sa.select(schema.attempts.c.outcome).where(schema.attempts.c.number == 1)
        )
        assert list(outcomes.scalars()) == [deadlines.OUTCOME]


def test_status_says_no_later_time_than_the_deadline_and_asks_for_no_worker_after_it(
    home: Path, votequeue: Command
) -> None:
    enqueue(home, 50)
    run_fixtures.answer_all("r", 1)
    leases.heartbeat("one", 60, queues=["train"])
    ahead(30)
    with engine.writing() as connection:
        connection.execute(schema.attempts.update().values(claimed_at=schema.attempts.c.claimed_at - 60))
    progress = Client().progress("r")
    assert (progress.eta_at_most, progress.eta_rests_on, progress.unserved) == (True, "its deadline", True)
    assert progress.eta is not None
    assert 0 < progress.eta <= 30
    assert "no live worker serves r" in votequeue("status").out
    ahead(-1)
    progress = Client().progress("r")
    assert (progress.eta, progress.rate, progress.unserved, progress.overdue) == (None, 0, False, True)
    for told in (votequeue("status").out, votequeue("status", "r").out):
        assert "start one with" not in told
    assert "the deadline is over: `votequeue collect r` answers what is open" in told


def test_earlier_rounds_are_the_fallback_s_and_new_votes_come_first(home: Path) -> None:
    enqueue(home, 2, max_attempts=5)
    for held in run_fixtures.claim("r", 0, 1):
        run_fixtures.vote(held, [run_fixtures.ballot("C", 0.1, accepted=False)] * 3)
    (again,) = run_fixtures.claim("r", 0)
    early(again, "B")
    ahead(LATE)
    assert len(deadlines.answer_due()) == 2
    assert answers() == [("B", Outcome.DEADLINE, 1, 2), ("C", Outcome.DEADLINE, 3, 1)]


def test_votes_of_a_dead_worker_s_claim_count_and_a_later_claim_s_replace_them(home: Path) -> None:
    enqueue(home, 2)
    lost = run_fixtures.claim("r", 0, 1)
    for held in lost:
        early(held, "BBA")
    claims.lose(lost, "its worker died", 8, alone=False)
    (again,) = run_fixtures.claim("r", 0)
    early(again, "CC", first=0)
    early(lost[0], "A", first=4)  # the dead worker is a zombie
    ahead(LATE)
    assert len(deadlines.answer_due()) == 2
    assert answers() == [("C", Outcome.DEADLINE, 2, 1), ("B", Outcome.DEADLINE, 2, 1)]


def test_a_settled_round_replaces_its_early_votes(home: Path) -> None:
    enqueue(home, 1)
    play(FakeGenerator(otherwise=["答案是：B"]))
    assert answers() == [("B", "unscored majority", 3, 1)]
    assert "early_votes" not in rows_of("r")
    assert rows_of("r")["votes"] == 3


class Staggered(FakeGenerator):
    """Gives the votes of the first places, and keeps the others back for ever."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self._places = places
        self.aborted = 0

    async def sample(
        self,
        prompt: ModelInput,
        sampling: Sampling,
        seed: int | None,
        adapter: str | None = None,
        progress: Progress | None = None,
        job: Job | None = None,
        step: Step = WHOLE_ROUND,
    ) -> list[Completion]:
        """Give one vote, or none."""
        assert sampling.votes == 1
        if step.first >= self._places:
            try:
                await asyncio.Event().wait()
            finally:
                self.aborted += 1
        return [Completion("因为如此。\n答案是：B", 9)]


def play(generator: FakeGenerator) -> None:
    async def run() -> None:
        claim = run_fixtures.claim("r", 0)
        await infer.run_round(Rounds(generator, FakeScorer(), lambda _: FakeRetriever()), claim)

    finished_rounds.plan_of.cache_clear()
    asyncio.run(run())


def test_a_worker_records_votes_as_they_come_and_is_stopped_near_the_deadline(home: Path) -> None:
    model_fixtures.put("s1")
    enqueue(home, 1, scorer="s1", voices=None)
    generator = Staggered(2)

    async def work() -> None:
        service = infer.Answering()
        service._loop.close()
        service._loop = asyncio.get_running_loop()
        playing = Rounds(generator, FakeScorer(lambda *_: 0.75), lambda _: FakeRetriever())
        service._batches = Batcher(
            lambda batch, ended: infer.run_round(playing, batch, ended), size=16, in_flight=4, linger=0.0
        )
        (held,) = run_fixtures.claim("r", 0)
        task = asyncio.create_task(service._batches.submit(held, group="r"))
        while rows_of("r").get("early_votes", 0) < 2:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(service.heed_controls)
        await asyncio.sleep(0.05)
        assert not task.done()
        ahead(NEAR)
        await asyncio.to_thread(service.heed_controls)
        await asyncio.wait([task])

    asyncio.run(work())
    assert generator.aborted == 1
    with engine.reading() as connection:
        assert connection.scalar(sa.select(schema.attempts.c.outcome)) == (
            "released: its run is cancelled, or near its deadline"
        )
    # It was given back without an attempt.
    assert states() == {State.PENDING: 1}
    assert broker.waiting("infer") == 1  # the first message, which nobody has taken
    assert sweep().sent == 0
    assert answers() == [("B", Outcome.DEADLINE, 2, 1)]
    with engine.reading() as connection:
        votes = connection.execute(sa.select(schema.votes.c.score, schema.votes.c.scorer)).all()
    assert {tuple(vote) for vote in votes} == {(0.75, "s1")}


def test_a_paused_run_is_answered_at_its_deadline_and_a_cancelled_one_is_not(home: Path) -> None:
    enqueue(home, 2)
    controls.pause("r")
    ahead(NEAR)
    assert len(deadlines.answer_due()) == 2
    assert [answer[1] for answer in answers()] == [Outcome.DEADLINE_DEFAULT] * 2


def test_a_cancelled_run_is_not_answered_at_its_deadline(home: Path) -> None:
    enqueue(home, 2)
    (held,) = run_fixtures.claim("r", 0)
    early(held, "B")
    controls.cancel("r")
    ahead(NEAR)
    assert len(deadlines.answer_due()) == 0
    assert "early_votes" not in rows_of("r")
    assert states() == {State.CANCELLED: 2}


def test_without_a_worker_collect_answers_after_the_deadline(home: Path, votequeue: Command) -> None:
    enqueue(home, 2)
    (held,) = run_fixtures.claim("r", 0)
    early(held, "B")
    ahead(-1.0)
    assert "the deadline is over: `votequeue collect r` answers what is open" in votequeue("status", "r").out
    ended = votequeue("collect", "r", "-o", "answers.jsonl", "--fields", "outcome")
    assert (ended.code, "2 questions answered now, since the deadline is over" in ended.err) == (0, True)
    written = run_fixtures.read(home / "answers.jsonl")
    assert [question["outcome"] for entry in written for question in entry["questions"]] == [
        "at the deadline",
        "default at the deadline",
    ]
    said = votequeue("report", "r").out
    assert "answered by at the deadline" in said
    assert (
        "2 questions answered at the deadline, 1 of them by default since no vote has a letter"
        in votequeue("status", "r").out
    )
    again = votequeue("collect", "r", "-o", "answers.jsonl", "--force")
    assert (
        "2 questions answered at the deadline, 1 of them by default since no vote has a letter" in again.err
    )
    assert "deadline 20" in votequeue("status").out
    assert Client().report("r").deadline_at == runs.get_run("r").deadline


def test_waiting_ends_at_the_deadline_without_a_worker(home: Path) -> None:
    enqueue(home, 2)
    ahead(-1.0)
    assert Client().wait("r", timeout=20, poll=0.01).open == 0


def test_the_last_questions_of_a_large_run_are_answered_earlier(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "PER_SECOND", 0.5)
    enqueue(home, 10)
    ahead(schema.SAMPLING_ENDS + 30)
    assert deadlines.answer_due() == []
    ahead(schema.SAMPLING_ENDS + 12.5)  # time for six
    (held,) = run_fixtures.claim("r", 9)
    assert [end.claim.job.item for end in deadlines.answer_due()] == [6, 7, 8]
    assert deadlines.answer_due() == []
    assert [each.job.item for each in run_fixtures.claim("r", 5, 6)] == [5]
    claims.release([held], "stopped")
    assert [end.claim.job.item for end in deadlines.answer_due()] == []
    ahead(NEAR)
    assert [end.claim.job.item for end in deadlines.answer_due()] == [0, 1, 2, 3, 4, 9]


def test_messages_of_questions_answered_at_the_deadline_leave_the_queue(home: Path) -> None:
    enqueue(home, 3)
    sweep()
    assert broker.waiting("infer") == 3
    ahead(NEAR)
    sweep()
    assert states() == {State.DONE: 3}
    assert broker.waiting("infer") == 0


def test_a_worker_counts_what_it_answers_at_the_deadline(home: Path, more: Value) -> None:
    enqueue(home, 2)
    (held,) = run_fixtures.claim("r", 0)
    early(held, "BBA")
    ahead(LATE)
    assert not sweep().behind
    assert more("items_done_total", queue="infer") == 2
    assert more("answers_total", how="at the deadline") == 1
    assert more("answers_total", how="default at the deadline") == 1
    assert more("rounds_total", outcome="answered") == 1
    assert more("votes_total", voice="reasoning", outcome="accepted") == 3


def test_votes_that_came_while_the_ledger_was_away_are_recorded_before_the_answers(home: Path) -> None:
    enqueue(home, 1)
    (held,) = run_fixtures.claim("r", 0)
    ahead(-1.0)
    assert reconcile.sweep("one", settings.load()) == reconcile.Swept()
    # It was also given back before they came.
    claims.release([held], "near its deadline")
    early(held, "B")
    assert sweep().expired == 0
    assert answers() == [("B", Outcome.DEADLINE, 1, 1)]


def test_chunks_and_a_limit_of_time_answer_every_question_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CHUNK", 3)
    enqueue(home, 10)
    ahead(NEAR)
    assert len(deadlines.answer_due(0.0)) == 0
    assert len(deadlines.answer_due()) == 10
    assert states() == {State.DONE: 10}


def test_a_run_takes_no_questions_after_its_deadline(home: Path) -> None:
    enqueue(home, 1)
    ahead(NEAR)
    with pytest.raises(UserError, match="the deadline of run 'r' is over"):
        Client().enqueue_infer(home / "data.jsonl", append_to="r")


def test_a_continued_run_keeps_its_deadline(home: Path, votequeue: Command) -> None:
    enqueue(home, 2)
    before = runs.get_run("r").deadline
    assert before is not None
    assert abs(before - time.time() - 3600) < 60
    enqueue(home, 2, deadline="2h")
    assert runs.get_run("r").deadline == before


def test_a_deadline_is_a_span_or_an_iso_time(home: Path) -> None:
    now = runs.ledger_time()
    assert option_checks.moment("--deadline", "1.5h") - now == pytest.approx(5400, abs=10)
    assert option_checks.moment("--deadline", "2999-01-01T00:00:00+00:00") == 32472144000.0
    with pytest.raises(InvalidOption, match="past or less than 10 s ahead"):
        option_checks.moment("--deadline", "3s")
    enqueue(home, 1)
    with pytest.raises(UserError, match="the options of r are used"):
        Client().enqueue_infer(home / "data.jsonl", append_to="r", deadline="4h")
    with pytest.raises(UserError, match="the recorded votes of r are reused"):
        Client().enqueue_infer("r", deadline="4h")
