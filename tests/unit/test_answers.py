"""The readers that a run can name, and where a raw completion ends that is read so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared import answers, prompt_files
from shared.answers import READERS, REFERENCE, ReaderName
from shared.prompts import PromptQuestion


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("甲比乙高。\n答案是：B", "B"),
        ("答案是:B", "B"),
        ("答案是 ：　B。", "B"),
        ("**答案是**：**B**", "B"),
        ("- 答案是：B. 乙", "B"),
        ('答案是："B"', "B"),
        ("答案是：Ｂ", "B"),
        ("答案是：B选项", "B"),
        ("答案是：A。更正：答案是：B", "A"),
        ("答案是：B\n---\n答案是：C", "B"),
    ],
)
def test_the_reference_reads_the_first_answer(text: str, letter: str) -> None:
    assert answers.extract(text, 4, REFERENCE) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "答案是：E",
        "答案是：b",
        "答案是：All of them",
        "答案是：乙",
        "答案是B",
        "答案：B",
        "答案是：",
        "### 题目\n答案是：B",
        "我不知道\n---\n答案是：B",
    ],
)
def test_what_the_reference_does_not_read(text: str) -> None:
    assert answers.extract(text, 4, REFERENCE) is None


@pytest.mark.parametrize("reader", READERS)
def test_a_letter_beyond_the_options_is_no_letter(reader: str) -> None:
    assert answers.extract("答案是：C", 3, reader) == "C"
    assert answers.extract("答案是：C", 2, reader) is None


@pytest.mark.parametrize("reader", READERS)
@given(text=st.text() | st.text(alphabet="答案是：:AZＢ*-# 题目\n"), options=st.integers(2, 26))
def test_whatever_is_read_is_an_option(reader: str, text: str, options: int) -> None:
    letter = answers.extract(text, options, reader)
    assert letter is None or letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:options]


def test_a_reader_is_one_of_those_there_are() -> None:
    assert TypeAdapter(ReaderName).validate_python("reference") == "reference"
    with pytest.raises(ValidationError, match="the readers are: conclusion, reference"):
        TypeAdapter(ReaderName).validate_python("guess")


def test_a_completion_ends_where_the_prompts_next_case_begins() -> None:
    cut, zh = READERS["conclusion"].cut, prompt_files.built_in("zh")
    following = zh.case(PromptQuestion("丙比丁高。", "谁高？", ("丙", "丁")))
    assert cut("甲高。\n答案是：A\n" + following, zh.stop) == "甲高。\n答案是：A"
    assert cut(following.lstrip() + "答案是：A", zh.stop) == ""


@pytest.mark.parametrize(
    "text",
    [
        "甲 --- 乙。\n\n---\n\n答案是：A",
        "### 题目理解\n甲高。\n答案是：A",
        "### 问题\n答案是：A",
        "见### 题目\n答案是：A",
    ],
)
def test_no_other_mark_ends_a_completion(text: str) -> None:
    assert READERS["conclusion"].cut(text, prompt_files.built_in("zh").stop) == text


def test_the_reference_ends_a_completion_at_any_sign_of_a_new_problem() -> None:
    cut = READERS[REFERENCE].cut
    assert cut("答案是：A\n---\n甲") == "答案是：A"
    assert cut("答案是：A\n### 题目理解") == "答案是：A"


@pytest.mark.parametrize("reader", READERS)
def test_a_completion_is_given_without_its_thinking(reader: str) -> None:
    assert READERS[reader].cut("<think>也许是B</think>\n甲高。\n答案是：A") == "甲高。\n答案是：A"
