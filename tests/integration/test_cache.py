"""What was bought once: reasonings found again by all that makes them the same, texts translated by one."""

import threading

import pytest

from shared.ledger import cache, engine
from shared.ledger.cache import Reserved, Route, Wanted
from shared.prompts import PromptQuestion

pytestmark = pytest.mark.usefixtures("any_ledger")
ASKED = PromptQuestion("甲比乙高。", "谁高？", ("甲", "乙"))
WANTED = Wanted(ASKED, "A", "correct", "chat", "v1")
ROUTE = Route("zh", "ja", "tencent", "TextTranslateBatch")


def keep(wanted: Wanted, model: str, text: str) -> None:
    with engine.writing() as connection:
        cache.keep_reasoning(connection, wanted, model, text)


def translated(texts: dict[str, str], route: Route = ROUTE) -> None:
    with engine.writing() as connection:
        cache.keep_translations(connection, texts, route)


def test_a_reasoning_is_found_again_and_the_first_one_stays() -> None:
    keep(WANTED, "m", "甲高。")
    keep(WANTED, "m", "另一个。")
    assert cache.find_reasoning(WANTED, ["m"]) == ("m", "甲高。")


def test_the_first_model_that_has_one_is_taken() -> None:
    keep(WANTED, "b", "乙的。")
    assert cache.find_reasoning(WANTED, ["a", "b"]) == ("b", "乙的。")
    keep(WANTED, "a", "甲的。")
    assert cache.find_reasoning(WANTED, ["a", "b"]) == ("a", "甲的。")


@pytest.mark.parametrize(
    "other",
    [
        Wanted(ASKED, "B", "correct", "chat", "v1"),
        Wanted(ASKED, "A", "wrong", "chat", "v1"),
        Wanted(ASKED, "A", "correct", "local", "v1"),
        Wanted(ASKED, "A", "correct", "chat", "v2"),
        Wanted(PromptQuestion("甲比乙高。", "谁高？", ("乙", "甲")), "A", "correct", "chat", "v1"),
    ],
)
def test_a_reasoning_for_anything_else_is_not_the_same(other: Wanted) -> None:
    keep(WANTED, "m", "甲高。")
    assert cache.find_reasoning(other, ["m"]) is None
    assert cache.find_reasoning(WANTED, ["n"]) is None


def test_a_text_is_reserved_by_one() -> None:
    assert cache.reserve(["甲", "乙"], ROUTE, "w1", 60.0) == Reserved({}, ["甲", "乙"], [])
    assert cache.reserve(["乙", "丙"], ROUTE, "w2", 60.0) == Reserved({}, ["丙"], ["乙"])
    translated({"甲": "A", "乙": "B"})
    assert cache.reserve(["丙", "乙"], ROUTE, "w3", 60.0) == Reserved({"乙": "B"}, [], ["丙"])
    assert cache.find_translations(["甲", "乙", "丙"], ROUTE) == {"甲": "A", "乙": "B"}


def test_what_is_given_up_or_forgotten_is_free_again() -> None:
    cache.reserve(["甲", "乙"], ROUTE, "w1", 60.0)
    cache.give_up(["甲"], ROUTE, "w1")
    assert cache.reserve(["甲", "乙"], ROUTE, "w2", -1.0) == Reserved({}, ["甲"], ["乙"])
    assert cache.reserve(["甲"], ROUTE, "w3", 60.0) == Reserved({}, ["甲"], [])


def test_a_reservation_of_another_is_not_given_up() -> None:
    cache.reserve(["甲"], ROUTE, "w1", 60.0)
    cache.give_up(["甲"], ROUTE, "w2")
    assert cache.reserve(["甲"], ROUTE, "w2", 60.0).others == ["甲"]


def test_each_way_and_provider_has_its_own_memory() -> None:
    cache.reserve(["甲"], ROUTE, "w1", 60.0)
    translated({"甲": "A"})
    for other in (Route("ja", "zh", ROUTE.provider, ROUTE.model), Route("zh", "ja", "chat", "m")):
        assert cache.find_translations(["甲"], other) == {}


def test_eight_that_reserve_the_same_texts_share_them_out() -> None:
    texts = [f"第{number}句。" for number in range(200)]
    mine: list[str] = []

    def work(name: str) -> None:
        mine.extend(cache.reserve(texts, ROUTE, name, 60.0).mine)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mine) == sorted(texts)


def test_nothing_to_reserve_is_nothing() -> None:
    assert cache.reserve([], ROUTE, "w1", 60.0) == Reserved({}, [], [])
