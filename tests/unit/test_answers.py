"""Reading the letter out of what models really write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import answers


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("甲比乙高。\n答案是：B", "B"),
        ("答案是:B", "B"),
        ("答案是: B", "B"),
        ("答案是 ：　B。", "B"),
        ("**答案是：B**", "B"),
        ("**答案是**：**B**", "B"),
        ("- 答案是：B. 乙", "B"),
        ("答案是：（B）", "B"),
        ("答案是：【B】", "B"),
        ('答案是："B"', "B"),
        ("答案是：Ｂ", "B"),
        ("答案是：B选项", "B"),
        ("答案是：D", "D"),
        ("答案是：B\n\n### 题目\n答案是：C", "B"),
        ("答案是：B\n---\n答案是：C", "B"),
    ],
)
def test_a_choice_is_read(text: str, letter: str) -> None:
    assert answers.extract(text, 4) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "甲最高",
        "答案是：E",
        "答案是：Z",
        "答案是：b",
        "答案是：All of them",
        "答案是：乙",
        "答案是B",
        "答案：B",
        "答案是：",
        "### 题目\n答案是：B",
        "我不知道\n---\n答案是：B",
        "### 问题\n答案是：B",
    ],
)
def test_what_is_no_choice_is_nothing(text: str) -> None:
    assert answers.extract(text, 4) is None


def test_a_letter_beyond_the_options_is_no_letter() -> None:
    assert answers.extract("答案是：C", 3) == "C"
    assert answers.extract("答案是：C", 2) is None


@given(st.text() | st.text(alphabet="答案是：:AZＢ*-# 题目\n"), st.integers(2, 26))
def test_whatever_is_read_is_an_option(text: str, options: int) -> None:
    letter = answers.extract(text, options)
    assert letter is None or letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:options]
