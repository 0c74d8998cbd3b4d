"""`--examples-per entry`: a worker claims the questions of an entry together, and no message can undo that.

Each worker is the real service of the `infer` queue over a fake engine, on both databases.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from producers.enqueue import generator_options
from shared import dataset, settings
from shared.errors import InvalidOption, ServiceUnreachable
from shared.jobs import Infer, Job
from shared.ledger import claims, engine, runs, schema
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.options import Sampling
from shared.prompts import FewShotExample, ModelInput, PromptQuestion
from tests import fakes, waiting
from tests.bench import shared_prefill
from tests.bench.shared_prefill import Figures, PrefillCounter, VllmCounter
from tests.fakes import CharacterEmbedder, FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import run_fixtures
from workers import infer, lifecycle, retries, settlement, wiring
from workers.infer import STOPPED, Answering
from workers.inference.rounds import Rounds
from workers.outcomes import NOTHING_TO_DO
from workers.ports import Completion, Retriever

SAMPLING = Sampling(votes=3, max_attempts=3, scorer="none", lora="none", examples_per="entry")
RIGHT, MUTE = ["因为如此。\n答案是：A"] * 3, ["我不知道。"] * 3
ANSWERED, AGAIN = "A: unscored majority, 3 of 3 votes", "again: none of 3 votes was accepted"
Start = Callable[..., Answering]


@pytest.fixture(autouse=True)
def _ledger(on_broker: str, any_ledger: str) -> None:
    """Have a broker that answers and an empty ledger, in this order: the former empties the environment."""


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Give the slots of the workers, one for each message."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> Iterator[Start]:
    """Start workers; their names are "one", "two", ..."""
    started: list[Answering] = []
    names = iter(("one", "two"))

    def worker(
        generator: FakeGenerator, batch: int = 16, in_flight: int = 1, retriever: Retriever | None = None
    ) -> Answering:
        for name, value in {"BATCH_SIZE": batch, "BATCHES_IN_FLIGHT": in_flight, "LINGER": 0.05}.items():
            monkeypatch.setenv(f"VOTEQUEUE_{name}", str(value))
        settings.load.cache_clear()
        rounds_of = Rounds(generator, FakeScorer(), lambda _: retriever or FakeRetriever())
        monkeypatch.setattr(wiring, "rounds", lambda *_: (rounds_of, generator))
        monkeypatch.setattr(lifecycle, "WORKER", next(names))
        service = Answering()
        service.start()
        started.append(service)
        return service

    yield worker
    for service in started:
        service.release()
        service.close()
        waiting.until(lambda loop=service._loop: not loop.is_running())  # type: ignore[misc]
        service._loop.close()


def open_run(folder: Path, *questions: int, **changes: Any) -> str:
    """Open a run with an entry for each number of questions."""
    entries = []
    for at, count in enumerate(questions):
        made = run_fixtures.entry(f"p{at}", "A" * count)
        for number, question in enumerate(made["questions"]):
            question["question"] = f"题{at}之{number}：谁{'高矮胖瘦'[number % 4] * 9}？"
        entries.append(made)
    path = run_fixtures.write(folder / "data.jsonl", *entries)
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = SAMPLING.model_copy(update=changes).model_dump(mode="json")
    runs.open_run(Run("r", "infer", path.name, "d", changes.get("examples"), options), lines)
    return "r"


def jobs(*numbers: int) -> list[Infer]:
    return [Infer(run="r", item=number) for number in numbers]


def rows(table: sa.Table) -> list[dict[str, Any]]:
    with engine.reading() as connection:
        query = sa.select(table).where(table.c.run == "r").order_by(*table.primary_key)
        return [dict(row) for row in connection.execute(query).mappings()]


def states() -> list[str]:
    return [row["state"] for row in rows(schema.items)]


def deliver(threads: ThreadPoolExecutor, worker: Answering, messages: Sequence[Infer]) -> "list[Future[str]]":
    return [threads.submit(worker.answer, job) for job in messages]


def release(worker: Answering, hold: asyncio.Event) -> None:
    """Let the replies of a generator come."""
    worker._loop.call_soon_threadsafe(hold.set)


# Claims


def test_the_claimable_questions_of_an_entry_are_listed_from_the_one_asked_for_on(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2, 5, 3)
    assert claims.siblings(jobs(4)[0], 64) == jobs(4, 5, 6, 2, 3)
    assert claims.siblings(jobs(4)[0], 3) == jobs(4, 5, 6)
    run_fixtures.claim(run, 5)  # another worker has it
    (done,) = run_fixtures.claim(run, 2)
    run_fixtures.vote(done, [run_fixtures.ballot("A")] * 3)
    (later,) = run_fixtures.claim(run, 6)
    claims.put_off(later, "busy", 60)
    (dead,) = run_fixtures.claim(run, 3)
    claims.bury(dead, "refused")
    assert claims.siblings(jobs(4)[0], 64) == jobs(4)
    for number in (5, 2, 6, 3):
        assert claims.siblings(jobs(number)[0], 64) == []
    assert claims.siblings(Infer(run="r", item=99), 64) == []
    assert claims.siblings(Infer(run="unknown", item=0), 64) == []


def test_questions_that_a_run_leaves_out_do_not_hide_the_others_of_their_entry(tmp_path: Path) -> None:
    path = run_fixtures.write(
        tmp_path / "data.jsonl", run_fixtures.entry("p0", "AA"), run_fixtures.entry("p1", "AAAAA")
    )
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    keys = {"p0#1", "p1#2", "p1#4", "p1#5"}
    runs.open_run(Run("r", "infer", path.name, "d", None, {}), lines, keys=keys)
    assert claims.siblings(jobs(2)[0], 64) == jobs(2, 3, 1)


# Workers


def test_of_two_workers_one_gets_all_questions_of_an_entry(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor
) -> None:
    open_run(tmp_path, 6)
    generators = [FakeGenerator(otherwise=RIGHT) for _ in range(2)]
    workers = [start(generator) for generator in generators]
    replies = [
        reply
        for pair in zip(jobs(0, 2, 4), jobs(3, 1, 5), strict=True)
        for worker, job in zip(workers, pair, strict=True)
        for reply in deliver(threads, worker, [job])
    ]
    outcomes = [reply.result(60) for reply in replies]
    waiting.until(lambda: states() == [State.DONE] * 6)
    attempts = rows(schema.attempts)
    assert [(row["number"], row["fence"]) for row in attempts] == [(number, 1) for number in range(6)]
    assert len({row["worker"] for row in attempts}) == 1
    assert sorted(len(generator.requests) for generator in generators) == [0, 6]
    # The messages of the other questions either waited for them, or found nothing to do.
    assert set(outcomes) <= {ANSWERED, NOTHING_TO_DO}
    assert ANSWERED in outcomes


def test_the_messages_of_claimed_questions_wait_for_their_answers(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path, 3)
    arrived, siblings = list[Job](), claims.siblings

    def note_arrival(job: Job, most: int) -> list[Job]:
        arrived.append(job)
        return siblings(job, most)

    monkeypatch.setattr(claims, "siblings", note_arrival)
    hold = asyncio.Event()
    generator = FakeGenerator({"题0之1": [MUTE, RIGHT]}, otherwise=RIGHT, hold=hold)
    worker = start(generator)
    first = deliver(threads, worker, jobs(2))
    waiting.until(lambda: states() == [State.LEASED] * 3)
    others = deliver(threads, worker, jobs(0, 1, 1, 2))  # two of them twice
    waiting.until(lambda: len(arrived) == 5 and not worker._entry.locked())
    assert not any(reply.done() for reply in (*first, *others))
    release(worker, hold)
    assert [reply.result(60) for reply in (*first, *others)] == [ANSWERED, ANSWERED, AGAIN, AGAIN, ANSWERED]
    assert [reply.result(60) for reply in deliver(threads, worker, jobs(0, 1, 2))] == [
        NOTHING_TO_DO,
        ANSWERED,
        NOTHING_TO_DO,
    ]
    assert Counter(row["number"] for row in rows(schema.attempts)) == {0: 1, 1: 2, 2: 1}
    assert Counter(row["number"] for row in rows(schema.votes)) == {0: 3, 1: 6, 2: 3}


def test_questions_that_are_asked_again_are_claimed_together(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor
) -> None:
    open_run(tmp_path, 4, 1)
    script = {"题0之1": [MUTE, RIGHT], "题0之3": [MUTE, RIGHT]}
    worker = start(generator := FakeGenerator(script, otherwise=RIGHT))
    assert deliver(threads, worker, jobs(0))[0].result(60) == ANSWERED
    waiting.until(lambda: states().count(State.LEASED) == 0)
    assert states() == [State.DONE, State.PENDING, State.DONE, State.PENDING, State.PENDING]
    assert deliver(threads, worker, jobs(3))[0].result(60) == ANSWERED
    waiting.until(lambda: states() == [State.DONE] * 4 + [State.PENDING])
    assert [row["attempt"] for row in rows(schema.answers)] == [1, 2, 1, 2]
    assert len(generator.requests) == 6


def test_a_message_that_comes_before_the_last_round_has_ended_begins_the_next_one(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path, 1)
    worker = start(FakeGenerator({"题0之0": [MUTE, RIGHT]}), in_flight=2)
    second: list[Future[str]] = []

    def deliver_at_once(requeued: Sequence[Job], first: bool = False) -> None:
        assert first == bool(requeued)  # nothing is left when the worker stops
        if requeued:
            second.extend(deliver(threads, worker, [Infer(run=job.run, item=job.item) for job in requeued]))
            waiting.until(lambda: len(rows(schema.attempts)) == 2)

    monkeypatch.setattr(settlement, "publish", deliver_at_once)
    assert deliver(threads, worker, jobs(0))[0].result(60) == AGAIN
    assert [reply.result(60) for reply in second] == [ANSWERED]
    assert states() == [State.DONE]


@pytest.mark.parametrize(("batch", "in_flight"), [(4, 1), (1, 4)])
def test_a_worker_with_all_slots_in_use_claims_no_further_entry(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor, batch: int, in_flight: int
) -> None:
    open_run(tmp_path, 3, 3, 3)
    hold = asyncio.Event()
    worker = start(FakeGenerator(otherwise=RIGHT, hold=hold), batch, in_flight)
    replies = deliver(threads, worker, jobs(0))
    waiting.until(lambda: states().count(State.LEASED) == 3)
    replies += deliver(threads, worker, jobs(3))
    waiting.until(lambda: states().count(State.LEASED) == 6)
    replies += deliver(threads, worker, jobs(6))
    other = start(FakeGenerator(otherwise=RIGHT))
    assert deliver(threads, other, jobs(7))[0].result(60) == ANSWERED
    release(worker, hold)
    assert [reply.result(60) for reply in replies] == [ANSWERED, ANSWERED, NOTHING_TO_DO]
    waiting.until(lambda: states() == [State.DONE] * 9)
    assert Counter(row["worker"] for row in rows(schema.attempts)) == {"one": 6, "two": 3}


def test_an_entry_with_more_questions_than_slots_is_shared(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor
) -> None:
    open_run(tmp_path, 10)
    hold = asyncio.Event()
    worker = start(FakeGenerator(otherwise=RIGHT, hold=hold), batch=2, in_flight=2)
    reply = deliver(threads, worker, jobs(0))
    waiting.until(lambda: states().count(State.LEASED) == 4)
    other = start(FakeGenerator(otherwise=RIGHT))
    assert [each.result(60) for each in deliver(threads, other, jobs(4))] == [ANSWERED]
    release(worker, hold)
    assert reply[0].result(60) == ANSWERED
    waiting.until(lambda: states() == [State.DONE] * 10)


def test_a_worker_that_stops_gives_all_of_them_back(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor
) -> None:
    open_run(tmp_path, 6)
    worker = start(FakeGenerator(otherwise=RIGHT, hold=asyncio.Event()), batch=2)
    replies = deliver(threads, worker, jobs(0, 4))
    waiting.until(lambda: states().count(State.LEASED) >= 2)
    worker.release()
    assert [reply.result(60) for reply in replies] == [STOPPED, STOPPED]
    assert [(row["state"], row["attempt"]) for row in rows(schema.items)] == [(State.PENDING, 0)] * 6


def test_a_worker_that_stops_while_the_ledger_is_away_gives_them_back_later(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path, 3)
    worker = start(FakeGenerator(otherwise=RIGHT, hold=asyncio.Event()), batch=2)
    replies = deliver(threads, worker, jobs(0))
    waiting.until(lambda: states().count(State.LEASED) >= 2)
    release_all, away = claims.release_all, iter((True, False))

    def sometimes(*given: str) -> list[Job]:
        if next(away):
            raise ServiceUnreachable("the ledger is away")
        return release_all(*given)

    with monkeypatch.context() as patched:
        patched.setattr(retries, "PAUSE", 0.01)
        patched.setattr(claims, "release_all", sometimes)
        worker.release()
    assert replies[0].result(60) == STOPPED
    assert [(row["state"], row["attempt"]) for row in rows(schema.items)] == [(State.PENDING, 0)] * 3


def test_questions_of_other_runs_are_claimed_one_by_one(
    tmp_path: Path, start: Start, threads: ThreadPoolExecutor
) -> None:
    open_run(tmp_path, 3, examples_per="question")
    worker = start(FakeGenerator(otherwise=RIGHT))
    assert deliver(threads, worker, jobs(1))[0].result(60) == ANSWERED
    assert states() == [State.PENDING, State.DONE, State.PENDING]
    assert worker.answer(Infer(run="unknown", item=0)) == NOTHING_TO_DO


# Prompts


def solved(at: int) -> FewShotExample:
    asked = PromptQuestion(f"例{at}：{'高矮胖瘦'[at % 4] * (at + 1)}。", f"谁{at}？", ("甲", "乙"))
    return FewShotExample(asked, f"推理{at}。", "A")


def prompts_of(tmp_path: Path, examples_per: str) -> list[list[str]]:
    """Give the prompts of two entries of three questions, as the engine gets them from mixed claims."""
    from qdrant_client import QdrantClient

    from workers.models.retrieval import QdrantRetriever

    open_run(tmp_path, 3, 3, examples="digest", examples_per=examples_per)
    runs.add_examples("digest", [solved(at) for at in range(12)])
    index = QdrantRetriever(QdrantClient(":memory:"), CharacterEmbedder(), "characters", runs.load_examples)
    generator = FakeGenerator(otherwise=RIGHT)
    batch = run_fixtures.claim("r", *range(6))
    mixed = [batch[at] for at in (4, 0, 3, 2, 1, 5)]
    rounds_of = Rounds(generator, FakeScorer(), lambda _: index)
    assert asyncio.run(infer.run_round(rounds_of, mixed)) == [ANSWERED] * 6
    asked = [str(request.prompt) for request in generator.requests]
    assert ["p0" in prompt for prompt in asked] == [True] * 3 + [False] * 3
    return [asked[:3], asked[3:]]


def common_prefix(texts: Sequence[str]) -> str:
    return "".join(
        place[0]
        for place in itertools.takewhile(lambda place: len(set(place)) == 1, zip(*texts, strict=False))
    )


def test_prompts_of_an_entry_are_side_by_side_and_the_same_up_to_the_question(tmp_path: Path) -> None:
    for at, asked in enumerate(prompts_of(tmp_path, "entry")):
        common = common_prefix(asked)
        assert common.count(fakes.LAST_CASE) == 3  # two examples, and the problem
        assert common.endswith(f"### 问题\n题{at}之")


def test_with_examples_per_question_prompts_differ_from_the_examples_on(tmp_path: Path) -> None:
    assert any(common_prefix(asked).count(fakes.LAST_CASE) < 3 for asked in prompts_of(tmp_path, "question"))


class CountingRetriever(FakeRetriever):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__([solved(0)])
        self.asked: list[tuple[list[PromptQuestion], bool]] = []

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        self.asked.append((list(asked), same_problem))
        return super().nearest(digest, asked, count, same_problem, run)


def test_examples_are_retrieved_once_for_each_problem_and_for_each_question_without_one(
    tmp_path: Path,
) -> None:
    entries = [
        run_fixtures.entry("p0", "AAA"),
        run_fixtures.entry("p1", "AA"),
        run_fixtures.entry("p2", "AA"),
    ]
    entries[2]["problem"] = " "
    path = run_fixtures.write(tmp_path / "data.jsonl", *entries)
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = SAMPLING.model_dump(mode="json")
    runs.open_run(Run("r", "infer", path.name, "d", "digest", options), lines)
    retriever = CountingRetriever()
    rounds_of = Rounds(FakeGenerator(otherwise=RIGHT), FakeScorer(), lambda _: retriever)
    asyncio.run(infer.run_round(rounds_of, run_fixtures.claim("r", *range(7))))
    ((asked, same_problem),) = retriever.asked
    assert [question.problem for question in asked] == [entries[0]["problem"], entries[1]["problem"], " "]
    assert [question.question for question in asked] == ["", "", "谁高？"]
    assert not same_problem


def test_examples_about_an_entrys_own_problem_are_refused() -> None:
    sampling = SAMPLING.model_copy(update={"same_problem": True})
    with pytest.raises(InvalidOption, match="--examples-per: entry needs --no-same-problem"):
        generator_options.fitted(sampling, {})


# The bench


class CachingGenerator(FakeGenerator):
    """An engine with a prefix cache; a token is a character."""

    def __init__(self, counter: PrefillCounter) -> None:
        super().__init__(otherwise=RIGHT)
        self.cached: list[str] = []
        self._counter = counter

    async def sample(self, prompt: ModelInput, sampling: Sampling, *given: Any) -> list[Completion]:
        text = str(prompt)
        hit = max((len(common_prefix([text, earlier])) for earlier in self.cached), default=0)
        self.cached.append(text)
        # The votes after the first find the whole prompt.
        self._counter.add(sampling.votes * len(text), len(text) - hit)
        return await super().sample(prompt, sampling, *given)


class NearestByText(FakeRetriever):
    """Gives each text an example of its own."""

    def nearest(
        self,
        digest: str,
        asked: Sequence[PromptQuestion],
        count: int,
        same_problem: bool,
        run: str | None = None,
    ) -> list[list[FewShotExample]]:
        return [[solved(sum(map(ord, question.text)) % 97)] for question in asked]


def test_the_bench_counts_the_prompt_tokens_that_sharing_saves(tmp_path: Path, start: Start) -> None:
    questions = run_fixtures.entry("p0", "AAAA")
    for at, question in enumerate(questions["questions"]):
        question["question"] = f"第{at}问：谁高？"
    data = run_fixtures.write(tmp_path / "data.jsonl", questions)
    examples = run_fixtures.write(tmp_path / "examples.jsonl", run_fixtures.solved("s0"))
    counter = PrefillCounter()
    worker = start(generator := CachingGenerator(counter), retriever=NearestByText())
    figures = shared_prefill.compare(
        data, examples, ["--votes", "3"], worker.answer, counter, generator.cached.clear
    )
    prompts = [str(request.prompt) for request in generator.requests]
    by_question, by_entry = prompts[4:8], prompts[8:]  # the first four built the index
    assert [run.asked for run in figures] == [3 * sum(map(len, asked)) for asked in (by_question, by_entry)]
    common = common_prefix(by_entry)
    assert common.endswith("### 问题\n第")
    assert figures[1].computed == len(common) + sum(len(text) - len(common) for text in by_entry)
    assert figures[0].computed > figures[1].computed
    assert [run.generated for run in figures] == [4 * sum(map(len, RIGHT))] * 2


def test_the_bench_prints_both_runs_and_their_ratio() -> None:
    first, second = Figures(1000, 500, 2000, 20.0), Figures(1000, 250, 2200, 11.0)
    assert shared_prefill.rows(first, second) == [
        ["question", "1000", "500", "0.500", "2000", "20.0", "100.0"],
        ["entry", "1000", "250", "0.250", "2200", "11.0", "200.0"],
        ["ratio", "1.000", "0.500", "0.500", "1.100", "0.550", "2.000"],
    ]


def test_the_bench_counts_what_vllm_reports_for_each_step() -> None:
    counter = PrefillCounter()
    logger = VllmCounter(counter)
    logger.record(None, None, mm_cache_stats=None, engine_idx=0)
    for total, computed in ((900, 400), (300, 12)):
        prompts = SimpleNamespace(total=total, computed=computed)
        logger.record(None, SimpleNamespace(prompt_token_stats=prompts), mm_cache_stats=None, engine_idx=0)
    assert (counter.asked, counter.computed) == (1200, 412)
