"""Texts cut into lines and sentences, and joined again: nothing is lost, what is no sentence stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import segments

texts = st.text("甲乙。！；，、a1 \n\t.-#“”：", max_size=120)


def there(text: str, language: str = "zh", longest: int | None = None) -> list[str]:
    return [segment.text for segment in segments.split(text, language, longest) if segment.text]


@given(texts, st.none() | st.integers(1, 30))
def test_joined_again_it_is_the_text(text: str, longest: int | None) -> None:
    cut = segments.split(text, "zh", longest)
    assert segments.join(cut, {segment.text: segment.text for segment in cut}) == text


@given(texts, st.integers(1, 30))
def test_no_segment_is_longer_than_a_call_takes(text: str, longest: int) -> None:
    for segment in segments.split(text, "zh", longest):
        assert len(segment.text) <= longest
        assert segment.text == segment.text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "42",
        "[a, b, c]",
        "Alan",
        "x > 3 && y",
        "\\(9^2 - 4*7*5 = -59\\)",
        "α + β",
        "```\na -- b\n```",
    ],
)
def test_what_has_no_word_of_the_language_is_not_translated(text: str) -> None:
    assert there(text) == []


def test_in_a_latin_language_latin_words_are_translated() -> None:
    assert there("Alan is tall.\n42", "en") == ["Alan is tall."]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1. Alan 名列第一。", "Alan 名列第一。"),
        ("  - 点 a 连接到点 b。", "点 a 连接到点 b。"),
        ("## 结论", "结论"),
        ("（三）甲高。", "甲高。"),
        ("2、乙不高。", "乙不高。"),
        ("B. 否", "否"),
        ("选择题 1：谁高？", "谁高？"),
        ("3.14是圆周率", "3.14是圆周率"),
        ("1、2、3三个数", "1、2、3三个数"),
        ("A、B、C三人", "A、B、C三人"),
        ("2024年", "2024年"),
    ],
)
def test_what_numbers_a_line_stays_before_it(line: str, text: str) -> None:
    assert there(line) == [text]


def test_lines_are_translated_each_by_itself() -> None:
    cut = segments.split("已知：\n\n1. 甲高。\n2. 乙不高。\n", "zh", None)
    said = {"已知：": "前提：", "甲高。": "甲很高。", "乙不高。": "乙矮。"}
    assert segments.join(cut, said) == "前提：\n\n1. 甲很高。\n2. 乙矮。\n"


def test_a_long_line_is_cut_after_a_sentence_then_a_clause_then_anywhere() -> None:
    assert there("甲高。 乙矮！丙不高也不矮，丁也是，戊己庚辛壬癸子丑寅卯", "zh", 10) == [
        "甲高。 乙矮！",
        "丙不高也不矮，",
        "丁也是，",
        "戊己庚辛壬癸子丑寅卯",
    ]
    assert there("戊己庚辛壬癸子丑寅卯辰巳", "zh", 10) == ["戊己庚辛壬癸子丑寅卯", "辰巳"]
