"""A `reason` worker on a stage: its task as it is, its chat models and its limiter fakes, its runs our own.

stage.says("我不知道。", agreeing("B"))
work(open_run())  ->  "B: agreed, asked 2 times"
"""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import dataset, prompts, settings
from shared.ledger import calls, engine, runs, schema
from shared.ledger.runs import Run
from shared.options import Reasoning
from shared.providers import Price
from tests import fakes
from tests.fakes import FakeChat, FakeLimiter, Said
from tests.integration import run_fixtures
from workers import reason, wiring
from workers.gateway.gateway import Gateway
from workers.ports import Prompt

OPTIONS = Reasoning(
    label="correct",
    letters="next",
    provider="chat",
    models=("a",),
    asks=3,
    max_tokens=50,
    temperature=0.7,
    prompt=prompts.version("explaining"),
    reader="conclusion",
)
fresh = itertools.count()


class Stage:
    """A worker process whose chat models and limiter are fakes."""

    def __init__(self) -> None:
        self.limiter = FakeLimiter()
        self.chats: dict[tuple[str, str], FakeChat] = {}
        self.built: list[str] = []
        self.stopping = threading.Event()

    def says(
        self, *said: Said, model: str = "a", provider: str = "chat", price: Price = fakes.FREE
    ) -> FakeChat:
        """Let a model say one thing after the other, the last for ever."""
        service = fakes.service(provider, model, price=price)
        return self.plays(FakeChat({"": said}, service=service))

    def plays(self, chat: FakeChat) -> FakeChat:
        """Put a model on the stage."""
        self.chats[chat.service.provider, chat.service.model] = chat
        return chat

    def chat_model(self, provider: str, model: str, _: settings.Settings) -> FakeChat:
        self.built.append(model)
        return self.chats[provider, model]

    def gateway(self, _: settings.Settings, stopping: threading.Event) -> Gateway:
        self.stopping = stopping
        return Gateway(self.limiter)


@contextlib.contextmanager
def staged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Have the worker's services be those of a stage."""
    stage = Stage()
    monkeypatch.setattr(wiring, "gateway", stage.gateway)
    monkeypatch.setattr(wiring, "chat_model", stage.chat_model)
    reason.service.cache_clear()
    yield stage
    reason.service.cache_clear()


def open_run(*entries: dict[str, Any], budget: float | None = None, **changes: Any) -> str:
    """Open a run of entries, one unless given, as the producer does, under a name of its own."""
    name = f"run{next(fresh)}"
    path = run_fixtures.write(Path(f"{name}.jsonl"), *(entries or (run_fixtures.entry("p0", "B"),)))
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = {**OPTIONS.model_dump(mode="json"), **changes}
    runs.open_run(Run(name, "reason", path.name, "d", None, options), lines)
    calls.set_budget(name, budget)
    return name


def agreeing(letter: str = "B") -> str:
    """Write a reasoning for a letter."""
    return f"甲比乙高，所以选 {letter}。\n答案是：{letter}"


def obliging(prompt: Prompt) -> str:
    """Say the letter that is to be explained."""
    found = re.search("这道题的答案是：([A-Z])", prompt.text)
    assert found is not None
    return agreeing(found[1])


def work(run: str, item: int = 0) -> str:
    """Do one item, as its message does."""
    return str(reason.reason.run(run=run, item=item))


def result(run: str, item: int = 0) -> dict[str, Any]:
    """Read an item's result."""
    columns = schema.results.c
    query = sa.select(columns.value).where(columns.run == run, columns.number == item)
    with engine.reading() as connection:
        return dict(connection.execute(query).scalar_one())


def texts(run: str, item: int = 0) -> list[tuple[str, str, str, bool]]:
    """Read the letters, texts, models and reuse of an item's reasonings."""
    found = result(run, item)["texts"]
    return [(one["letter"], one["text"], one["model"], one["reused"]) for one in found]


def standing(run: str, number: int = 0) -> tuple[str, int, str | None]:
    """Give an item's state, attempts charged, and the reason it is dead for."""
    columns = schema.items.c
    query = sa.select(columns.state, columns.attempt, columns.reason)
    with engine.reading() as connection:
        row = connection.execute(query.where(columns.run == run, columns.number == number)).one()
    return row.state, row.attempt, row.reason


def steps(run: str) -> list[str]:
    """Read the steps for which calls were made, in order."""
    columns = schema.calls.c
    with engine.reading() as connection:
        return list(
            connection.scalars(sa.select(columns.step).where(columns.run == run).order_by(columns.id))
        )
