"""Which letters a run wants reasonings for."""

from collections.abc import Sequence

import pytest

from shared.dataset import Question
from shared.errors import Refused
from shared.options import Reasoning
from workers import reasoning_generation

WRONG = Reasoning(
    label="wrong",
    letters="next",
    provider="chat",
    models=("a",),
    asks=3,
    max_tokens=50,
    temperature=0.7,
    prompt="1a2b3c4d",
)
EVERY = WRONG.model_copy(update={"letters": "every"})


def question(options: Sequence[str], answer: str | None) -> Question:
    return Question(question="谁高？", options=list(options), answer=answer)


@pytest.mark.parametrize(
    ("options", "gold", "following", "every"),
    [
        (("甲", "乙", "丙"), "A", "B", "BC"),
        (("甲", "乙", "丙"), "C", "A", "AB"),
        (("是", "否"), "B", "A", "A"),
        (("甲", "甲", "丙"), "A", "C", "C"),
        (("甲", "乙", "甲 ", "丁"), "C", "D", "BD"),
        (("甲", "乙", "丙", " 丙"), "C", "A", "AB"),
        (("甲", "乙", "乙"), "A", "B", "BC"),
    ],
)
def test_a_wrong_letter_is_one_whose_option_says_something_else(
    options: Sequence[str], gold: str, following: str, every: str
) -> None:
    asked = question(options, gold)
    assert reasoning_generation.letters(asked, WRONG) == [following]
    assert reasoning_generation.letters(asked, EVERY) == list(every)


def test_the_right_letter_is_the_questions_answer() -> None:
    right = WRONG.model_copy(update={"label": "correct"})
    assert reasoning_generation.letters(question(("甲", "甲"), "B"), right) == ["B"]


@pytest.mark.parametrize("options", [WRONG, EVERY])
def test_where_all_options_say_the_same_no_letter_is_wrong(options: Reasoning) -> None:
    with pytest.raises(Refused, match="none is wrong"):
        reasoning_generation.letters(question(("甲", "甲 "), "B"), options)
