"""What a new wording may change and what not, each with its reason."""

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dataset import Question, WrongReasoning
from workers.augment import checks
from workers.augment.checks import Bounds

BOUNDS = Bounds("zh", 0.4, 2.5)
OLD = Question(
    question="Alan 有几个 3 元的苹果？",
    options=["3 个苹果", "4 个 x", "没有"],
    answer="A",
    reasoning="Alan 买了 3 个。\n所以选第一个。\n答案是：A",
    wrong=[WrongReasoning(answer="B", reasoning="他有 4 个 x。\n答案是：B")],
)
PROBLEM = "Alan 比 Bob 高，Bob 有 3 个苹果，a 和 b 是变量。"
texts = st.text("甲乙一三十a1 ,.，。\n", max_size=40)


def changed(**fields: object) -> list[str]:
    """Change a question's fields, and hear what is wrong with it."""
    return checks.question(OLD, OLD.model_copy(update=fields), BOUNDS)


def reasoning(text: str) -> list[str]:
    return changed(reasoning=text)


def options(*texts: str) -> list[str]:
    return changed(options=list(texts))


@given(texts)
def test_a_text_is_as_good_as_itself(text: str) -> None:
    assert checks.problem(text, text, BOUNDS) == []


def test_a_good_rewording_passes() -> None:
    new = OLD.model_copy(
        update={
            "question": "Alan 手上 3 元一个的苹果有几个？",
            "options": ["三个苹果", "4 个 x", "一个也没有"],
            "reasoning": "Alan 一共买了 3 个苹果。\n因此选第一个。\n答案是：A",
        }
    )
    assert checks.question(OLD, new, BOUNDS) == []
    assert checks.problem(PROBLEM, "和 Bob 相比 Alan 更高，Bob 有三个苹果，a 与 b 是变量。", BOUNDS) == []


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (PROBLEM.replace("3", "5"), ["the number 3 is gone", "the number 5 is new"]),
        (PROBLEM.replace("3 个", "一些"), ["the number 3 is gone"]),
        (PROBLEM.replace("Alan", "艾伦"), ["the name or word Alan is gone"]),
        (PROBLEM.replace("和 b", "和 B"), ["the name or word b is gone", "the name or word B is new"]),
        (PROBLEM + "（注：由 AI 翻译）", ["the name or word AI is new"]),
        ("  ", ["it came back empty"]),
        (PROBLEM * 3, ["the number 3 is said more often", "it had 35 characters and came back with 105"]),
    ],
)
def test_a_problem_that_changed_too_much(new: str, reason: list[str]) -> None:
    assert checks.problem(PROBLEM, new, BOUNDS) == reason


def test_only_a_few_of_many_things_are_named() -> None:
    gone = checks.problem("1 2 3 4 5 甲乙丙丁戊己庚辛壬癸", "甲乙丙丁戊己庚辛壬癸", BOUNDS)
    assert gone == ["the number 1 is gone", "the number 2 is gone", "the number 3 is gone"]


def test_a_name_may_be_said_once_more_or_left_out_once_in_prose() -> None:
    assert checks.problem("Bob 来了，Bob 走了。", "Bob 来了又走了。", BOUNDS) == []


def test_in_an_option_how_often_a_name_is_said_counts() -> None:
    assert options("3 个苹果", "4 个 x 和 x", "没有") == ["option B: the name or word x is said more often"]


def test_in_a_language_of_latin_letters_words_may_change() -> None:
    assert checks.problem("Alan is tall", "Alan is a tall man", Bounds("en", 0.4, 2.5)) == []


def test_the_number_of_options_stays() -> None:
    assert options("3 个苹果", "4 个 x") == ["there were 3 options, now there are 2"]


def test_no_option_is_empty() -> None:
    assert options("3 个苹果", "4 个 x", "") == ["option C: it came back empty"]


def test_options_that_were_not_the_same_are_not_the_same_now() -> None:
    old = OLD.model_copy(update={"options": ["甲", "乙", "丙"]})
    new = OLD.model_copy(update={"options": ["甲", "丁", "丁 "]})
    assert checks.question(old, new, BOUNDS) == ["options B and C are now the same"]


def test_options_that_were_the_same_may_be_so_still() -> None:
    old = OLD.model_copy(update={"options": ["甲", "甲", "丙"]})
    new = OLD.model_copy(update={"options": ["丁", "丁", "丙"]})
    assert checks.question(old, new, BOUNDS) == []


@pytest.mark.parametrize(("answer", "reasons"), [("A", ["options A and B are now the same"]), ("C", [])])
def test_the_right_option_differs_in_more_than_punctuation(answer: str, reasons: list[str]) -> None:
    old = OLD.model_copy(update={"options": ["甲最高", "乙最高", "丙"], "answer": answer})
    new = OLD.model_copy(update={"options": ["最高。", "最高", "丙"], "answer": answer})
    assert checks.question(old, new, BOUNDS) == reasons


def test_short_texts_may_grow_by_a_few_characters() -> None:
    old = OLD.model_copy(update={"options": ["是", "否", "丙"]})
    new = OLD.model_copy(update={"options": ["是的", "不是这样", "丙" * 9]})
    assert checks.question(old, new, BOUNDS) == ["option C: it had 1 characters and came back with 9"]


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("Alan 买了 3 个。\n所以选第一个。", "it was read as A and is now read as none"),
        ("Alan 买了 3 个。\n答案是：A\n答案是：B", "it was read as A and is now read as B"),
        ("Alan 买了 3 个。\n答案是：A\n答案是：A", "it names its answer more often than it did"),
        ("Alan 买了 9 个。\n所以选第一个。\n答案是：A", "the number 3 is gone"),
        ("艾伦买了 3 个。\n所以选第一个。\n答案是：A", "the name or word Alan is gone"),
        ("\n答案是：A", "it came back empty"),
    ],
)
def test_a_reasoning_says_and_concludes_the_same(new: str, reason: str) -> None:
    assert f"the reasoning: {reason}" in reasoning(new)


def test_a_reasoning_may_say_a_number_more_often() -> None:
    assert reasoning("Alan 买了 3 个，3 个。\n所以选第一个。\n答案是：A") == []


def test_a_wrong_reasoning_is_checked_too() -> None:
    wrong = [WrongReasoning(answer="B", reasoning="他有 4 个 x。\n答案是：C")]
    assert changed(wrong=wrong) == ["wrong reasoning 1: it was read as B and is now read as C"]


def test_what_follows_the_letter_of_a_reasoning_need_not_stay() -> None:
    old = OLD.model_copy(update={"reasoning": "Alan 有 3 个。\n\n答案是：A. 3 个 apple"})
    new = OLD.model_copy(update={"reasoning": "3 个是 Alan 的。\n答案是：A"})
    assert checks.question(old, new, BOUNDS) == []


# Numbers


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("第１名", "第一名"),
        ("四万卢比", "4万卢比"),
        ("4万卢比", "40,000卢比"),
        ("23 个", "二十三个"),
        ("2024 年", "二〇二四年"),
        ("2 个", "两个"),
        ("三个 3", "3 个 3"),
        ("1.50 元", "1.5 元"),
        ("－5 度", "-5 度"),
    ],
)
def test_a_number_may_be_written_another_way(old: str, new: str) -> None:
    assert checks.problem(old, new, BOUNDS) == []


@pytest.mark.parametrize(
    ("old", "new"), [("为-5", "为5"), ("3 个", "两个"), ("1.5", "15"), ("4万", "4千"), ("3 3 3", "3 3")]
)
def test_a_number_keeps_its_value_and_how_often_it_is_said(old: str, new: str) -> None:
    assert any("number" in reason for reason in checks.problem(old, new, BOUNDS))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("十", [10]),
        ("二十", [20]),
        ("一百零五", [105]),
        ("三万四千", [34_000]),
        ("一亿二千万", [120_000_000]),
        ("万", [10_000]),
        ("两个人和三个人", [2, 3]),
        ("4万", []),
    ],
)
def test_spelt_numbers_are_read(text: str, values: list[int]) -> None:
    assert checks.spelt(text) == Counter(map(Decimal, values))


@given(st.integers(-(10**12), 10**12))
def test_numbers_in_digits_are_read(number: int) -> None:
    for text in (f"为{number}个", f"为{number:,}个"):
        assert checks.digits(text) == Counter([Decimal(number)])
