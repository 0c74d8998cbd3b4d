"""The one JSON parser and writer of data sets: nothing is lost, and what comes out is always JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import json_text
from shared.json_text import Number

SPELLINGS = ["1e999", "-1E+400", "0.10", "1.0", "1E5", "-0", "-0.0", "0.12345678901234567890", "9" * 5000]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_number_is_written_back_as_it_was_spelled(spelling: str) -> None:
    text = f'{{"x": [{spelling}, "1e999"]}}'
    assert json_text.dumps(json_text.loads(text)) == text


def test_whole_numbers_are_python_numbers() -> None:
    assert json_text.loads("[0, -17, 123456789012345678901234567890]") == [
        0,
        -17,
        123456789012345678901234567890,
    ]


@pytest.mark.parametrize("text", ["\\u0000", "\\u00001e999", "\0", '"\\u0000"'])
def test_a_text_that_looks_like_a_written_number_stays_a_text(text: str) -> None:
    # NUL itself never gets in, so only its spelling may stand in a text.
    value = {"x": text.replace("\0", "")}
    assert json.loads(json_text.dumps(value)) == value


def test_what_an_old_ledger_holds_comes_out_as_json() -> None:
    old = json_text.loads('{"x": NaN, "y": [Infinity], "z": 1, "z": 2}')
    assert json_text.dumps(old) == '{"x": null, "y": [null], "z": 2}'


def test_a_value_that_has_no_json_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="set has no JSON"):
        json_text.dumps({"x": {1}})


DEEP = json_text.DEEPEST


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ('{"a": [1, NaN]}', "a[1]", "NaN is no JSON number: write null or a number"),
        ('{"a": {"b": -Infinity}}', "a.b", "-Infinity is no JSON number: write null or a number"),
        ('{"a": 1, "a": 1}', "", 'the field "a" stands twice in this object: take one out'),
        (
            '{"x": [{"甲": 1, "b": 2, "甲": 3}]}',
            "x[0]",
            'the field "甲" stands twice in this object: take one out',
        ),
        ('{"a": "\\ud800"}', "a", "the character '\\ud800' cannot be stored: take it out"),
        ('{"a": {"\\u0000": 1}}', "a", "the character '\\x00' cannot be stored: take it out"),
        (
            "[" * (DEEP + 1) + "]" * (DEEP + 1),
            "[0]" * 13 + "[…",
            f"nested deeper than {DEEP} levels: write it flatter",
        ),
    ],
)
def test_what_a_new_text_may_not_hold_is_named_with_its_place(text: str, where: str, problem: str) -> None:
    found = json_text.flaw(json_text.loads(text))
    assert found is not None
    assert found[0] == where
    assert found[1].startswith(problem)


def test_a_hundred_levels_are_good() -> None:
    assert json_text.flaw(json_text.loads("[" * DEEP + "]" * DEEP)) is None


def test_pairs_of_surrogates_are_characters() -> None:
    assert json_text.flaw(json_text.loads('"\\ud83d\\ude00 😀"')) is None


SCALARS = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="\0"))
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_characters="\0")), inner),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_comes_back(value: Any) -> None:
    text = json.dumps(value)
    assert json.loads(json_text.dumps(json_text.loads(text))) == value


def test_a_number_out_of_range_is_no_python_number() -> None:
    assert json_text.loads("1e999") == Number("1e999")
    assert math.isinf(json.loads("1e999"))


@pytest.mark.parametrize(
    ("text", "cut", "said"),
    [
        ('{"id": "p1"', True, "not JSON, it breaks off: the file was cut short, get the whole of it"),
        ('{"id": "p', True, "not JSON, it breaks off: the file was cut short, get the whole of it"),
        ('{"id": 1},', False, "not JSON: take the comma after the object away, each line stands alone"),
        ("{'id': 1}", False, "not JSON but Python's own notation: write it with json.dumps"),
        ('{"id": x}', True, "not JSON: Expecting value at column 8, found 'x}'"),
    ],
)
def test_a_broken_line_is_explained(text: str, cut: bool, said: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json_text.loads(text)
    assert json_text.broken(caught.value, cut=cut) == said
