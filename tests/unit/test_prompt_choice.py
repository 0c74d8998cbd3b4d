"""The language of data: by the share of Chinese characters among the letters of the first entries."""

import pytest

from producers.enqueue import prompt_choice
from shared.dataset import Entry


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("甲比乙高。谁最高？", "zh"),
        ("Alice is taller than Bob.", "en"),
        ("函数 f(x) = print(x) 会输出什么？", "zh"),
        ("已知 Alice is taller than Bob，谁最高？", "zh"),
        ("The character 人 means person in Chinese writing.", "en"),
        ("Ältere Geschwister sind größer.", "en"),
        ("Кто выше?", "en"),
        ("太郎は花子より背が高い。", "zh"),
        ("1 + 1 = ?", "zh"),
        ("", "zh"),
    ],
)
def test_the_language_is_told_by_its_characters(text: str, language: str) -> None:
    assert prompt_choice.language_of([text]) == language


def test_only_the_first_entries_are_looked_at() -> None:
    def entry(problem: str) -> Entry:
        question = {"question": "1?", "options": ["1", "2"]}
        return Entry.model_validate({"id": 1, "problem": problem, "questions": [question]})

    many = [entry("甲比乙高。")] * prompt_choice.SURVEYED + [entry("Alice is taller." * 100)] * 100
    assert prompt_choice.language_of_entries(many) == "zh"
    assert prompt_choice.language_of_entries(reversed(many)) == "en"
