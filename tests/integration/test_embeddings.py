"""Examples found by embeddings of a provider: real client, gateway and index, a server that fails as told."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared import dataset, settings
from shared.errors import Barred, Held, Unavailable, Unreadable
from shared.jobs import Infer
from shared.ledger import calls, claims, runs
from shared.ledger.runs import Run
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.providers import Limits, Price
from tests import fakes, qdrant_server
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeLimiter, FakeScorer
from tests.integration import run_fixtures
from tests.servers.openai import ChatServer
from workers import infer, wiring
from workers.gateway.gateway import Gateway
from workers.inference.rounds import Rounds
from workers.models import retrieval
from workers.models.embedding import ProviderEmbedder
from workers.models.retrieval import QdrantRetriever
from workers.providers.openai_embeddings import OpenAIEmbeddings

KEY = "sk-7f1d"
TEXTS = ["甲比乙高。", "乙比丙高。", "丙比丁高。"]
EXAMPLES = [
    FewShotExample(PromptQuestion(f"题{at}", "谁高？", ("甲", "乙")), "因为。", "A", at) for at in range(600)
]
ASKED = [PromptQuestion("题7", "谁最高？", ("甲", "乙"))]
fresh = itertools.count()


@pytest.fixture
def server(on_broker: str) -> Iterator[ChatServer]:
    with ChatServer(key=KEY) as started:
        yield started


def model(server: ChatServer, texts: int | None = None, price: Price = fakes.FREE) -> OpenAIEmbeddings:
    service = fakes.service("chat", "e", price=price, limits=Limits(texts=texts))
    return OpenAIEmbeddings(service, server.url, SecretStr(KEY), 2.0)


def retriever(server: ChatServer, client: Any, gateway: Gateway | None = None) -> QdrantRetriever:
    made, gate = model(server), gateway or Gateway(FakeLimiter())
    embedder = ProviderEmbedder(lambda run, texts: gate.embed(run, made, texts), 64)
    return QdrantRetriever(client, embedder, "chat:e", lambda _: EXAMPLES)


def open_run(**options: Any) -> str:
    """Open a run of one question with examples."""
    name = f"run{next(fresh)}"
    path = run_fixtures.write(Path(f"{name}.jsonl"), run_fixtures.entry("p1"))
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    record = Sampling(scorer="none", lora="none", retriever="chat:e", **options).model_dump(mode="json")
    runs.open_run(Run(name, "infer", path.name, "d", "examples", record), lines)
    calls.set_budget(name, None)
    return name


# One request


@pytest.mark.parametrize("base64", [False, True])
def test_vectors_come_in_the_order_of_the_texts_however_they_are_written(
    server: ChatServer, base64: bool
) -> None:
    server.base64 = base64
    embedded = model(server).embed(TEXTS)
    single = [model(server).embed([text]).vectors[0] for text in TEXTS]
    assert embedded.vectors == single
    assert (len(embedded.vectors[0]), embedded.usage.output_tokens) == (64, 0)
    assert 0 < embedded.usage.input_tokens < 64
    asked = server.requests[0].asked
    assert (asked["model"], asked["input"], asked["encoding_format"]) == ("e", TEXTS, "float")


def test_tokens_that_the_server_does_not_count_are_bounded(server: ChatServer) -> None:
    server.usage = False
    assert model(server).embed(TEXTS).usage.input_tokens >= sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("server error", Unavailable, "says 500"),
        ("missing vector", Unreadable, "gives 2 vectors for 3 texts"),
        ("other size", Unreadable, "of different dimensions"),
        ("null vector", Unreadable, "no numbers"),
        ("truncated", Unreadable, "is not a JSON object"),
        ("no model", Barred, "no model 'e'"),
        ("credentials", Barred, "VOTEQUEUE_CHAT_API_KEY"),
    ],
)
def test_a_reply_that_is_no_vectors_is_an_error_of_its_class(
    server: ChatServer, fault: str, error: type[Exception], message: str
) -> None:
    server.fail_with(fault)
    with pytest.raises(error, match=message) as caught:
        model(server).embed(TEXTS)
    assert KEY not in str(caught.value)


# The gateway and the index


def test_examples_are_embedded_once_in_batches_and_every_call_is_recorded(server: ChatServer) -> None:
    run = open_run()
    with qdrant_server.serving() as (url, _):
        (found,) = retriever(server, retrieval.open_client(url, None)).nearest("d", ASKED, 2, True, run)
        # The texts are alike but for their numbers, and those with a 7 share most characters.
        assert [example.position for example in found] == [7, 77]
        # Uploads of 256, 256 and 88 examples, and the question.
        sizes = [len(request.asked["input"]) for request in server.requests]
        assert sizes == [64, 64, 64, 64, 64, 64, 64, 64, 64, 24, 1]
        # Another worker, another run.
        again = retriever(server, retrieval.open_client(url, None))
        assert again.nearest("d", ASKED, 2, True, open_run()) == [found]
        assert len(server.requests) == 12
    (tally,), _ = calls.tally(run)
    assert (tally.provider, tally.model, tally.outcome, tally.calls) == ("chat", "e", calls.OK, 11)
    assert tally.input_tokens > 0


def test_an_index_that_was_interrupted_is_completed_and_nothing_is_bought_twice(server: ChatServer) -> None:
    server._script = ["ok"] * 5 + ["server error"]
    with qdrant_server.serving() as (url, _):
        index = retriever(server, retrieval.open_client(url, None))
        with pytest.raises(Unavailable, match="says 500"):
            index.nearest("d", ASKED, 2, True, open_run())
        assert index.nearest("d", ASKED, 600, True, open_run())[0][0].position == 7
        sent = [text for request in server.requests for text in request.asked["input"]]
    # The first upload was kept; of the second one, a batch had come before the error, and the failed one.
    assert len(sent) == 600 + 64 + 64 + 1


def test_a_service_that_throttles_is_asked_again_and_all_slow_down(server: ChatServer) -> None:
    server._script = ["throttled with delay"]
    limiter = FakeLimiter()
    index = retriever(server, retrieval.open_client(None, None), Gateway(limiter))
    assert len(index.nearest("d", ASKED, 2, True, open_run())[0]) == 2
    assert limiter.slow_downs == [("chat/e@0a1b2c3d", 2.0)]


def test_vectors_of_another_size_wait_for_a_person_until_the_index_is_deleted(server: ChatServer) -> None:
    with qdrant_server.serving() as (url, state):
        index = retriever(server, retrieval.open_client(url, None))
        index.nearest("d", ASKED, 2, True, open_run())
        server.dimensions = 32
        for made in (index, retriever(server, retrieval.open_client(url, None))):
            with pytest.raises(Held, match=r"vectors of 32 dimensions, the index .* has 64") as caught:
                made.nearest("d", ASKED, 2, True, open_run())
            assert caught.value.delay is None
        for collection in state.local.get_collections().collections:
            state.local.delete_collection(collection.name)
        assert len(index.nearest("d", ASKED, 2, True, open_run())[0]) == 2


# A round


def play(index: QdrantRetriever, run: str) -> str:
    rounds = Rounds(FakeGenerator(), FakeScorer(), lambda _: index)
    (outcome,) = asyncio.run(infer.run_round(rounds, claims.claim([Infer(run=run, item=0)], "one", 60)))
    return outcome


def test_a_round_takes_the_nearest_examples_and_pays_for_them(server: ChatServer) -> None:
    run, index = open_run(), retriever(server, retrieval.open_client(None, None))
    assert play(index, run).startswith("A: ")
    assert calls.tally(run)[0][0].calls == 11


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("server error", "again in"), ("missing vector", "again in"), ("no model", "waits:")],
)
def test_a_round_without_its_examples_is_asked_again_and_charges_nothing(
    server: ChatServer, fault: str, outcome: str
) -> None:
    server.fail_with(fault)
    run = open_run()
    assert play(retriever(server, retrieval.open_client(None, None)), run).startswith(outcome)
    assert runs.count_states(run)["pending"] == 1


# The commands and the worker


@pytest.fixture
def chosen(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOTEQUEUE_CHAT_BASE_URL", server.url)
    monkeypatch.setenv("VOTEQUEUE_CHAT_API_KEY", KEY)
    settings.load.cache_clear()


@pytest.fixture
def files(home: Path) -> tuple[Path, Path]:
    questions = run_fixtures.write(home / "q.jsonl", run_fixtures.entry("p1"))
    return questions, run_fixtures.write(
        home / "s.jsonl", *(run_fixtures.solved(f"s{at}") for at in range(3))
    )


@pytest.mark.usefixtures("chosen")
def test_a_run_of_any_generator_pins_it_and_may_have_a_budget(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    questions, solved = files
    words = ("enqueue", "infer", questions, "--examples", solved, "--retriever", "chat:e", "--run", "r")
    refused = votequeue(*words, "--budget", 1)
    assert "needs a price for chat/e" in " ".join(refused.err.split())
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat/e": {"input": 1}}')
    settings.load.cache_clear()
    assert votequeue(*words, "--budget", 1).code == 0
    run = runs.get_run("r")
    assert (run.options["retriever"], run.services, run.providers) == ("chat:e", [("chat", "e")], ["chat"])
    assert calls.spent("r").budget == 1
    assert json.loads(votequeue("status", "r", "--json").out)["run"] == "r"
    dry = votequeue(*words, "--dry-run")
    assert "the embeddings of chat/e" in " ".join(dry.out.split())


@pytest.mark.parametrize("name", ["qianfan:bge-large-zh", "chat:"])
def test_a_provider_without_embeddings_is_refused(
    name: str, files: tuple[Path, Path], votequeue: Command
) -> None:
    ended = votequeue("enqueue", "infer", files[0], "--retriever", name)
    assert ended.code == 2
    assert "use local:MODEL or chat:MODEL" in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.usefixtures("chosen")
def test_a_worker_builds_it_from_the_settings(monkeypatch: pytest.MonkeyPatch, server: ChatServer) -> None:
    for name, value in {"GENERATOR": "openai", "PROVIDER": "chat", "MODEL": "m"}.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    settings.load.cache_clear()
    run = open_run()
    rounds, _ = wiring.rounds(settings.load(), threading.Event())
    index = rounds._retriever("chat:e")
    monkeypatch.setattr(index, "_load", lambda _: EXAMPLES[:3])
    assert len(index.nearest("d", ASKED, 2, True, run)[0]) == 2
    assert [tally.calls for tally in calls.tally(run)[0]] == [2]
