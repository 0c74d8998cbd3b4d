"""What a text says once its thinking is taken out."""

import pytest

from shared import thinking


@pytest.mark.parametrize(
    "text",
    [
        "<think>也许是A</think>甲高。",
        "<think>\n也许是A\n</think>\n\n甲高。\n",
        "也许是A</think>甲高。",
        "<THINK>也许是A</THINK>甲高。",
        "<thinking>也许是A</thinking>甲高。",
        "< think >也许是A< /think >甲高。",
        "<thought>也许是A</thought>甲高。",
        "<|begin_of_thought|>也许是A<|end_of_thought|>甲高。",
        "<|START_THINKING|>也许是A<|END_THINKING|>甲高。",
        "[THINK]也许是A[/THINK]甲高。",
        "◁think▷也许是A◁/think▷甲高。",
        "<|channel|>analysis<|message|>也许是A<|channel|>final<|message|>甲高。",
        "<think>先<think>试A</think>再试B</think>甲高。",
        "<think>一<think>二</think>甲高。",
        "<think></think>甲高。",
        "甲高。<think>也许是A",
        "甲<think>一</think>高<think>二</think>。",
        "甲高。",
    ],
)
def test_thinking_is_taken_out(text: str) -> None:
    assert thinking.strip(text) == "甲高。"


@pytest.mark.parametrize("text", ["", " \n", "<think>也许是A", "<think>也许是A</think>", "也许是A</think>"])
def test_a_text_that_only_thinks_says_nothing(text: str) -> None:
    assert thinking.strip(text) == ""


@pytest.mark.parametrize("text", ["甲 < 乙", "<b>甲</b>", "think about it", "<thinker>甲</thinker>"])
def test_what_is_no_thinking_stays(text: str) -> None:
    assert thinking.strip(text) == text
