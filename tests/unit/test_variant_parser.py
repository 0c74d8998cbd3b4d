"""What is read out of a chat model's reply that should hold a new question."""

import json
from typing import Any

import pytest

from workers.augment import variant_parser
from workers.augment.variant_parser import ParsedVariant, Unfit

GIVEN = {
    "problem": "甲比乙高。",
    "question": "谁高？",
    "options": ["甲", "乙"],
    "answer": "A",
    "reasoning": "甲比乙高。\n答案是：A",
}


def reply(**changes: Any) -> str:
    return json.dumps(GIVEN | changes, ensure_ascii=False)


def read(**changes: Any) -> ParsedVariant:
    return variant_parser.read(reply(**changes))


@pytest.mark.parametrize(
    "text",
    [
        reply(),
        f"```json\n{reply()}\n```",
        f"好的，新题如下：\n{reply()}\n希望对你有帮助 {{笑}}。",
        f"<think>先写 {{题目}}，例如 {reply(answer='B')}</think>{reply()}",
        reply().replace("\\n", "\n"),
    ],
)
def test_the_object_is_found_whatever_is_said_around_it(text: str) -> None:
    new = variant_parser.read(text)
    assert new.problem == "甲比乙高。"
    assert new.question.options == ["甲", "乙"]
    assert (new.question.answer, new.question.reasoning) == ("A", "甲比乙高。\n答案是：A")


@pytest.mark.parametrize("answer", ["A", " A ", "A.", "A. 甲", "（A）"])
def test_a_letter_may_come_with_what_models_add_to_it(answer: str) -> None:
    assert read(answer=answer).question.answer == "A"


@pytest.mark.parametrize(
    "options", [["A. 甲", "B. 乙"], ["A、甲", "B、乙"], {"A": "甲", "B": "乙"}, [" 甲 ", "乙"]]
)
def test_options_lose_their_letters(options: object) -> None:
    assert read(options=options).question.options == ["甲", "乙"]


def test_options_that_only_look_lettered_stay() -> None:
    assert read(options=["A. 甲", "C. 乙"]).question.options == ["A. 甲", "C. 乙"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problem": None}, "problem"),
        ({"problem": "  "}, "the problem or the question is empty"),
        ({"question": ""}, "the problem or the question is empty"),
        ({"question": 7}, "question"),
        ({"options": ["甲"]}, "options"),
        ({"options": "甲"}, "options"),
        ({"options": ["甲", 2]}, "options"),
        ({"options": ["甲", "甲 "]}, "two options are the same"),
        ({"options": ["甲", " "]}, "an option is empty"),
        ({"options": [str(n) for n in range(27)]}, "options"),
        ({"answer": "C"}, "answer"),
        ({"answer": "甲"}, "answer"),
        ({"answer": None}, "it has no answer"),
        ({"answer": "All"}, "answer"),
        ({"reasoning": None}, "its reasoning says no letter"),
        ({"reasoning": ["答案是：A"]}, "reasoning"),
        ({"reasoning": "乙高。\n答案是：B"}, "its answer is A, its reasoning says B"),
        ({"problem": "甲\0"}, "characters that cannot be stored"),
    ],
)
def test_what_cannot_be_used_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        read(**changes)


@pytest.mark.parametrize("text", ["", "我不会。", "{", '{"problem": "甲', "[1, 2]", "{" * 3000])
def test_a_reply_without_an_object_has_no_question(text: str) -> None:
    with pytest.raises(Unfit, match="no JSON object"):
        variant_parser.read(text)


def test_half_a_surrogate_pair_cannot_be_stored() -> None:
    with pytest.raises(Unfit, match="cannot be stored"):
        variant_parser.read(reply().replace("甲比", "\\ud83d"))
