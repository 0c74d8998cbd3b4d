"""Prompts: what stands in them, and above all what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.enqueue import inputs
from shared import answers, prompt_files, prompts
from shared.dataset import Entry
from shared.ledger import runs
from shared.prompts import FewShotExample, PromptQuestion

ZH = prompt_files.built_in("zh")
ASKED = PromptQuestion("甲比乙高。 ", " 谁高？", ("甲 ", "乙"))
SOLVED = FewShotExample(PromptQuestion("丙比丁高。", "谁矮？", ("丙", "丁")), "丁比丙矮。\n答案是：B", "B")


def test_the_question_stands_last_and_open() -> None:
    prompt = ZH.completion(ASKED, [SOLVED])
    assert prompt.endswith("### 题目\n甲比乙高。\n\n### 问题\n谁高？\nA. 甲\nB. 乙\n\n### 推理\n")
    assert prompt.startswith(prompts.HEAD)
    assert prompt.index("丙比丁高") < prompt.index("甲比乙高")


def test_the_gold_answer_and_reasoning_of_a_question_are_not_in_its_prompt() -> None:
    question = {
        "question": "谁高？",
        "options": ["甲", "乙"],
        "answer": "B",
        "reasoning": "秘密推理。\n答案是：B",
    }
    entry = Entry.model_validate({"id": 1, "problem": "甲比乙高。", "questions": [question]})
    prompt = ZH.completion(runs.asked(entry, 0))
    assert "秘密推理" not in prompt
    assert "答案是" not in prompt.removeprefix(prompts.HEAD)


@pytest.mark.parametrize(
    "reasoning",
    [
        "丁比丙矮。\n答案是：B",
        "丁比丙矮。\n**答案是：B**",
        "丁比丙矮。\n\n因此，答案是:B。\n",
        "丁比丙矮。",
        "  丁比丙矮。\n所以答案是：B. 丁",
    ],
)
def test_an_example_ends_exactly_with_its_answer(reasoning: str) -> None:
    solution = ZH.solution(FewShotExample(SOLVED.asked, reasoning, "B"))
    assert solution == "丁比丙矮。\n答案是：B\n"


@given(st.text(), st.sampled_from("ABCD"))
def test_any_reasoning_ends_with_the_answers_own_line(reasoning: str, letter: str) -> None:
    lines = ZH.solution(FewShotExample(SOLVED.asked, reasoning, letter)).split("\n")
    assert lines[-2:] == [f"答案是：{letter}", ""]


def test_an_examples_answer_is_read_back_from_it() -> None:
    assert answers.extract(ZH.solution(SOLVED), 2) == "B"


def test_a_verifier_reads_the_question_with_the_reasoning() -> None:
    judged = prompts.judged(ASKED, "甲高。\n答案是：A\n")
    assert judged.startswith("### 题目\n甲比乙高。")
    assert judged.endswith("### 推理\n甲高。\n答案是：A")


def test_solved_questions_are_those_with_answer_and_reasoning() -> None:
    questions = [
        {"question": "1", "options": ["x", "y"], "answer": "A", "reasoning": "因为"},
        {"question": "2", "options": ["x", "y"], "answer": "A"},
        {"question": "3", "options": ["x", "y"], "reasoning": "因为"},
        {"question": "4", "options": ["x", "y"], "answer": "B", "reasoning": " \n"},
    ]
    entry = {"id": 1, "problem": "p", "questions": questions}
    found = list(inputs.solved_questions(Entry.model_validate(entry)))
    assert [one.asked.question for one in found] == ["1"]
    assert (
        list(inputs.solved_questions(Entry.model_validate({**entry, "votequeue": {"origin": "synonym"}})))
        == []
    )


# Options with letters of their own


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["A. 甲", "B. 乙"], ["甲", "乙"]),
        (["(A) x", " (B)y "], ["x", "y"]),
        (["（A）甲", "（B）乙"], ["甲", "乙"]),
        (["[A] x", "[B] y"], ["x", "y"]),
        (["A、甲", "B、乙"], ["甲", "乙"]),
        (["A：甲", "B: 乙"], ["甲", "乙"]),
        (["Ａ．甲", "Ｂ．乙"], ["甲", "乙"]),
        (["a) x", "b) y", "c) z"], ["x", "y", "z"]),
        (["A. A是骑士", "B. B是骑士"], ["A是骑士", "B是骑士"]),
        (["A、A是骑士", "B、B是骑士"], ["A是骑士", "B是骑士"]),
        (["A. 甲", "B. 甲"], ["甲", "甲"]),
    ],
)
def test_options_with_letters_of_their_own_are_lettered_once(options: list[str], shown: list[str]) -> None:
    case = prompts.case(PromptQuestion("p", "q", tuple(options)))
    lines = [f"{letter}. {text}" for letter, text in zip("ABC", shown, strict=False)]
    assert case.split("### 问题\nq\n")[1].split("\n\n")[0].split("\n") == lines


@pytest.mark.parametrize(
    "options",
    [
        ["甲", "乙"],
        ["A. 甲", "乙"],
        ["B. 甲", "A. 乙"],
        ["A", "B"],
        ["A.", "B."],
        ["A 甲", "B 乙"],
        ["A比B高", "B比A高"],
        ["A、B", "B、C"],
        ["A、B和C", "B、C和D"],
        ["A：骗子", "B：骗子"],
        ["Alice", "Bob"],
        ["是", "否"],
    ],
)
def test_options_without_letters_or_with_names_stay_as_they_are(options: list[str]) -> None:
    assert prompts.without_letters(options) == options


def test_more_options_than_letters_stay_as_they_are() -> None:
    assert prompts.without_letters([f"{one}. x" for one in "ABC"] * 9) == [f"{one}. x" for one in "ABC"] * 9


@pytest.mark.parametrize(
    "reasoning",
    [
        "丁比丙矮。\n故选B。\n答案是：B",
        "丁比丙矮。\n\n---\n\n**答案是：B**",
        "**答案是：B**\n\n---\n\n丁比丙矮。",
        "答案是：B\n丁比丙矮。\n答案是：B",
        "丁比丙矮。\nThe answer is B.",
        "丁比丙矮。\n**B**",
    ],
)
def test_no_other_line_of_an_example_names_its_answer(reasoning: str) -> None:
    assert ZH.solution(FewShotExample(SOLVED.asked, reasoning, "B")) == "丁比丙矮。\n答案是：B\n"


@pytest.mark.parametrize(
    ("reasoning", "kept"),
    [
        ("### 推理\n丁比丙矮。\n---\n答案是：B", "### 推理\n丁比丙矮。"),
        ("答案是：B，因为丁比丙矮。", "答案是：B，因为丁比丙矮。"),
        ("**答案是：B**\n\n### 推理\n丁比丙矮。", "**答案是：B**\n\n### 推理\n丁比丙矮。"),
        ("丁比丙矮，因此答案是：B。", "丁比丙矮，"),
        ("答案是：B", ""),
    ],
)
def test_only_the_end_of_a_reasoning_is_taken_off(reasoning: str, kept: str) -> None:
    assert prompts.without_closing(reasoning) == kept
