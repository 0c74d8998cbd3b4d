"""Which JSON values are found in a text, and how long that takes."""

import pytest

from shared import json_text


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('好的：{"a": {"b": 2}} 完 {笑} {"c": "x\ny"}', [{"a": {"b": 2}}, {"c": "x\ny"}]),
        ('{ 说: {"a": 1}}', [{"a": 1}]),
        ('{"a": 1, {"b": 2}', [{"b": 2}]),
        ('{"a": "没有完', []),
        ("没有", []),
        ("", []),
        ('{"a":' * 20_000, []),
        ('{"a": ' + "1" * 5_000 + '} {"b": 2}', [{"b": 2}]),
    ],
)
def test_the_outermost_objects_are_found(text: str, values: list[object]) -> None:
    assert [found.value for found in json_text.find(text, "{")] == values


def test_arrays_are_found_with_their_places() -> None:
    (found,) = json_text.find('译文：["甲", "乙"]。', "[")
    assert (found.start, found.end, found.value) == (3, 13, ["甲", "乙"])
