"""`collect --push`: the real hub library, as a process, against a server with the hub's endpoints."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Command
from tests.format_fixtures import SAMPLES, write
from tests.integration import run_fixtures
from tests.servers.hub import TOKEN, HubServer
from tests.valkey import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as started:
        yield started


@pytest.fixture
def run(home: Path, on_broker: str, votequeue: Command) -> str:
    """Answer two of three questions, one of them right."""
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "ABA"))
    assert votequeue("enqueue", "infer", data, "--run", "mine").code == 0
    for number in (0, 1):
        (held,) = run_fixtures.claim("mine", number)
        run_fixtures.vote(held, [run_fixtures.ballot("A")] * 3)
    return "mine"


def push(
    home: Path, endpoint: str, *words: str, token: str | None = TOKEN
) -> "subprocess.CompletedProcess[str]":
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **own, **({"HF_TOKEN": token} if token else {})}
    command = [sys.executable, "-m", "producers.cli", "collect", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def table(hub: HubServer, name: str = "me/answers") -> Any:
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(hub.files[name]["data/train-00000-of-00001.parquet"]))


def test_the_answers_arrive_as_a_private_data_set_with_a_card(home: Path, hub: HubServer, run: str) -> None:
    ended = push(home, hub.url, run, "--push", "hf://me/answers", "--fields", "support")
    # Incomplete, as with a file.
    assert ended.returncode == 1
    assert "1 of 3 questions have no answer" in ended.stderr
    assert f"{hub.url}/datasets/me/answers: 2 of 3 questions answered" in ended.stdout
    assert hub.private == {"me/answers": True}
    (entry,) = table(hub).to_pylist()
    assert [(asked["answer"], asked["support"]) for asked in entry["questions"]] == [
        ("A", 3),
        ("A", 3),
        ("", None),
    ]
    card = hub.files["me/answers"]["README.md"].decode()
    head, _, text = card.removeprefix("---\n").partition("---\n")
    info = yaml.safe_load(head)["dataset_info"]
    assert [feature["name"] for feature in info["features"]] == ["id", "problem", "questions", "votequeue"]
    assert info["splits"][0]["num_examples"] == 1
    for fact in ("| run | mine |", "| prompt | zh |", "| questions | 3 |", "| accuracy | 33.3% (1 of 3 "):
        assert fact in text
    assert TOKEN not in ended.stdout + ended.stderr + card


def test_what_is_pushed_can_be_loaded_and_pushed_again(home: Path, hub: HubServer, run: str) -> None:
    import datasets

    for _ in range(2):
        push(home, hub.url, run, "--push", "hf://me/answers")
    folder = home / "got"
    for name, content in hub.files["me/answers"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(home / "cache"))
    assert loaded[0]["id"] == "p1"


def test_rows_keep_their_layout(home: Path, hub: HubServer, on_broker: str, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    data = write(home / "mmlu.jsonl", sample.before)
    votequeue("enqueue", "infer", data, "--run", "r")
    run_fixtures.answer_all("r", 2, "B")
    ended = push(home, hub.url, "r", "--push", "hf://me/answers")
    assert ended.returncode == 0, ended.stderr
    assert table(hub).to_pylist() == sample.after


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "may not write there"), (404, "no such owner"), (400, "the hub says 400 (refused by the test)")],
)
def test_a_refusal_of_the_hub_is_one_line(
    status: int, reason: str, home: Path, hub: HubServer, run: str
) -> None:
    hub.refuse = status
    ended = push(home, hub.url, run, "--push", "hf://me/answers")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()[-1:]
    assert line.startswith("votequeue: --push hf://me/answers: ")
    assert reason in line
    assert "Traceback" not in ended.stderr


def test_a_token_that_is_missing_or_wrong_and_a_hub_that_is_away_are_one_line(
    home: Path, hub: HubServer, run: str
) -> None:
    for endpoint, token, reason in (
        (hub.url, None, "there is no token: run `hf auth login`, or set HF_TOKEN"),
        (hub.url, "hf_wrong", "the hub does not accept the token"),
        (f"http://127.0.0.1:{free_port()}", TOKEN, "the hub does not answer"),
    ):
        ended = push(home, endpoint, run, "--push", "hf://me/answers", token=token)
        assert (ended.returncode, reason in ended.stderr.splitlines()[-1]) == (1, True), ended.stderr
        assert "Traceback" not in ended.stderr
        assert token is None or token not in ended.stderr
    assert hub.files == {}


def test_where_to_push_is_said_in_one_form_and_instead_of_a_file(
    home: Path, run: str, votequeue: Command
) -> None:
    for target in ("me/answers", "hf://answers", "hf://me/answers/config", "hf://me/answers:test"):
        assert "expected hf://OWNER/NAME" in votequeue("collect", run, "--push", target).err
    for words in ((), ("-o", "x.jsonl", "--push", "hf://me/answers")):
        ended = votequeue("collect", run, *words)
        assert (ended.code, "--push" in ended.err) == (2, True)
