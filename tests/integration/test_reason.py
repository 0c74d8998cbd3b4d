"""The `reason` queue over fakes and a real ledger: which reasonings a question gets, and what is asked."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import prompts
from shared.errors import Refused
from shared.ledger import cache, calls, engine, runs
from shared.ledger.cache import Wanted
from shared.ledger.schema import State
from shared.prompts import PromptQuestion
from tests import fakes
from tests.fakes import FakeChat
from tests.integration import provider_fixtures, run_fixtures
from tests.integration.provider_fixtures import (
    Stage,
    agreeing,
    obliging,
    open_run,
    result,
    standing,
    steps,
    texts,
    work,
)
from workers.outcomes import NOTHING_TO_DO
from workers.ports import Prompt


@pytest.fixture
def stage(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Have a worker process; over SQLite, unless the test asks for any ledger."""
    with provider_fixtures.staged(monkeypatch) as stage:
        yield stage


# Asking until the letter agrees


def test_a_text_whose_letter_agrees_is_kept_with_who_wrote_it(stage: Stage) -> None:
    chat, run = stage.says(agreeing()), open_run()
    assert work(run) == "B: agreed, asked once"
    assert result(run) == {
        "texts": [
            {
                "letter": "B",
                "text": agreeing(),
                "provider": "chat",
                "model": "a",
                "prompt": prompts.version("explaining"),
                "reused": False,
            }
        ],
        "dropped": [],
    }
    asked = PromptQuestion("甲比乙高，乙比丙高。(p0)", "谁高？", ("甲", "乙", "丙"))
    assert chat.prompts == [Prompt(prompts.explaining(asked, "B"), 50, 0.7)]
    assert work(run) == NOTHING_TO_DO


def test_a_text_that_does_not_agree_is_asked_for_again(stage: Stage) -> None:
    chat, run = stage.says(agreeing("A"), "我不知道。", agreeing()), open_run()
    assert work(run) == "B: agreed, asked 3 times"
    assert texts(run) == [("B", agreeing(), "a", False)]
    assert len(set(chat.prompts)) == 1
    assert steps(run) == ["B:1:a", "B:2:a", "B:3:a"]


def test_a_question_that_never_agrees_is_dead_with_what_was_said(stage: Stage) -> None:
    stage.says(agreeing("C"), "我不知道。", agreeing("C"))
    stage.says(agreeing("A"), model="b")
    run = open_run(models=["a", "b"], asks=3)
    said = "no reasoning for B: chat/a said C, no letter, C; chat/b said A, A, A"
    assert work(run) == f"dead: {said}"
    assert standing(run) == (State.DEAD, 1, said)


def test_the_second_model_is_asked_only_where_the_first_did_not_agree(stage: Stage) -> None:
    first = stage.plays(
        FakeChat({"(p0)": [agreeing()], "(p1)": [agreeing("A")]}, service=fakes.service(model="a"))
    )
    second = stage.says(agreeing(), model="b")
    run = open_run(run_fixtures.entry("p0", "B"), run_fixtures.entry("p1", "B"), models=["a", "b"], asks=2)
    assert [work(run, item) for item in range(2)] == ["B: agreed, asked once", "B: agreed, asked 3 times"]
    assert (len(first.prompts), len(second.prompts)) == (3, 1)
    assert [texts(run, item)[0][2] for item in range(2)] == ["a", "b"]
    assert stage.built == ["a", "b"]


def test_a_model_that_refuses_is_passed_over_for_the_next(stage: Stage) -> None:
    refusing = stage.says(agreeing("A"), Refused("the prompt was filtered"))
    stage.says(agreeing(), model="b")
    run = open_run(models=["a", "b"])
    assert work(run) == "B: agreed, asked 3 times"
    assert len(refusing.prompts) == 2


def test_a_question_that_all_models_refuse_is_dead_with_their_reasons(stage: Stage) -> None:
    stage.says(agreeing("A"), Refused("the prompt was filtered"))
    run = open_run()
    assert work(run) == "dead: no reasoning for B: chat/a said A, nothing (the prompt was filtered)"
    assert standing(run)[0] == State.DEAD


def test_without_chance_in_it_a_model_is_asked_once(stage: Stage) -> None:
    chat, run = stage.says(agreeing("A")), open_run(temperature=0.0)
    assert work(run) == "dead: no reasoning for B: chat/a said A"
    assert [prompt.temperature for prompt in chat.prompts] == [0.0]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("甲最高。\n**答案是：B**", "甲最高。\n**答案是：B**"),
        ("  甲最高。答案是: B \n\n", "甲最高。答案是: B"),
        ("### 推理过程\n甲最高。\n\n---\n\n**答案是：B**", "### 推理过程\n甲最高。\n\n---\n\n**答案是：B**"),
        ("### 问题分析\n比身高。\n\n答案是：B", "### 问题分析\n比身高。\n\n答案是：B"),
        ("**答案是：B**\n\n---\n\n### 推理过程\n甲最高。", "**答案是：B**\n\n---\n\n### 推理过程\n甲最高。"),
        ("<think>答案是：A？</think>\n\n甲最高。\n答案是：B", "甲最高。\n答案是：B"),
        ("也许是A。</think>甲最高。\n答案是：B", "甲最高。\n答案是：B"),
        ("甲最\0高。\n答案是：B", "甲最�高。\n答案是：B"),
    ],
)
@pytest.mark.usefixtures("any_ledger")
def test_a_text_is_kept_whole_but_for_its_thinking(stage: Stage, said: str, kept: str) -> None:
    stage.says(said)
    run = open_run()
    assert work(run) == "B: agreed, asked once"
    assert texts(run)[0][1] == kept


@pytest.mark.parametrize(
    "said",
    [
        "甲最高。\n答案是：D",
        "甲最高。\n答案是：Both",
        "乙。",
        "<think>这道题的答案是：B，先照做。</think>",
        "<think>这道题的答案是：B",
        "题目给出的答案是：B。但按条件推理，它是错误的。",
    ],
)
def test_a_letter_beyond_the_options_thought_or_repeated_is_no_letter(stage: Stage, said: str) -> None:
    stage.says(said)
    assert work(open_run(asks=1)) == "dead: no reasoning for B: chat/a said no letter"


@pytest.mark.parametrize(
    "said",
    [
        "题目给出的答案是：B。但条件二与它不符。\n\n答案是：A",
        "<think>这道题的答案是：B，先照做。</think>\n\n按条件应选A。\n\n答案是：A",
    ],
)
def test_a_text_that_repeats_the_letter_and_concludes_another_is_thrown_away(stage: Stage, said: str) -> None:
    stage.says(said)
    assert work(open_run(asks=1)) == "dead: no reasoning for B: chat/a said A"


def test_a_kept_text_that_concludes_another_letter_is_not_used_again(stage: Stage) -> None:
    echo = "题目给出的答案是：B。但条件二与它不符。\n答案是：A"
    chat = stage.says(echo, "甲最高。\n答案是：B")
    assert work(open_run(asks=1, reader="reference")) == "B: agreed, asked once"
    assert work(open_run()) == "B: agreed, asked once"
    assert len(chat.asked) == 2


# Wrong letters


def test_the_next_wrong_letter_is_explained_as_if_it_were_right(stage: Stage) -> None:
    chat, run = stage.says(obliging), open_run(label="wrong")
    assert work(run) == "C: agreed, asked once"
    assert texts(run) == [("C", agreeing("C"), "a", False)]
    assert "这道题的答案是：C" in chat.asked[0]


def test_a_right_reasoning_is_no_wrong_one(stage: Stage) -> None:
    stage.says(agreeing("B"))
    run = open_run(label="wrong", asks=2)
    assert work(run) == "dead: no reasoning for C: chat/a said B, B"


def test_of_every_wrong_letter_those_that_agree_are_kept(stage: Stage) -> None:
    stage.plays(
        FakeChat(
            {"答案是：C。": ["我不知道。", agreeing("B")]},
            otherwise=obliging,
            service=fakes.service(model="a"),
        )
    )
    entry = run_fixtures.entry("p0", "B")
    entry["questions"][0]["options"] = ["甲", "乙", "丙", "丁"]
    run = open_run(entry, label="wrong", letters="every", asks=2)
    dropped = "chat/a said no letter, B"
    assert work(run) == f"A: agreed, asked once; C: dropped, {dropped}; D: agreed, asked once"
    assert [one[0] for one in texts(run)] == ["A", "D"]
    assert result(run)["dropped"] == [{"letter": "C", "reason": dropped}]
    assert standing(run) == (State.DONE, 1, None)


def test_no_wrong_letter_that_agrees_is_no_result(stage: Stage) -> None:
    stage.says("我不知道。")
    said = "no reasoning for A: chat/a said no letter; nor for C: chat/a said no letter"
    assert work(open_run(label="wrong", letters="every", asks=1)) == f"dead: {said}"


@pytest.mark.parametrize("letters", ["next", "every"])
def test_a_question_without_a_wrong_option_is_dead_and_nothing_is_asked(stage: Stage, letters: str) -> None:
    chat, entry = stage.says(agreeing()), run_fixtures.entry("p0", "B")
    entry["questions"][0]["options"] = ["甲", "甲", "甲 "]
    run = open_run(entry, label="wrong", letters=letters)
    assert work(run) == "dead: every option has the text of B, the right one: none is wrong"
    assert chat.prompts == []


@pytest.mark.parametrize("label", ["correct", "wrong"])
def test_a_question_without_an_answer_is_dead_and_nothing_is_asked(stage: Stage, label: str) -> None:
    chat, run = stage.says(agreeing()), open_run(run_fixtures.entry("p0", "-"), label=label)
    assert work(run).startswith("dead: the question has no answer")
    assert chat.prompts == []


# What is on record already


@pytest.mark.usefixtures("any_ledger")
def test_what_one_run_has_got_another_does_not_ask_for(stage: Stage) -> None:
    chat = stage.says(agreeing())
    work(open_run())
    again = open_run()
    assert work(again) == "B: on record already"
    assert texts(again) == [("B", agreeing(), "a", True)]
    assert len(chat.prompts) == 1
    assert (steps(again), calls.spent(again).spent) == ([], 0.0)


def test_what_any_model_of_the_run_has_got_is_used_the_first_models_first(stage: Stage) -> None:
    for model in "ab":
        stage.says(f"{model}：{agreeing()}", model=model)
    work(open_run(models=["b"]))
    run = open_run(models=["a", "b"])
    work(run)
    assert [one[2:] for one in texts(run)] == [("b", True)]
    work(open_run(models=["a"]))
    run = open_run(models=["a", "b"])
    work(run)
    assert [one[2:] for one in texts(run)] == [("a", True)]


@pytest.mark.parametrize("changes", [{"provider": "local"}, {"models": ["b"]}, {"label": "wrong"}])
def test_another_provider_model_or_label_is_asked_anew(stage: Stage, changes: dict[str, Any]) -> None:
    for provider, model in [("chat", "a"), ("local", "a"), ("chat", "b")]:
        stage.says(obliging, provider=provider, model=model)
    work(open_run())
    run = open_run(**changes)
    assert work(run).endswith("agreed, asked once")
    assert texts(run)[0][3] is False


@pytest.mark.parametrize(
    "changes", [{"problem": "甲比乙高。"}, {"question": "谁矮？"}, {"options": ["甲", "乙", "丁"]}]
)
def test_another_question_is_asked_anew(stage: Stage, changes: dict[str, Any]) -> None:
    chat = stage.says(agreeing())
    work(open_run())
    entry = run_fixtures.entry("p0", "B")
    for place in (entry, entry["questions"][0]):
        place.update({name: value for name, value in changes.items() if name in place})
    work(open_run(entry))
    assert len(chat.prompts) == 2


def test_what_another_prompt_has_got_is_not_used(stage: Stage) -> None:
    chat, run = stage.says(agreeing()), open_run()
    asked = runs.asked(runs.load_entry(run, 0), 0)
    with engine.writing() as connection:
        old = Wanted(asked, "B", "correct", "chat", "0badc0de")
        cache.keep_reasoning(connection, old, "a", "an older prompt's")
    assert work(run) == "B: agreed, asked once"
    assert len(chat.prompts) == 1


def test_a_run_for_another_prompt_is_not_mixed_up_with_ours(stage: Stage) -> None:
    chat, run = stage.says(agreeing()), open_run(prompt="0badc0de")
    assert work(run).startswith("dead: the run wants prompt 0badc0de, this votequeue has ")
    assert chat.prompts == []


def test_what_another_run_gets_meanwhile_is_used_before_asking_again(stage: Stage) -> None:
    slow, quick = open_run(), open_run()

    def meanwhile(_: Prompt) -> str:
        work(quick)
        return agreeing("A")

    chat = stage.says(meanwhile, agreeing())
    assert work(slow) == "B: on record already"
    assert texts(slow) == [("B", agreeing(), "a", True)]
    assert len(chat.prompts) == 2


# What the worker stands on


def test_the_worker_loads_no_model_libraries(home: Path) -> None:
    heavy = {"torch", "vllm", "transformers", "datasets", "sentence_transformers"}
    program = f"import sys, workers.reason; print(*sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == ""
