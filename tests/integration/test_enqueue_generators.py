"""Runs of other generators, from the command line: what is filled in, pinned and refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from producers.commands import worker_options
from shared import broker, settings
from shared.ledger import calls, runs
from shared.voting import Outcome
from tests import valkey
from tests.conftest import Command
from tests.integration import model_fixtures, run_fixtures, test_redo

REMOTE = ("--generator", "openai", "--provider", "chat", "--model", "m", "--run", "r")


@pytest.fixture
def data(on_broker: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat": {"input": 1, "output": 2}}')
    settings.load.cache_clear()
    return run_fixtures.write(home / "data.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(2)))


def options(run: str = "r") -> dict[str, Any]:
    return runs.get_run(run).options


def test_a_remote_run_pins_its_service_a_retriever_without_weights_and_no_scorer(
    data: Path, votequeue: Command
) -> None:
    model_fixtures.put("s1")
    assert votequeue("enqueue", "infer", data, *REMOTE, "--budget", "3").code == 0
    pinned = ("generator", "provider", "model", "prompt_style", "retriever", "scorer", "lora")
    expected = ["openai", "chat", "m", "completion", "lexical", "none", "none"]
    assert [options()[name] for name in pinned] == expected
    assert calls.spent("r").budget == 3
    assert broker.waiting("infer.openai.chat.m") == 2
    again = votequeue("enqueue", "infer", data, *REMOTE, "--budget", "4")
    assert "continued" in again.out
    assert calls.spent("r").budget == 4


def test_settings_are_the_defaults_of_runs(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GENERATOR": "openai",
        "PROVIDER": "local",
        "PROMPT_STYLE": "chat",
        "LOCAL_URL": f"http://127.0.0.1:{valkey.free_port()}/v1",
    }.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    settings.load.cache_clear()
    shown = votequeue("enqueue", "infer", data, "--run", "r")
    assert shown.code == 0
    assert "nothing answers at" in shown.err
    model = settings.load().model
    chosen = [options()[name] for name in ("generator", "provider", "model", "prompt_style")]
    assert chosen == ["openai", "local", model, "chat"]
    assert votequeue("enqueue", "infer", data, "--run", "q", "--generator", "vllm").code == 0
    chosen = [options("q")[name] for name in ("generator", "provider", "model", "prompt_style", "retriever")]
    assert chosen == ["vllm", None, None, "chat", "static"]


def test_the_model_of_the_settings_is_that_of_runs_and_of_their_workers(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_MODEL", "org/m")
    settings.load.cache_clear()
    assert votequeue("enqueue", "infer", data, *REMOTE[:4], "--run", "r").code == 0
    assert options()["model"] == "org/m"
    for name, value in {"GENERATOR": "openai", "PROVIDER": "chat"}.items():
        monkeypatch.setenv(f"VOTEQUEUE_{name}", value)
    settings.load.cache_clear()
    loaded = worker_options.chosen("infer", {})
    assert worker_options.queues("infer", loaded, named=False) == ["infer.openai.chat.org-m"]
    assert broker.waiting("infer.openai.chat.org-m") == 2
    assert votequeue("enqueue", "infer", data, *REMOTE[:4], "--run", "n", "--model", "n").code == 0
    assert options("n")["model"] == "n"


def test_the_retriever_is_pinned_with_the_run(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_EMBEDDING", "org/embedding")
    settings.load.cache_clear()
    assert votequeue("enqueue", "infer", data, "--run", "r").code == 0
    assert options()["retriever"] == "org/embedding"
    monkeypatch.delenv("VOTEQUEUE_EMBEDDING")
    settings.load.cache_clear()
    refused = votequeue("enqueue", "infer", data, "--run", "r", "--retriever", "lexical")
    assert "its retriever is org/embedding, not lexical" in " ".join(refused.err.split())


def test_a_worker_with_an_engine_has_no_provider(votequeue: Command) -> None:
    ended = votequeue("worker", "infer", "--provider", "chat")
    assert ended.code == 2
    said = " ".join(ended.err.replace("│", " ").split())
    assert "generator vllm calls no provider: use --generator openai" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (REMOTE[:2], "choose one of: local, chat"),
        ((*REMOTE[:2], "--provider", "tencent"), "'tencent' samples no votes; choose one of: local, chat"),
        (REMOTE[:4], "provider chat has no default model: name one"),
        (
            (*REMOTE, "--scorer", "s1"),
            "a scorer needs torch, which workers with generator openai do not have",
        ),
        ((*REMOTE, "--lora", "in-use"), "serve the adapter as a model, and name it with --model"),
        ((*REMOTE, "--retriever", "static"), "static needs torch"),
        (("--provider", "chat"), "generator vllm calls no provider: use --generator openai"),
        (("--provider", "chat"), "generator vllm calls no provider"),
        (("--budget", "3"), "generator vllm costs nothing"),
        (("--generator", "sglang"), "'vllm' or 'openai'"),
    ],
)
def test_what_does_not_fit_the_generator_is_refused_and_nothing_is_recorded(
    data: Path, votequeue: Command, arguments: tuple[str, ...], said: str
) -> None:
    ended = votequeue("enqueue", "infer", data, *arguments)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert runs.list_runs() == []


def test_a_budget_needs_a_price(data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOTEQUEUE_PRICES")
    settings.load.cache_clear()
    ended = votequeue("enqueue", "infer", data, *REMOTE, "--budget", "3")
    assert "--budget 3 needs a price for chat/m" in " ".join(ended.err.split())
    assert runs.list_runs() == []


def test_default_names_of_ordinary_runs_are_those_of_older_versions(data: Path, votequeue: Command) -> None:
    """Repeating the command of an older version continues its run."""
    assert votequeue("enqueue", "infer", data).code == 0
    (plain,) = (run.name for run in runs.list_runs())
    # The name that it had before most of today's options.
    assert plain == "data-b9895990"
    assert votequeue("enqueue", "infer", data, "--model", "m").code == 0
    assert votequeue("enqueue", "infer", data, "--retriever", "lexical").code == 0
    assert len({run.name for run in runs.list_runs()} | {plain}) == 3


def test_a_pause_of_the_service_is_lifted_by_resume(data: Path, votequeue: Command) -> None:
    assert votequeue("enqueue", "infer", data, *REMOTE).code == 0
    calls.pause("chat/m@0a1b2c3d", "no credit", None)
    assert "provider chat is stopped: no credit" in " ".join(votequeue("status", "r").out.split())
    votequeue("resume", "r")
    assert calls.pauses("chat") == []


# Asking questions again, and the estimate


def settled(data: Path, votequeue: Command, *arguments: str) -> None:
    """Answer the two questions of a run `r`, by default."""
    assert votequeue("enqueue", "infer", data, *arguments).code == 0
    for number in range(2):
        test_redo.settle("r", number, "--", how=Outcome.DEFAULT)


def test_questions_asked_again_keep_the_runs_service_or_change_the_queue(
    data: Path, votequeue: Command
) -> None:
    settled(data, votequeue, *REMOTE, "--prompt-style", "chat")
    again = ("enqueue", "infer", "r", "--only", "default", "--run")
    assert votequeue(*again, "kept", "--budget", "2").code == 0
    names = ("generator", "provider", "model", "retriever", "prompt_style", "scorer", "lora")
    assert [options("kept")[name] for name in names] == [options()[name] for name in names]
    assert calls.spent("kept").budget == 2
    assert votequeue(*again, "other", "--generator", "vllm").code == 0
    assert [options("other")[name] for name in names[:5]] == ["vllm", None, None, "lexical", "chat"]
    assert runs.get_run("other").queue == "infer"
    refused = votequeue(*again, "scored", "--scorer", "s1")
    assert (refused.code, "needs torch" in " ".join(refused.err.split())) == (2, True)


def test_questions_of_an_ordinary_run_are_asked_again_through_a_provider(
    data: Path, votequeue: Command
) -> None:
    settled(data, votequeue, "--run", "r")
    again = ("enqueue", "infer", "r", "--only", "default", "--run", "again")
    assert votequeue(*again, "--provider", "chat").code == 2
    assert votequeue(*again, "--budget", "2").code == 2
    assert votequeue(*again, *REMOTE[:-2]).code == 0
    assert options("again")["retriever"] == "lexical"
    assert broker.waiting("infer.openai.chat.m") == 2


def test_a_dry_run_gives_the_cost_where_a_provider_is_called(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = json.loads(votequeue("enqueue", "infer", data, *REMOTE, "--dry-run", "--json").out)
    expected = (figures["prompt_tokens"] + 2 * figures["vote_tokens"]) / 1e6
    assert figures["cost"] == pytest.approx(expected)
    shown = " ".join(votequeue("enqueue", "infer", data, *REMOTE, "--dry-run").out.split())
    assert "cost in CNY (estimate)" in shown
    assert runs.list_runs() == []
    monkeypatch.delenv("VOTEQUEUE_PRICES")
    settings.load.cache_clear()
    assert "no price is set for chat/m" in votequeue("enqueue", "infer", data, *REMOTE, "--dry-run").out


def test_a_dry_run_refuses_a_budget_without_a_price_and_says_what_is_missing_here(
    data: Path, monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    words = ("enqueue", "infer", data, *REMOTE, "--budget", 5)
    monkeypatch.setenv("VOTEQUEUE_PRICES", "{}")
    settings.load.cache_clear()
    for ended in (votequeue(*words, "--dry-run"), votequeue(*words)):
        assert ended.code == 1
        assert "--budget 5 needs a price for chat/m" in " ".join(ended.err.split())
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"chat": {}}')
    settings.load.cache_clear()
    dry = votequeue(*words, "--dry-run")
    assert dry.code == 0
    assert "VOTEQUEUE_CHAT_BASE_URL" in " ".join(dry.err.split())


@pytest.mark.parametrize("has_template", [True, False])
def test_a_chat_with_a_model_that_has_no_chat_template_is_refused_at_the_door(
    home: Path, data: Path, votequeue: Command, has_template: bool
) -> None:
    weights = home / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    if has_template:
        (weights / "chat_template.jinja").write_text("{{ messages }}")
    ended = votequeue("enqueue", "infer", data, "--model", weights, "--prompt-style", "chat", "--run", "r")
    refused = "has no chat template: use completion" in re.sub(r"[\s│]+", " ", ended.err)
    assert (ended.code, refused) == ((0, False) if has_template else (2, True))
