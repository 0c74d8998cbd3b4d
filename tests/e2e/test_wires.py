"""The queues through the real SDKs: what is bought comes out, and limits hold for all workers together."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import waiting
from tests.conftest import Command
from tests.e2e import faulty
from tests.e2e.conftest import Start, is_complete
from tests.servers import qianfan, tencent
from tests.servers.qianfan import QianfanServer
from tests.servers.tencent import TencentServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_broker")]
PER_SECOND = 5


def reworded(text: str, source: str, target: str) -> str:
    """Say each line a little otherwise: a translation that changes nothing would count for none."""
    return "\n".join(f"{line}了" for line in text.split("\n"))


@pytest.fixture
def data(home: Path) -> Path:
    path = home / "data.jsonl"
    faulty.write_questions(path, 20)
    return path


@pytest.fixture
def made(home: Path, votequeue: Command, start_worker: Start) -> Callable[..., list[dict[str, object]]]:
    """Give a function that plays a run with two workers, and gives what it made."""

    def play(queue: str, *arguments: object) -> list[dict[str, object]]:
        assert votequeue("enqueue", queue, *arguments, "--run", "r").code == 0
        workers = [start_worker(queue) for _ in range(2)]
        waiting.until(lambda: is_complete("r"), workers[0].log)
        assert votequeue("collect", "r", "-o", home / "made.jsonl").code == 0
        return [json.loads(line) for line in (home / "made.jsonl").read_text("utf-8").splitlines()]

    return play


@pytest.mark.parametrize("model", ["TextTranslateBatch", "hunyuan-translation"])
def test_entries_are_translated_back_through_tencents_sdk(
    model: str, data: Path, made: Callable[..., list[dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TencentServer(per_second=PER_SECOND, at_once=PER_SECOND, translate=reworded) as server:
        monkeypatch.setenv("VOTEQUEUE_TENCENT_URL", server.url)
        monkeypatch.setenv("VOTEQUEUE_TENCENT_SECRET_ID", tencent.SECRET_ID)
        monkeypatch.setenv("VOTEQUEUE_TENCENT_SECRET_KEY", tencent.SECRET_KEY)
        monkeypatch.setenv("VOTEQUEUE_LIMITS", json.dumps({"tencent": {"per_second": PER_SECOND}}))
        how = ["--strategy", "back-translation", "--provider", "tencent", "--model", model]
        entries = made("translate", data, *how)
        assert len(entries) == 20
        assert all(entry["votequeue"]["origin"] == "back-translation" for entry in entries)
        assert server.refused == {}
        assert server.arrivals.most_in(1.0) <= PER_SECOND
        # Each text goes two ways, and shares its call with others.
        assert len(server.arrivals) < 20
        assert max(server.characters) <= 2000


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_reasonings_come_through_baidus_sdk(
    api: str, data: Path, made: Callable[..., list[dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with QianfanServer(per_second=PER_SECOND) as server:
        monkeypatch.setenv("VOTEQUEUE_QIANFAN_URL", server.url)
        monkeypatch.setenv("VOTEQUEUE_QIANFAN_API", api)
        monkeypatch.setenv("VOTEQUEUE_QIANFAN_ACCESS_KEY", qianfan.ACCESS_KEY)
        monkeypatch.setenv("VOTEQUEUE_QIANFAN_SECRET_KEY", qianfan.SECRET_KEY)
        limits = {"qianfan": {"per_second": PER_SECOND, "per_minute": None, "tokens_per_minute": None}}
        monkeypatch.setenv("VOTEQUEUE_LIMITS", json.dumps(limits))
        entries = made("reason", data, "--label", "correct", "--provider", "qianfan")
        assert len(entries) == 20
        assert len(server.arrivals) == 20
        assert server.arrivals.most_in(1.0) <= PER_SECOND
