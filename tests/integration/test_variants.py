"""Variants over a real ledger: what is written, checked, kept, refused, and what is bought only once."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import dataset, prompts
from shared.dataset import Entry, Line, scan
from shared.errors import Refused, Unavailable
from shared.ledger import calls, claims, engine, outbox, runs, schema
from shared.ledger.claims import Claim
from shared.ledger.runs import Run
from shared.options import WRITES, Augmentation
from tests.fakes import CharacterEmbedder, FakeChat, FakeLimiter
from tests.integration import run_fixtures
from workers.augment.deduplication import NearCopies
from workers.augment.entry_builder import Augmented
from workers.augment.variants import Variants
from workers.gateway.gateway import Gateway

WRITING, CHECKING = prompts.VARYING[:9], prompts.HEAD[:9]
RIGHT, WRONG = "显然。\n答案是：B", "显然。\n答案是：A"
OPTIONS = Augmentation(
    strategy="variant",
    provider="chat",
    model="m",
    prompt=prompts.version("varying"),
    samples=5,
    agree=3,
    near_copy=0.9,
    max_tokens=800,
    temperature=0.7,
)
pytestmark = pytest.mark.usefixtures("home")


def new(problem: str = "红车快过蓝车。", **changes: Any) -> str:
    """Write a new question as a chat model does."""
    given = {
        "problem": problem,
        "question": "哪辆慢？",
        "options": ["红车", "蓝车", "绿车"],
        "answer": "B",
        "reasoning": "红车更快。\n答案是：B",
    }
    return f"```json\n{json.dumps(given | changes, ensure_ascii=False)}\n```"


@pytest.fixture
def held(home: Path) -> list[Claim]:
    """Claim the three questions of a run `r`; the last has no answer."""
    path = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB-"))
    lines = [line for line in scan(path) if isinstance(line, Line)]
    run = Run("r", "translate", "data.jsonl", "digest", None, OPTIONS.model_dump())
    runs.open_run(run, lines)
    calls.set_budget("r", None)
    return claims.claim(outbox.unsent(10), "one", 60)


class Counted(CharacterEmbedder):
    """Counts what it embeds."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: list[str]) -> Any:
        self.texts.extend(texts)
        return super().encode(texts)


def write(claim: Claim, model: FakeChat, **changes: Any) -> Augmented:
    entry = runs.load_entry("r", claim.entry)
    options = OPTIONS.model_copy(update=changes)
    return Variants(Gateway(FakeLimiter()), model, NearCopies(CharacterEmbedder)).write(claim, entry, options)


def steps() -> list[str]:
    with engine.reading() as connection:
        return list(connection.scalars(sa.select(schema.calls.c.step).order_by(schema.calls.c.id)))


def test_a_question_is_kept_whose_letter_enough_answers_give(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()], CHECKING: [RIGHT, WRONG, RIGHT, "不知道", RIGHT]})
    made = write(held[0], model)
    assert made.entry == {
        "id": "p1#1~variant",
        "problem": "红车快过蓝车。",
        "questions": [
            {
                "question": "哪辆慢？",
                "options": ["红车", "蓝车", "绿车"],
                "answer": "B",
                "reasoning": "红车更快。\n答案是：B",
                "votequeue": {
                    "label": "correct",
                    "origin": "variant",
                    "provider": "chat",
                    "model": "m",
                    "prompt": prompts.version("varying"),
                },
            }
        ],
        "votequeue": {
            "origin": "variant",
            "group": dataset.identity(run_fixtures.entry("p1")["problem"]),
        },
    }
    assert Entry.model_validate(made.entry).augmented
    assert made.dropped == []
    assert made.line.startswith("written once, 3 of 5 answers agree, nearest 0.")
    assert steps() == ["variant:1", *(f"check:1:{n}" for n in range(1, 6))]


def test_the_answers_are_asked_for_without_the_letter_or_the_source(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()]}, RIGHT)
    write(held[0], model)
    asked = prompts.PromptQuestion("红车快过蓝车。", "哪辆慢？", ("红车", "蓝车", "绿车"))
    writing, *checking = model.prompts
    assert "正确答案：A" in writing.text
    assert {prompt.text for prompt in checking} == {prompts.answering(asked)}
    assert {(prompt.max_tokens, prompt.temperature) for prompt in model.prompts} == {(800, 0.7)}


def test_answers_stop_as_soon_as_enough_agree(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()]}, RIGHT)
    assert "3 of 3 answers agree" in write(held[0], model).line
    assert len(model.prompts) == 1 + 3


def test_answers_stop_as_soon_as_too_few_can_agree_and_another_is_written(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new(), new("绿车快过黄车。")], CHECKING: [RIGHT, WRONG, WRONG, WRONG, RIGHT]})
    made = write(held[0], model)
    assert made.entry["problem"] == "绿车快过黄车。"
    assert made.line.startswith("written 2 times, 3 of 3 answers agree")
    assert steps()[4:] == ["check:1:4", "variant:2", "check:2:1", "check:2:2", "check:2:3"]


def test_a_letter_that_no_answer_gives_is_never_kept(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()]}, WRONG)
    with pytest.raises(Refused, match="no variant can be kept: 0 of 3 answers gave its letter B; 0 of 3"):
        write(held[0], model)
    assert len(model.prompts) == WRITES * (1 + 3)


def test_a_garbled_reply_is_written_again_and_not_checked(held: list[Claim]) -> None:
    model = FakeChat({WRITING: ['{"problem": "红', new(options=["红车", "红车"]), new()]}, RIGHT)
    assert write(held[0], model).line.startswith("written 3 times")
    assert steps()[:3] == ["variant:1", "variant:2", "variant:3"]


def test_without_chance_the_same_prompt_is_not_sent_again(held: list[Claim]) -> None:
    model = FakeChat({WRITING: ["我不会。"]})
    with pytest.raises(Refused, match="no JSON object"):
        write(held[0], model, temperature=0.0)
    assert len(model.prompts) == 1


def test_a_near_copy_of_any_question_of_the_run_is_refused_before_it_is_checked(held: list[Claim]) -> None:
    asked = runs.asked(runs.load_entry("r", 0), 2)
    copied = new(asked.problem, question=asked.question + "？", options=list(asked.options))
    model = FakeChat({WRITING: [copied]}, RIGHT)
    with pytest.raises(Refused, match=r"nearly a copy .* \(similarity 0\.9\d\d\)"):
        write(held[0], model)
    assert len(model.prompts) == WRITES


def test_a_near_copy_of_a_variant_that_was_kept_is_refused(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()]}, RIGHT)
    entry = runs.load_entry("r", 0)
    variants = Variants(Gateway(FakeLimiter()), model, NearCopies(CharacterEmbedder))
    claims.complete(held[0], variants.write(held[0], entry, OPTIONS).value)
    with pytest.raises(Refused, match="nearly a copy"):
        variants.write(held[1], entry, OPTIONS)


def test_the_runs_questions_are_embedded_once_in_a_process(held: list[Claim]) -> None:
    embedder = Counted()
    model = FakeChat({WRITING: [new(), new("绿色的马跑得过黄狗。", question="谁输？")]}, RIGHT)
    variants = Variants(Gateway(FakeLimiter()), model, NearCopies(lambda: embedder))
    entry = runs.load_entry("r", 0)
    claims.complete(held[0], variants.write(held[0], entry, OPTIONS).value)
    variants.write(held[1], entry, OPTIONS)
    # Three of the data set, two that were written, and the first of these again when it had been kept.
    assert len(embedder.texts) == 3 + 2 + 1


def test_a_question_without_an_answer_has_no_variant(held: list[Claim]) -> None:
    model = FakeChat()
    with pytest.raises(Refused, match=r"p1#3 has no answer"):
        write(held[2], model)
    assert model.prompts == []


def test_replies_on_record_are_not_bought_again_after_a_crash(held: list[Claim]) -> None:
    breaking = FakeChat({WRITING: ["我不会。", new()], CHECKING: [RIGHT, Unavailable("reset")]})
    with pytest.raises(Unavailable):
        write(held[0], breaking)
    again = FakeChat(otherwise=RIGHT)
    assert write(held[0], again).entry["problem"] == "红车快过蓝车。"
    # What was missing: the second and the third answer.
    assert len(again.prompts) == 2


def test_an_answer_that_is_refused_is_one_that_does_not_agree(held: list[Claim]) -> None:
    model = FakeChat({WRITING: [new()], CHECKING: [Refused("filtered"), RIGHT]})
    assert "3 of 4 answers agree" in write(held[0], model).line


def test_a_refused_writing_is_not_asked_for_again(held: list[Claim]) -> None:
    model = FakeChat({WRITING: ["我不会。", Refused("the content is filtered")]})
    with pytest.raises(Refused, match="kept: no JSON object in the reply; the content is filtered"):
        write(held[0], model)
    assert len(model.prompts) == 2
