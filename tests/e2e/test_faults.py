"""Overnight, unattended: a service with bad days, workers that are killed, and what is left of a run."""

import os
from pathlib import Path

import pytest
import redis

from shared import broker
from tests import waiting
from tests.conftest import Command
from tests.e2e import faulty
from tests.e2e.conftest import Start
from tests.servers.openai import ChatServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_broker")]


@pytest.fixture(autouse=True)
def _settings(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in faulty.SETTINGS.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    monkeypatch.setenv("VOTEQUEUE_CHAT_BASE_URL", "http://127.0.0.1:1/v1")  # the server's, once it listens


def said_by(home: Path) -> bytes:
    """Give every byte that a run has left behind: logs, ledger, messages."""
    files = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    client = broker.client()
    return files + b"".join(repr(_value(client, key)).encode() for key in client.scan_iter())


def _value(client: "redis.Redis", key: bytes) -> object:
    readers = {b"list": lambda: client.lrange(key, 0, -1), b"hash": lambda: client.hgetall(key)}
    return readers.get(client.type(key), lambda: client.dump(key))()


@pytest.mark.parametrize(("queue", "questions"), [("reason", 300), ("translate", 60)])
def test_every_item_ends_the_limits_hold_and_nothing_on_record_is_asked_again(
    queue: str, questions: int, home: Path, votequeue: Command
) -> None:
    told = faulty.play(queue, questions, home)
    assert told.states["pending"] == told.states["leased"] == 0
    assert told.states["done"] + told.states["dead"] == questions
    assert len(told.reasons) == told.states["dead"] < questions / 10
    assert told.most_in_second <= faulty.PER_SECOND
    assert told.most_at_once <= faulty.AT_ONCE
    # A reply that was on the wire when its worker was killed never came on record.
    assert told.answered_twice <= told.outcomes.get(None, 0)
    failures = {"throttled", "failed", "no reply", "unreadable"}
    assert failures <= {outcome for outcome in told.outcomes if outcome}
    shown = [votequeue(*words, "faulty") for words in (["status"], ["report"], ["failed"])]
    texts = "".join(ended.out + ended.err for ended in shown).encode()
    assert faulty.KEY.encode() not in said_by(home) + texts


def test_a_key_that_is_refused_stops_the_provider_and_is_told_to_nobody(
    home: Path, votequeue: Command, start_worker: Start
) -> None:
    data = home / "data.jsonl"
    faulty.write_questions(data, 20)
    with ChatServer(key="sk-another") as server:
        os.environ["VOTEQUEUE_CHAT_BASE_URL"] = server.url
        run = ["--provider", "chat", "--model", "m", "--run", "r"]
        assert votequeue("enqueue", "reason", data, "--label", "wrong", *run).code == 0
        worker = start_worker("reason", log_level="DEBUG")
        waiting.until(lambda: "VOTEQUEUE_CHAT_API_KEY" in votequeue("status", "r").out, worker.log)
        calls = len(server.requests)
        told = votequeue("status", "r").out
    # Those that were in flight together; nobody after them asks.
    assert 1 <= calls <= faulty.AT_ONCE
    assert "votequeue resume r" in told
    assert votequeue("failed", "r").out.strip() == "run r: no dead items"
    assert faulty.KEY.encode() not in said_by(home) + told.encode()
