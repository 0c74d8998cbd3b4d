"""Votes through a provider: real generator, gateway and client, a server that fails as it is told."""

import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from producers.enqueue import publish
from shared import dataset, prompt_files, prompts, settings
from shared.errors import NotServedHere, Refused
from shared.jobs import Infer
from shared.ledger import calls, claims, deadlines, engine, outbox, runs, schema
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.options import Sampling
from shared.providers import Price
from shared.settings import Settings
from shared.voices import VOICES
from tests import fakes
from tests.fakes import FakeGenerator, FakeLimiter, FakeRetriever, FakeScorer
from tests.integration import run_fixtures
from tests.servers.openai import ChatServer
from workers import infer, wiring
from workers.gateway.gateway import Gateway
from workers.inference.rounds import Rounds
from workers.openai_generator import OpenAIGenerator
from workers.ports import Completion, Step, VotesPrompt
from workers.program_executor import MontyExecutor
from workers.providers.openai_sampling import OpenAISampler

KEY = "sk-7f1d"
RIGHT, MUTE = "因为如此。\n答案是：A", "我不知道。"
SAMPLING = Sampling(
    generator="openai", provider="chat", model="m", votes=3, max_attempts=3, scorer="none", lora="none"
)
PRICED = Price(input=1_000, output=1_000)
# Seconds until a call is given up. A busy machine stalls for longer than `SHORT`: it is for calls that
# are to time out.
PATIENT, SHORT = 30.0, 1.0
fresh = itertools.count()


@pytest.fixture
def server(on_broker: str) -> Iterator[ChatServer]:
    with ChatServer(key=KEY, reply=lambda _: RIGHT, hang=5.0) as started:
        yield started


def generator(
    server: ChatServer, price: Price = fakes.FREE, model: str = "m", timeout: float = PATIENT
) -> OpenAIGenerator:
    service = fakes.service("chat", model, price=price)
    sampler = OpenAISampler(service, server.url, SecretStr(KEY), timeout)
    return OpenAIGenerator(Gateway(FakeLimiter()), sampler, 8192, 4)


def rounds_of(made: OpenAIGenerator) -> Rounds:
    return Rounds(made, FakeScorer(), lambda _: FakeRetriever(), "openai")


def open_run(
    questions: int = 1, budget: float | None = None, deadline: float | None = None, **changes: Any
) -> str:
    name = f"run{next(fresh)}"
    entries = (run_fixtures.entry(f"p{at}") for at in range(questions))
    path = run_fixtures.write(Path(f"{name}.jsonl"), *entries)
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = SAMPLING.model_copy(update=changes).model_dump(mode="json")
    runs.open_run(Run(name, "infer", path.name, "d", None, options, deadline=deadline), lines)
    calls.set_budget(name, budget)
    return name


def claim(run: str, count: int = 1) -> list[Claim]:
    """Claim items now, whatever they wait for."""
    with engine.writing() as connection:
        connection.execute(schema.items.update().where(schema.items.c.run == run).values(not_before=0.0))
    return claims.claim([Infer(run=run, item=number) for number in range(count)], "one", 60)


def play(made: OpenAIGenerator, run: str, count: int = 1) -> list[str]:
    return asyncio.run(infer.run_round(rounds_of(made), claim(run, count)))


def rows(table: sa.Table, run: str) -> list[dict[str, Any]]:
    with engine.reading() as connection:
        query = sa.select(table).where(table.c.run == run).order_by(*table.primary_key)
        return [dict(row) for row in connection.execute(query).mappings()]


def standing(run: str, number: int = 0) -> tuple[str, int]:
    item = rows(schema.items, run)[number]
    return item["state"], item["attempt"]


def steps(run: str, outcome: str = "ok") -> list[str]:
    return [call["step"] for call in rows(schema.calls, run) if call["outcome"] == outcome]


# Requests and votes


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_all_votes_of_a_round_come_with_one_request_where_the_server_gives_them(
    server: ChatServer, style: str
) -> None:
    run = open_run(prompt_style=style, top_p=0.9)
    assert play(generator(server), run) == ["A: unscored majority, 3 of 3 votes"]
    (arrival,) = server.requests
    asked = arrival.asked
    assert (asked["n"], asked["max_tokens"], asked["temperature"], asked["top_p"]) == (3, 1024, 0.7, 0.9)
    # The model ends its turn of a chat; a stop sequence could end its thinking.
    assert asked.get("stop") == (None if style == "chat" else list(prompt_files.built_in("zh").stop))
    assert ("prompt" in asked, "messages" in asked) == (style == "completion", style == "chat")
    votes = rows(schema.votes, run)
    assert [(vote["text"], vote["letter"], vote["finish_reason"]) for vote in votes] == [
        (RIGHT, "A", "stop")
    ] * 3
    assert sum(vote["tokens"] for vote in votes) == rows(schema.calls, run)[0]["output_tokens"]


def test_a_chat_has_the_examples_as_turns_and_the_arguments_of_its_template(server: ChatServer) -> None:
    run = open_run(prompt_style="chat", template_arg=["enable_thinking=false", "effort=high"])
    play(generator(server), run)
    [arrival] = server.requests
    assert [turn["role"] for turn in arrival.asked["messages"]] == ["user"]
    assert arrival.asked["chat_template_kwargs"] == {"enable_thinking": False, "effort": "high"}


@pytest.mark.parametrize("content", [RIGHT, "也许是B。</think>" + RIGHT])
def test_thinking_of_a_server_is_kept_apart_and_its_tokens_allowed(server: ChatServer, content: str) -> None:
    server.reply, server.reasoning = lambda _: content, "答案是：B"
    run = open_run(prompt_style="chat", max_tokens=100, max_thinking=500)
    assert play(generator(server), run) == ["A: unscored majority, 3 of 3 votes"]
    assert server.requests[0].asked["max_tokens"] == 600
    thought = "答案是：B" + ("\n也许是B。" if "think" in content else "")
    assert {(vote["text"], vote["thinking"]) for vote in rows(schema.votes, run)} == {(RIGHT, thought)}


@pytest.mark.parametrize(
    ("style", "replied", "limits"),
    [
        ("completion", " B", {"structured_outputs", "regex", "grammar"}),
        ("chat", '{"answer": "B"}', {"response_format"}),
        ("chat", "答案是 B。", {"response_format"}),
    ],
)
def test_a_vote_without_a_letter_is_asked_for_it_in_a_request_of_its_own(
    server: ChatServer, style: str, replied: str, limits: set[str]
) -> None:
    server.reply = lambda prompt: replied if prompt.endswith("答案是：") else MUTE
    run = open_run(prompt_style=style, votes=1, max_attempts=1, ask_letter="last")
    assert play(generator(server), run) == ["B: unscored majority, 1 of 1 votes"]
    asked = server.requests[1].asked
    assert limits <= asked.keys()
    assert (asked["temperature"], asked["max_tokens"]) == (0.0, 64)
    if style == "completion":
        assert asked["prompt"] == server.requests[0].prompt + f"{MUTE}\n答案是："
        assert asked["structured_outputs"] == {"choice": ["A", "B", "C"]}
    else:
        assert [turn["content"] for turn in asked["messages"][1:]] == [MUTE, "答案是："]
    [vote] = rows(schema.votes, run)
    assert (vote["letter"], vote["letter_source"]) == ("B", "forced")
    assert len(steps(run)) == 2


@pytest.mark.parametrize(
    ("style", "outcome"), [("auto", "A: unscored majority"), ("chat", "dead: the server has no chat")]
)
def test_a_server_without_a_chat_template_gets_completions_unless_the_run_wants_chats(
    server: ChatServer, style: str, outcome: str
) -> None:
    server.refuses, server.complaint = "messages", "you must provide a chat template"
    run, made = open_run(prompt_style=style), generator(server)
    assert play(made, run) == ["waits: the server has no chat template for the model"]
    assert play(made, run)[0].startswith(outcome)


def test_the_name_of_a_base_model_means_completions(server: ChatServer) -> None:
    named = {"Qwen3-8B-Base": False, "gemma-3-4b-pt": False, "Qwen3-8B": True, "database-chat": True}
    assert {name: generator(server, model=name).chats for name in named} == named


def test_a_text_is_asked_for_its_letter_once_however_many_votes_have_it(server: ChatServer) -> None:
    server.reply = lambda prompt: "D" if prompt.endswith("答案是：") else MUTE
    run, made = open_run(max_attempts=2, ask_letter="always"), generator(server)
    assert play(made, run) == ["again: none of 3 votes was accepted"]
    assert play(made, run) == ["A: default, 0 of 3 votes"]
    assert [step.partition(" ")[0] for step in steps(run)] == ["vote", "letter", "vote"]
    assert [vote["text"] for vote in rows(schema.votes, run)] == [MUTE] * 6


def test_a_letter_that_no_option_has_is_none(server: ChatServer) -> None:
    server.reply = lambda prompt: "D" if prompt.endswith("答案是：") else MUTE
    run = open_run(votes=1, max_attempts=1, ask_letter="always")
    assert play(generator(server), run) == ["A: default, 0 of 1 votes"]


def test_a_server_that_cannot_limit_replies_is_asked_without_a_limit(server: ChatServer) -> None:
    server.reply = lambda prompt: "B" if prompt.endswith("答案是：") else MUTE
    server.refuses = "response_format"
    run, made = open_run(prompt_style="chat", votes=1, max_attempts=1, ask_letter="always"), generator(server)
    assert play(made, run)[0].startswith("waits: ")
    assert play(made, run) == ["B: unscored majority, 1 of 1 votes"]
    assert ["response_format" in arrival.asked for arrival in server.requests] == [False, True, False]


def test_a_server_that_ignores_n_is_asked_for_each_vote_and_that_is_remembered(server: ChatServer) -> None:
    server.most_votes = 1
    run, made = open_run(2), generator(server)
    assert play(made, run, 1) == ["A: unscored majority, 3 of 3 votes"]
    assert sorted(steps(run)) == ["vote 1", "vote 2", "vote 3"]
    assert [arrival.asked.get("n") for arrival in server.requests] == [3, None, None]
    asyncio.run(infer.run_round(rounds_of(made), claims.claim([Infer(run=run, item=1)], "one", 60)))
    assert [arrival.asked.get("n") for arrival in server.requests[3:]] == [None] * 3


def test_a_server_that_caps_n_is_asked_for_the_rest_one_by_one(server: ChatServer) -> None:
    server.most_votes = 2
    run = open_run(votes=4)
    play(generator(server), run)
    assert sorted(steps(run)) == ["vote 1", "vote 3", "vote 4"]
    assert len(rows(schema.votes, run)) == 4


def test_a_server_that_refuses_n_is_asked_again_without_it_and_no_attempt_is_charged(
    server: ChatServer,
) -> None:
    server.takes_n = False
    run, made = open_run(), generator(server)
    assert play(made, run) == ["waits: the model gives one vote a request: it is asked again so"]
    assert standing(run) == (State.PENDING, 0)
    assert play(made, run) == ["A: unscored majority, 3 of 3 votes"]
    assert sorted(steps(run)) == ["vote 1", "vote 2", "vote 3"]


def test_with_a_seed_separate_requests_have_seeds_of_their_own(server: ChatServer) -> None:
    server.most_votes = 1
    play(generator(server), open_run(seed=7))
    seeds = [arrival.asked["seed"] for arrival in server.requests]
    assert sorted(seeds) == list(range(min(seeds), min(seeds) + 3))


def test_votes_of_later_places_have_seeds_and_steps_of_their_own(server: ChatServer) -> None:
    server.most_votes = 1
    run = open_run()
    made, job = generator(server), Infer(run=run, item=0)

    async def sample(votes: int, place: int) -> None:
        asked = SAMPLING.model_copy(update={"votes": votes})
        await made.sample("题", asked, 40, job=job, step=Step(place))

    asyncio.run(sample(2, 0))
    asyncio.run(sample(1, 2))
    assert steps(run) == ["vote 1", "vote 3"]
    assert [arrival.asked["seed"] for arrival in server.requests] == [40, 42]


def test_tokens_that_the_server_does_not_count_are_bounded(server: ChatServer) -> None:
    server.usage = False
    run = open_run()
    play(generator(server), run)
    (call,) = rows(schema.calls, run)
    assert call["output_tokens"] >= 3 * prompts.tokens(RIGHT)


# Deadlines


def kept(run: str) -> list[tuple[int, str | None]]:
    """Give place and letter of each vote on record whose round is unfinished."""
    return [(row["place"], row["vote"]["letter"]) for row in rows(schema.early_votes, run)]


async def until_kept(run: str, count: int) -> None:
    while len(kept(run)) < count:
        await asyncio.sleep(0.02)


def answered_at_the_deadline(run: str) -> tuple[str, str, int]:
    """Let the deadline pass; give letter, how it came about, and support."""
    with engine.writing() as connection:
        connection.execute(schema.runs.update().where(schema.runs.c.name == run).values(deadline=1.0))
    deadlines.answer_due()
    (answer,) = rows(schema.answers, run)
    return answer["letter"], answer["how"], answer["support"]


def test_votes_of_separate_requests_are_recorded_as_they_come(server: ChatServer) -> None:
    going, asked = threading.Event(), itertools.count(1)

    def reply(_: str) -> str:
        if next(asked) == 4:
            going.wait(60)
        return "因为如此。\n答案是：B"

    server.most_votes, server.reply = 1, reply
    run = open_run(votes=4, deadline=time.time() + 3600)

    async def work() -> None:
        task = asyncio.create_task(infer.run_round(rounds_of(generator(server)), claim(run)))
        await until_kept(run, 3)
        assert not task.done()
        assert {letter for _, letter in kept(run)} == {"B"}
        await asyncio.to_thread(answered_at_the_deadline, run)
        going.set()
        assert [outcome.partition(":")[0] for outcome in await task] == ["too late"]

    asyncio.run(work())
    assert answered_at_the_deadline(run) == ("B", "at the deadline", 3)


def test_votes_are_kept_for_the_deadline_although_one_of_their_calls_fails(server: ChatServer) -> None:
    server.most_votes, server._script = 1, ["ok", "server error", "ok", "ok"]
    run = open_run(votes=4, deadline=time.time() + 3600)
    (outcome,) = play(generator(server), run)
    assert outcome.startswith("again in")
    assert [letter for _, letter in kept(run)] == ["A"] * 3
    assert standing(run) == (State.PENDING, 0)
    assert answered_at_the_deadline(run) == ("A", "at the deadline", 3)
    assert standing(run) == (State.DONE, 1)


class Slow(FakeGenerator):
    """Gives two votes, and never the letter of the one that has none."""

    async def sample(self, *_asked: Any, **_more: Any) -> list[Completion]:
        """Give both with one reply."""
        return [Completion(MUTE, 9), Completion(RIGHT, 9)]

    async def choose(self, *_asked: Any, **_more: Any) -> list[str | None]:
        """Never end."""
        await asyncio.Event().wait()
        return []


def test_a_vote_does_not_wait_for_the_letter_of_another_one(server: ChatServer) -> None:
    run = open_run(votes=2, ask_letter="always", model=None, deadline=time.time() + 3600)

    async def work() -> None:
        playing = Rounds(Slow(), FakeScorer(), lambda _: FakeRetriever(), "openai")
        task = asyncio.create_task(infer.run_round(playing, claim(run)))
        await until_kept(run, 1)
        task.cancel("its run is near its deadline")
        await asyncio.wait([task])

    asyncio.run(work())
    assert kept(run) == [(1, "A")]
    # The claim was given back, for the reason that there was.
    assert [row["outcome"] for row in rows(schema.attempts, run)] == [
        "released: its run is near its deadline"
    ]


# Nothing is bought twice


def test_a_reply_that_is_on_record_is_used_again_after_a_crash(server: ChatServer) -> None:
    run = open_run()
    job = Infer(run=run, item=0)

    async def sample() -> list[Completion]:
        return await generator(server).sample("题", SAMPLING, None, job=job)

    first = asyncio.run(sample())
    # The worker died before it settled the round: another one begins it again.
    assert asyncio.run(sample()) == first
    assert play(generator(server), run) == ["A: unscored majority, 3 of 3 votes"]
    assert len(server.requests) == 1


def test_of_a_round_that_failed_half_way_only_the_missing_votes_are_bought(server: ChatServer) -> None:
    server.most_votes, server._script = 1, ["ok", "server error", "ok", "ok"]
    run, made = open_run(votes=4), generator(server)
    (outcome,) = play(made, run)
    assert outcome.startswith("again in")
    assert len(steps(run)) == 3
    assert play(made, run) == ["A: unscored majority, 4 of 4 votes"]
    assert sorted(steps(run)) == ["vote 1", "vote 2", "vote 3", "vote 4"]
    assert len(server.requests) == 5


def test_the_next_round_asks_for_new_votes(server: ChatServer) -> None:
    server.reply = lambda _: MUTE
    run, made = open_run(), generator(server)
    assert play(made, run) == ["again: none of 3 votes was accepted"]
    server.reply = lambda _: RIGHT
    assert play(made, run) == ["A: unscored majority, 3 of 3 votes"]
    assert steps(run) == ["vote 1", "vote 4"]


# Variety


def knowing(prompt: str) -> str:
    """Answer with the letter under which the last question shows 乙."""
    return f"因为如此。\n答案是：{re.findall('^([A-Z])[.] 乙$', prompt, re.MULTILINE)[-1]}"


def test_each_order_of_the_options_is_a_request_of_its_own(server: ChatServer) -> None:
    server.reply = knowing
    run = open_run(votes=5, vary="options", seed=7)
    assert play(generator(server), run) == ["B: unscored majority, 5 of 5 votes"]
    assert len({arrival.prompt for arrival in server.requests}) == 5
    assert [arrival.asked.get("n") for arrival in server.requests] == [None] * 5
    assert len({arrival.asked["seed"] for arrival in server.requests}) == 5
    assert sorted(steps(run)) == [f"vote {place}" for place in range(1, 6)]
    assert len({vote["text"] for vote in rows(schema.votes, run)}) == 3


@pytest.mark.parametrize(
    ("options", "votes_of"), [(["甲", "乙"], [1, 2, 2]), (["甲", "乙", "以上都不是"], [5])]
)
def test_successive_votes_with_the_same_order_share_a_request(
    server: ChatServer, options: list[str], votes_of: list[int]
) -> None:
    server.reply = knowing
    entry = run_fixtures.entry("p0")
    entry["questions"][0]["options"] = options
    path = run_fixtures.write(Path("two.jsonl"), entry)
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    record = SAMPLING.model_copy(update={"votes": 5, "vary": "options"}).model_dump(mode="json")
    runs.open_run(Run("two", "infer", path.name, "d", None, record), lines)
    calls.set_budget("two", None)
    assert play(generator(server), "two") == ["B: unscored majority, 5 of 5 votes"]
    asked = sorted(arrival.asked.get("n") or 1 for arrival in server.requests)
    assert asked == votes_of


def test_of_orders_that_failed_half_way_only_the_missing_ones_are_bought(server: ChatServer) -> None:
    server.reply, server._script = knowing, ["ok", "server error", "ok"]
    run, made = open_run(vary="options"), generator(server)
    (outcome,) = play(made, run)
    assert outcome.startswith("again in")
    assert len(steps(run)) == 2
    # Another worker takes over.
    assert play(generator(server), run) == ["B: unscored majority, 3 of 3 votes"]
    assert sorted(steps(run)) == ["vote 1", "vote 2", "vote 3"]
    assert len({arrival.prompt for arrival in server.requests}) == 3
    assert len(server.requests) == 4


def test_the_letter_that_a_server_is_asked_for_is_mapped_back(server: ChatServer) -> None:
    server.reply = lambda prompt: "A" if prompt.endswith("答案是：") else MUTE
    run = open_run(max_attempts=1, vary="options", ask_letter="always")
    play(generator(server), run)
    letters = [vote["letter"] for vote in rows(schema.votes, run)]
    assert (letters[0], sorted(letters)) == ("A", ["A", "B", "C"])
    assert len(server.requests) == 6


# Waves


def test_a_stopped_round_has_a_request_for_each_wave(server: ChatServer) -> None:
    texts = iter([MUTE, RIGHT])  # of all votes of a request
    server.reply = lambda _: next(texts)
    run, made = open_run(votes=5, stop="exact", seed=7), generator(server)
    assert play(made, run) == ["A: unscored majority, 1 of 4 votes, 1 not needed"]
    assert steps(run) == ["vote 1", "vote 4"]
    assert [arrival.asked.get("n", 1) for arrival in server.requests] == [3, 1]
    first, second = (arrival.asked["seed"] for arrival in server.requests)
    assert second == first + 3


def test_calls_in_flight_are_not_aborted(server: ChatServer) -> None:
    run = open_run(votes=5, stop="exact", first_wave=5)
    assert play(generator(server), run) == ["A: unscored majority, 5 of 5 votes"]
    assert steps(run) == ["vote 1"]


# Failures


@pytest.mark.parametrize(
    ("fault", "outcome", "state"),
    [
        ("server error", "failed", (State.PENDING, 0)),
        ("timeout", "no reply", (State.PENDING, 0)),
        ("reset", "no reply", (State.PENDING, 0)),
        ("truncated", "unreadable", (State.PENDING, 0)),
        ("no choices", "unreadable", (State.PENDING, 0)),
        ("refused", "refused", (State.DEAD, 1)),
        ("too long", "refused", (State.DEAD, 1)),
        ("credentials", "barred", (State.PENDING, 0)),
    ],
)
def test_a_failed_call_is_no_answer(
    server: ChatServer, fault: str, outcome: str, state: tuple[str, int]
) -> None:
    run, made = open_run(), generator(server, timeout=SHORT if fault == "timeout" else PATIENT)
    server.fail_with(fault)
    play(made, run)
    assert standing(run) == state
    assert rows(schema.votes, run) == []
    assert steps(run, outcome) == ["vote 1"]


def test_failed_calls_are_no_rounds_and_a_question_gets_all_of_those(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MAX_FAILURES", "4")
    settings.load.cache_clear()
    server.reply = lambda _: MUTE
    down = ["server error", "reset", "throttled", "server error"]
    server._script = [*down, "ok", *down, "ok", *down, "ok"]
    run, made = open_run(fallback="constant"), generator(server)
    outcomes = [play(made, run)[0].partition(":")[0] for _ in range(12)]
    assert [outcome.partition(" ")[0] for outcome in outcomes] == ["again"] * 11 + ["A"]
    assert standing(run) == (State.DONE, 3)
    assert [(vote["attempt"], vote["place"]) for vote in rows(schema.votes, run)] == [
        (attempt, place) for attempt in (1, 2, 3) for place in range(3)
    ]


def test_a_question_whose_server_stays_down_is_dead_and_after_a_retry_gets_all_its_rounds(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MAX_FAILURES", "3")
    settings.load.cache_clear()
    server.reply = lambda _: MUTE
    run, made = open_run(fallback="constant"), generator(server)
    play(made, run)
    for _ in range(2):
        server.fail_with("server error")
        assert [play(made, run)[0].partition(" ")[0] for _ in range(3)] == ["again", "again", "dead:"]
        assert publish.retry_dead(run) == 1
        assert standing(run) == (State.PENDING, 1)
    server.fail_with("ok")
    assert play(made, run) == ["again: none of 3 votes was accepted"]
    assert play(made, run)[0].startswith("A: ")
    assert standing(run) == (State.DONE, 3)


def test_a_question_that_the_budget_stopped_loses_no_round(server: ChatServer) -> None:
    server.reply = lambda _: MUTE
    run, made = open_run(budget=40.0), generator(server, PRICED)
    play(made, run)
    calls.set_budget(run, calls.spent(run).spent)
    assert play(made, run)[0].startswith(f"dead: {calls.OVER_BUDGET}")
    assert outbox.revive(run, calls.OVER_BUDGET) == 1
    assert standing(run) == (State.PENDING, 1)


def test_one_question_that_fails_leaves_its_neighbours_alone(server: ChatServer) -> None:
    server._script = ["server error"]
    run = open_run(3)
    outcomes = play(generator(server), run, 3)
    assert sorted(outcome.partition(":")[0] for outcome in outcomes)[:2] == ["A", "A"]
    assert sum(outcome.startswith("again in") for outcome in outcomes) == 1


def test_slow_down_is_obeyed_and_charges_nothing(server: ChatServer) -> None:
    server._script = ["throttled", "throttled", "ok"]
    run = open_run()
    assert play(generator(server), run) == ["A: unscored majority, 3 of 3 votes"]
    assert standing(run) == (State.DONE, 1)
    assert steps(run, "throttled") == ["vote 1"] * 2


def test_votes_that_are_all_held_back_are_refused_and_no_answer(server: ChatServer) -> None:
    server.fail_with("filtered")
    sampler = OpenAISampler(fakes.service(), server.url, SecretStr(KEY), PATIENT)
    with pytest.raises(Refused, match="content filter"):
        sampler.sample(VotesPrompt("题", 8, 0.7, votes=2))


# Money


def test_a_call_costs_what_it_used_and_the_budget_stops_the_run(server: ChatServer) -> None:
    run, made = open_run(2, budget=20.0), generator(server, PRICED)
    play(made, run)
    (call,) = rows(schema.calls, run)
    assert call["cost"] == pytest.approx((call["input_tokens"] + call["output_tokens"]) / 1000)
    assert calls.spent(run).spent == pytest.approx(call["cost"])
    calls.set_budget(run, calls.spent(run).spent)
    held = claims.claim([Infer(run=run, item=1)], "one", 60)
    (outcome,) = asyncio.run(infer.run_round(rounds_of(made), held))
    assert outcome.startswith(f"dead: {calls.OVER_BUDGET}")
    assert len(server.requests) == 1


# What this worker does not serve


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"provider": "local"}, "the run is for the provider local, this worker has the provider chat"),
        ({"model": "other"}, "the run is for the model other"),
        ({"generator": "vllm", "provider": None}, "the run is for generator vllm, this worker has openai"),
    ],
)
def test_a_foreign_run_is_given_back_and_harms_nobody(
    server: ChatServer, changes: dict[str, Any], reason: str
) -> None:
    run = open_run(**changes)
    (outcome,) = play(generator(server), run)
    assert outcome.startswith(f"given back: {reason}")
    assert standing(run) == (State.PENDING, 0)
    assert server.requests == []


def test_without_torch_no_vote_is_scored_and_the_run_is_given_back(
    monkeypatch: pytest.MonkeyPatch, server: ChatServer
) -> None:
    monkeypatch.setenv("VOTEQUEUE_GENERATOR", "openai")
    monkeypatch.setenv("VOTEQUEUE_PROVIDER", "chat")
    monkeypatch.setenv("VOTEQUEUE_MODEL", "m")
    monkeypatch.setenv("VOTEQUEUE_CHAT_BASE_URL", server.url)
    monkeypatch.setenv("VOTEQUEUE_CHAT_API_KEY", KEY)
    settings.load.cache_clear()
    built, _ = wiring.rounds(settings.load(), threading.Event())
    with pytest.raises(NotServedHere, match="needs torch"):
        built._scorer.score("s1", [])
    assert asyncio.run(infer.run_round(built, claim(open_run()))) == ["A: unscored majority, 3 of 3 votes"]


def test_a_reply_on_record_can_be_read_as_json(server: ChatServer) -> None:
    run = open_run()
    play(generator(server), run)
    (call,) = rows(schema.calls, run)
    assert [vote["text"] for vote in json.loads(call["reply"])] == [RIGHT] * 3


# Several voices


def test_the_requests_of_each_voice_and_of_repairs_are_recorded_apart(server: ChatServer) -> None:
    def reply(asked: str) -> str:
        if "请改正它" in asked:
            return "```python\nprint('甲')\n```"
        return "```python\npass\n```" if "### 推理" not in asked else RIGHT

    server.reply = reply
    program = prompt_files.built_in("zh-program")
    run = open_run(
        voices="reasoning=2,program=2", votes=4, voice_prompts={"program": program.digest}, repair=1
    )
    made, executor = generator(server), MontyExecutor(Settings())
    rounds = Rounds(
        made,
        FakeScorer(),
        lambda _: FakeRetriever(),
        "openai",
        lambda voice: executor if VOICES[voice].executor else None,
    )
    ended = asyncio.run(infer.run_round(rounds, claim(run)))
    assert ended == ["A: unscored majority, 4 of 4 votes"]
    assert sorted(steps(run)) == ["repair 3", "repair 4", "vote 1", "vote 3"]
    assert [(vote["voice"], vote["letter"]) for vote in rows(schema.votes, run)] == [
        ("reasoning", "A"),
        ("reasoning", "A"),
        ("program", "A"),
        ("program", "A"),
    ]
    tokens = sum(vote["tokens"] for vote in rows(schema.votes, run))
    assert tokens == sum(call["output_tokens"] for call in rows(schema.calls, run))
