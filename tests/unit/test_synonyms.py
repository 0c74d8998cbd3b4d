"""What `synonym` replaces, and what it leaves as it is."""

from typing import Any

import pytest

from shared import answers, dataset
from shared.dataset import Entry
from shared.errors import Refused
from shared.options import Augmentation
from workers.augment import synonyms, thesaurus
from workers.augment.entry_builder import Augmented

ALL = Augmentation(strategy="synonym", share=1.0, seed=1)


def entry(problem: str, **fields: Any) -> Entry:
    question = {"question": "谁先到？", "options": ["张三", "李四"], "answer": "A"} | fields
    return Entry.model_validate({"id": "p1", "problem": problem, "questions": [question]})


def replaced(problem: str, **fields: Any) -> Augmented:
    return synonyms.replace(entry(problem, **fields), ALL)


def test_a_word_becomes_the_same_word_in_every_text_of_the_entry() -> None:
    made = replaced(
        "一号车九点到达车站。",
        question="二号车何时到达？",
        options=["九点到达", "十点到达"],
        reasoning="九点到达的是一号车。\n答案是：B",
        wrong=[{"answer": "A", "reasoning": "都是九点到达。\n答案是：A"}],
    ).entry
    question = made["questions"][0]
    assert made["problem"] == "一号车九点抵达车站。"
    assert question["question"] == "二号车何时抵达？"
    assert question["options"] == ["九点抵达", "十点抵达"]
    assert question["reasoning"] == "九点抵达的是一号车。\n答案是：B"
    assert question["wrong"][0]["reasoning"] == "都是九点抵达。\n答案是：A"


def test_the_new_entry_says_what_it_is_and_how_it_was_made() -> None:
    given = entry("一号车九点到达车站。", reasoning="到达得早。\n答案是：A")
    made = synonyms.replace(given, ALL.model_copy(update={"provider": "chat", "model": "m"})).entry
    assert (made["id"], made["votequeue"]["origin"]) == ("p1~synonym", "synonym")
    assert made["votequeue"]["group"] == dataset.identity(given.problem)
    assert made["questions"][0]["votequeue"] == {
        "label": "correct",
        "origin": "synonym",
        "provider": None,
        "model": "cilin",
        "prompt": None,
    }
    assert Entry.model_validate(made).augmented


def test_reasonings_read_as_the_same_letters() -> None:
    given = entry("他到达车站。", reasoning="先到达的是B。\n**答案是：B**", answer="B")
    text = synonyms.replace(given, ALL).entry["questions"][0]["reasoning"]
    assert text == "先抵达的是B。\n**答案是：B**"
    assert answers.extract(text, 2) == "B"


@pytest.mark.parametrize(
    "problem",
    [
        "“到达”一词有两个字，他到达车站。",
        '选手说 "到达" 以后，他到达车站。',
        "他到达车站，'到达' 是一个词。",
        "「他到达」，他到达车站。",
        "用 `到达` 表示。他到达车站。",
        '没有合上的引号 "他到达车站。',
    ],
)
def test_a_word_that_is_quoted_anywhere_stays_everywhere(problem: str) -> None:
    with pytest.raises(Refused):
        replaced(problem)


@pytest.mark.parametrize(
    "problem",
    [
        "甲、乙、丙三人，不是甲就是乙，且丙一定不在。",
        "如果所有的都成立，则至少有一个存在，除非有的没有。",
        "甲大于乙，乙等于丙，丙之前是丁。",
        "数组的元素按顺序排列，返回长度。",
        "The cat sat on the mat, 3.14 cm.",
    ],
)
def test_logic_comparison_terms_numbers_and_latin_stay(problem: str) -> None:
    with pytest.raises(Refused, match="no word of it has a safe synonym"):
        replaced(problem)


def test_a_name_or_a_title_after_a_surname_stays() -> None:
    made = replaced("王医生到达医院，医生很忙。")
    assert made.entry["problem"] == "王医生抵达医院，医生很忙。"


def test_a_word_stays_whose_synonym_the_entry_has_already() -> None:
    with pytest.raises(Refused):
        replaced("一号车到达，二号车抵达。")


def test_a_word_stays_that_is_a_part_of_other_words() -> None:
    # Otherwise the two would no longer be about the same.
    with pytest.raises(Refused):
        replaced("大学生有三人，学生有五人。")


def test_two_words_of_one_meaning_never_become_one() -> None:
    made = replaced("甲观察星星，乙描述星星，丙判断星星。他断定如此。").entry["problem"]
    changed = synonyms.replace(entry("他判断如此，她断定如此。"), ALL)
    words = [pair.split(" to ") for pair in changed.line.split(": ")[1].split(", ")]
    assert len({new for _, new in words}) == len(words)
    assert not {new for _, new in words} & {"判断", "断定"}
    assert "观测" in made


def test_different_options_stay_different() -> None:
    made = replaced("他在车站。", options=["他到达了", "他寻找了", "他帮助了"]).entry
    options = made["questions"][0]["options"]
    assert options == ["他抵达了", "他找寻了", "他协助了"]


def test_the_same_seed_makes_the_same_choice_and_the_share_bounds_it() -> None:
    text = "他到达车站，寻找医生，告诉学生，遇到武器，帮助员工。"
    half = Augmentation(strategy="synonym", share=0.5, seed=7)
    first, again = (synonyms.replace(entry(text), half) for _ in range(2))
    assert first == again
    assert first.line.startswith("4 of 9 ")
    others = {synonyms.replace(entry(text), half.model_copy(update={"seed": seed})).line for seed in range(8)}
    assert len(others) > 1


def test_a_small_share_still_replaces_one_word() -> None:
    small = Augmentation(strategy="synonym", share=0.01, seed=7)
    assert synonyms.replace(entry("他到达车站，寻找医生。"), small).line.startswith("1 of ")


def test_the_new_text_falls_into_the_words_that_were_meant() -> None:
    words = thesaurus.load()
    made = replaced("他到达车站，寻找医生，告诉学生。").entry["problem"]
    cut = [word for word, _ in words.words(made)]
    assert cut == ["他", "抵达", "车站", "，", "找寻", "医师", "，", "告知", "学员", "。"]


def test_the_thesaurus_has_only_what_shares_every_meaning_of_a_word() -> None:
    words = thesaurus.load()
    assert words.synonyms("到达", "v") == ["抵达"]
    assert words.synonyms("东西", "n") == []
    assert words.synonyms("所有", "b") == []
    assert words.synonyms("没有这样的词", "n") == []
