"""What a scorer learns from: balanced within each question, and weighed."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared import recipes
from shared.recipes import ScorerTraining
from shared.training_examples import Text, TrainingExample
from workers.training import pairs


def options(**changes: Any) -> ScorerTraining:
    base = {**recipes.load("verifier", ScorerTraining), "base": "b", "report_to": ()}
    return ScorerTraining(**{**base, "input": "question+reasoning", **changes})


def lesson(letters: str, answer: str = "A", **changes: Any) -> TrainingExample:
    """Make a question with one text a letter; "-" has none."""
    texts = tuple(
        Text(text=f"第{at}票，答案是：{letter}", letter=None if letter == "-" else letter, place=at)
        for at, letter in enumerate(letters)
    )
    values: dict[str, Any] = {
        "problem": "题",
        "question": "谁？",
        "options": ("甲", "乙", "丙"),
        "group": "g",
        "source": "r",
        "texts": texts,
    }
    return TrainingExample(answer=answer, **{**values, **changes})


def learned(*lessons: TrainingExample, balance: bool = True, **changes: Any) -> list[tuple[str, bool]]:
    items = pairs.gather(lessons, options(**changes))
    return [single for item in items for single in pairs.singles(item, balance)]


def test_right_and_wrong_are_as_many_of_every_question() -> None:
    found = learned(lesson("AABBC"), lesson("ABBBB"))
    assert Counter(right for _, right in found) == {True: 5, False: 5}


def test_a_question_with_only_right_or_only_wrong_texts_teaches_nothing_in_the_balance() -> None:
    assert learned(lesson("AAA"), lesson("BBC-")) == []
    assert len(learned(lesson("AAA"), balance=False)) == 3


def test_a_lone_right_text_is_not_repeated_until_it_is_known_by_heart() -> None:
    found = learned(lesson("ABBBBBBBB"))
    assert Counter(right for _, right in found) == {True: 2, False: 2}


def test_pairs_are_of_one_question_and_the_right_one_comes_first() -> None:
    (item,) = pairs.gather([lesson("ABAB")], options())
    assert [(right[-1], wrong[-1]) for right, wrong in pairs.pairs(item)] == [("A", "B"), ("A", "B")]


def test_a_text_without_a_letter_is_wrong_and_an_empty_one_is_none() -> None:
    silent = Text(text=" ", letter=None)
    with_silence = lesson("A-").model_copy(update={"texts": (*lesson("A-").texts, silent)})
    assert [right for _, right in learned(with_silence, balance=False)] == [True, False]


def test_of_an_answer_every_wrong_option_is_set_against_the_right_one() -> None:
    found = learned(lesson("AAB"), input="question+answer")
    assert found == [("A", True), ("B", False), ("A", True), ("C", False)]


def test_an_option_with_the_right_ones_text_is_not_wrong() -> None:
    twin = lesson("AB", options=("甲", "乙", " 甲"))
    assert [text for text, right in learned(twin, input="question+answer") if not right] == ["B"]


def test_votes_of_two_runs_on_one_question_are_one_question() -> None:
    other = lesson("CC", source="s")
    assert len(learned(lesson("AB"), other, input="question+answer")) == 4
    assert learned(lesson("AB", answer=""), input="question+answer") == []


def test_a_weight_says_how_often_texts_are_learned_from() -> None:
    many = [lesson("AB", question=f"谁{at}？", weight=0.3) for at in range(400)]
    assert 80 <= len(learned(*many)) / 2 <= 160
    assert learned(*many) == learned(*many)
    assert len(learned(lesson("AB", weight=3.0))) == 6
    assert 2 <= len(learned(lesson("AB", weight=1.5))) <= 4


@given(st.lists(st.text("ABC-", min_size=1, max_size=12), min_size=1, max_size=6))
def test_whatever_the_votes_the_balance_holds_within_each_question(votes: list[str]) -> None:
    for letters in votes:
        found = learned(lesson(letters))
        assert sum(right for _, right in found) * 2 == len(found)
        assert bool(found) == ("A" in letters and set(letters) != {"A"})
