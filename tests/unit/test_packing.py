"""Texts into calls: never over a limit, none lost, few calls; several lines as one text and back."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Unreadable
from shared.providers import Limits
from tests.fakes import FakeTranslator
from workers.augment.packing import Carrier, pack
from workers.ports import Translated

BATCH = Limits(characters=2000, texts=100)
ONE_TEXT = Limits(characters=20, texts=1)
texts_of = st.lists(st.text("甲乙a1", min_size=1, max_size=60), max_size=60, unique=True)


@given(texts_of, st.integers(60, 200), st.integers(1, 9), st.integers(0, 1))
def test_no_call_is_over_a_limit_and_no_text_is_lost(
    texts: list[str], characters: int, most: int, gap: int
) -> None:
    packs = pack(texts, Limits(characters=characters, texts=most), gap)
    assert Counter(text for texts in packs for text in texts) == Counter(texts)
    for texts in packs:
        assert 1 <= len(texts) <= most
        assert sum(map(len, texts)) + gap * (len(texts) - 1) <= characters


@given(texts_of, st.integers(60, 200))
def test_no_two_calls_could_have_been_one(texts: list[str], characters: int) -> None:
    sizes = [sum(map(len, texts)) for texts in pack(texts, Limits(characters=characters))]
    for place, size in enumerate(sizes):
        assert all(size + other > characters for other in sizes[place + 1 :])


def test_without_limits_everything_is_one_call() -> None:
    assert pack(["甲", "乙" * 9000], Limits()) == [["乙" * 9000, "甲"]]
    assert pack([], BATCH) == []


def test_a_text_that_is_too_long_goes_alone() -> None:
    assert pack(["甲" * 3000, "乙"], BATCH) == [["甲" * 3000], ["乙"]]


def test_a_service_of_one_text_a_call_gets_several_as_lines() -> None:
    translator = FakeTranslator(lambda text, *_: text.replace("甲", "A"), limits=ONE_TEXT)
    carrier = Carrier(translator)
    assert carrier.pack(["甲" * 10, "乙" * 9, "丙"]) == [["甲" * 10, "乙" * 9], ["丙"]]
    assert carrier.translate(["甲", "乙", "丙"], "zh", "ja").texts == ["A", "乙", "丙"]
    assert [call.texts for call in translator.calls] == [["甲\n乙\n丙"]]


def test_a_prompted_model_that_is_given_one_text_a_call_gets_one() -> None:
    translator = FakeTranslator(limits=ONE_TEXT)
    carrier = Carrier(translator, prompted=True)
    assert carrier.pack(["甲", "乙"]) == [["甲"], ["乙"]]
    assert carrier.service.limits == ONE_TEXT


def test_blank_lines_between_translations_are_no_translations() -> None:
    carrier = Carrier(FakeTranslator(lambda text, *_: text.replace("\n", "\n\n") + "\n", limits=ONE_TEXT))
    assert carrier.translate(["甲", "乙"], "zh", "ja").texts == ["甲", "乙"]


@pytest.mark.parametrize("reply", ["甲", "甲\n乙\n丙", ""])
def test_lines_that_do_not_come_back_one_for_one_are_unreadable(reply: str) -> None:
    carrier = Carrier(FakeTranslator(lambda *_: reply, limits=ONE_TEXT))
    with pytest.raises(Unreadable, match=r"2 texts were sent, and \d came back"):
        carrier.translate(["甲", "乙"], "zh", "ja")


@pytest.mark.parametrize("limits", [BATCH, ONE_TEXT])
def test_an_empty_translation_is_unreadable(limits: Limits) -> None:
    carrier = Carrier(FakeTranslator(lambda *_: " \n", limits=limits))
    with pytest.raises(Unreadable, match="empty: that of '甲'"):
        carrier.translate(["甲"], "zh", "ja")


def test_a_wrong_number_of_translations_is_unreadable() -> None:
    class Short(FakeTranslator):
        def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
            return super().translate(texts[1:], source, target)

    with pytest.raises(Unreadable, match=r"2 texts were sent, and \d came back"):
        Carrier(Short()).translate(["甲", "乙"], "zh", "ja")


def test_a_translation_has_no_line_breaks_of_its_own() -> None:
    carrier = Carrier(FakeTranslator(lambda text, *_: f" {text}，\n {text}。\n", limits=BATCH))
    assert carrier.translate(["甲"], "zh", "ja").texts == ["甲， 甲。"]
