"""Orders of options: which question is moved how, and which is never moved."""

import itertools
import math

import pytest

from shared import variety
from shared.dataset import LETTERS
from shared.options import Sampling
from shared.prompts import PromptQuestion


def asked(*options: str, question: str = "谁最高？", problem: str = "甲比乙高。") -> PromptQuestion:
    return PromptQuestion(problem, question, options)


def named(count: int, **more: str) -> PromptQuestion:
    return asked(*(f"第{at}人" for at in range(count)), **more)


@pytest.mark.parametrize("count", range(2, 7))
def test_the_first_vote_sees_the_options_as_given(count: int) -> None:
    assert variety.order(named(count), 0) == LETTERS[:count]


@pytest.mark.parametrize("count", range(2, 7))
def test_each_option_is_once_at_each_position_in_as_many_votes_as_there_are_options(count: int) -> None:
    for cycle in range(4):
        orders = [variety.order(named(count), cycle * count + at) for at in range(count)]
        assert all(sorted(column) == sorted(LETTERS[:count]) for column in zip(*orders, strict=True))


@pytest.mark.parametrize("count", range(2, 6))
def test_orders_are_distinct_as_long_as_there_are_others(count: int) -> None:
    orders = [variety.order(named(count), place) for place in range(math.factorial(count))]
    assert sorted(orders) == sorted("".join(each) for each in itertools.permutations(LETTERS[:count]))


def test_a_round_of_a_thousand_votes_on_26_options_has_a_thousand_orders() -> None:
    assert len({variety.order(named(26), place) for place in range(1000)}) == 1000


def test_two_options_change_places_in_pairs_of_votes() -> None:
    assert [variety.order(named(2), place) for place in range(6)] == ["AB", "BA", "BA", "AB", "AB", "BA"]


def test_the_second_vote_sees_another_turn_in_another_question() -> None:
    seconds = {variety.order(named(4, question=f"第{at}问？"), 1) for at in range(40)}
    assert seconds == {"BCDA", "CDAB", "DABC"}


def test_an_order_is_the_same_in_every_process_and_version() -> None:
    # Recorded votes are read again by these orders: a change would map their letters to other options.
    orders = [variety.order(asked("甲", "乙", "丙", "丁"), place) for place in range(6)]
    assert orders == ["ABCD", "BCDA", "CDAB", "DABC", "CABD", "DCAB"]


def test_options_are_shown_in_an_order_without_their_own_letters() -> None:
    question = asked("A. 甲", "B. 乙", "C. 丙")
    assert variety.reordered(question, "CAB").options == ("丙", "甲", "乙")
    assert variety.reordered(question, "ABC") is question
    assert variety.reordered(asked("甲", "甲", "乙"), "CBA").options == ("乙", "甲", "甲")


@pytest.mark.parametrize(
    "option",
    [
        *("以上都不对", "以上皆非", "所有以上选项", "上述均不正确", "都不是", "两者都可以", "均正确", "其他"),
        *("没有一个选项满足规则", "A和B", "Ａ、Ｃ", "A和B都正确", "选项A", "只有C", "A", "B是骗子"),
        *(
            "All of the above",
            "None of these",
            "Both A and B",
            "Neither",
            "both",
            "A and C",
            "A or B",
            "none of the options",
        ),
    ],
)
def test_options_that_may_refer_to_others_are_not_moved(option: str) -> None:
    question = asked("甲", "乙", option)
    assert variety.refer_to_others(question)
    assert {variety.order(question, place) for place in range(9)} == {"ABC"}


@pytest.mark.parametrize(
    "option",
    [
        *(
            "甲和乙",
            "是",
            "否",
            "无法确定",
            "15座以上的塔",
            "加德满都",
            "他们都是骑士并且不说谎",
            "[1, 2]",
            "取决于其他条件",
        ),
        *("A dog", "Ann and Leo", "Neither Ann nor Leo is tall", "DNA", "x = 3", "None", "Z", "a"),
    ],
)
def test_other_options_are_moved(option: str) -> None:
    assert not variety.refer_to_others(asked("甲", "乙", option))


def test_letters_of_options_that_all_have_one_are_no_references() -> None:
    assert not variety.refer_to_others(asked("A. 甲", "B. 乙", "C. 丙"))


@pytest.mark.parametrize(
    ("question", "refers"),
    [("为什么选项B是错的？", True), ("Why is option C wrong?", True), ("下列选项中谁最高？", False)],
)
def test_a_question_about_an_option_is_not_moved(question: str, refers: bool) -> None:
    assert variety.refer_to_others(asked("甲", "乙", "丙", question=question)) is refers


@pytest.mark.parametrize("vary", ["none", "examples"])
def test_only_options_are_moved_by_their_option(vary: str) -> None:
    sampling = Sampling.model_validate({"vary": vary})
    assert {sampling.order(named(3), place) for place in range(5)} == {"ABC"}
