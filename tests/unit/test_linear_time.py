"""No reader of model text takes more than its length: a slow one holds the interpreter until leases lapse.

The time of the thread is measured, so that a busy machine does not matter.
"""

import contextlib
import time
from collections.abc import Callable

import pytest

from shared import answers, conclusion_reader, prompts, segments
from shared.errors import VotequeueError
from shared.prompts import FewShotExample, PromptQuestion
from workers.augment import checks, synonyms, variant_parser
from workers.augment.checks import Bounds
from workers.providers import prompted

SHORT, LONG = 8_000, 64_000
# Texts that a careless pattern takes the square of their length for
PATHOLOGICAL: dict[str, Callable[[int], str]] = {
    "blanks": lambda n: "答案是：" + " " * n,
    "line breaks": lambda n: "答案是：" + "\n" * n + "甲",
    "stars": lambda n: "答案是：" + "*" * n,
    "markers": lambda n: "答案是" * (n // 3),
    "markers with colons": lambda n: "答案是：" * (n // 4),
    "taken back": lambda n: "答案是：A，但" * (n // 7),
    "alternatives": lambda n: "答案是：" + "A或" * (n // 2),
    "an answer and many problems": lambda n: "题目：\n" + "答案是：A。" * (n // 6),
    "English markers": lambda n: "the final answer is " * (n // 20),
    "verbs": lambda n: "因此我们应该选" * (n // 7),
    "gaps": lambda n: "答案是" + "选项 " * (n // 3),
    "boxes": lambda n: "\\boxed{" * (n // 7),
    "brackets": lambda n: "答案是：" + "(" * n,
    "closing brackets": lambda n: "答案是：B" + ")" * n,
    "thoughts": lambda n: "<think>" * (n // 7),
    "ends of thoughts": lambda n: "</think>" * (n // 8),
    "tags": lambda n: "<b " * (n // 3),
    "backslashes": lambda n: "\\" * n,
    "objects": lambda n: "{" * n,
    "nested objects": lambda n: '{"answer":' * (n // 10),
    "unclosed strings": lambda n: '{"answer": "' + "x" * n,
    "fences": lambda n: "```json\n{" * (n // 9),
    "letters": lambda n: "A " * (n // 2),
    "lines of options": lambda n: "A. x\n" * (n // 5),
    "table": lambda n: "| " * (n // 2),
    "quotes": lambda n: "“" * n,
    "nested arrays": lambda n: "[" * n,
    "arrays": lambda n: '["' * (n // 2),
    "rules": lambda n: "---\n" * (n // 4),
    "statements": lambda n: "答案是：B\n" * (n // 6),
}

READERS: dict[str, Callable[[str], object]] = {
    "reference": lambda text: answers.extract(text, 4, answers.REFERENCE),
    "completion": answers.READERS[answers.CONCLUSION].cut,
    "example": lambda text: prompts.bare_reasoning(FewShotExample(PromptQuestion("甲", "乙", ()), text, "A")),
    "variant": variant_parser.read,
    "translations": lambda text: prompted.read(text, 1),
    "segments": lambda text: segments.split(text, "zh", 2_000),
    "checks": lambda text: checks.problem(text, text, Bounds("zh", 0.5, 2.0)),
    "quotes": synonyms.QUOTED.findall,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_a_conclusion_takes_no_longer_than_its_text(name: str) -> None:
    assert_linear(lambda size: seconds(conclusion_reader.letter, PATHOLOGICAL[name](size)))


@pytest.mark.parametrize("reader", READERS)
def test_no_other_reader_takes_longer_than_its_texts(reader: str) -> None:
    def all_texts(size: int) -> float:
        return sum(seconds(READERS[reader], text(size)) for text in PATHOLOGICAL.values())

    assert_linear(all_texts)


def test_a_text_as_long_as_votes_can_be_is_read_at_once() -> None:
    assert seconds(conclusion_reader.letter, "答案是：" + " " * 131_000) < 1.0


def assert_linear(measured: Callable[[int], float]) -> None:
    """Compare eight times the length: 8 times as long if reading is linear, 64 times if it is quadratic."""
    # The fastest of some: what else the machine does makes a measurement longer, never shorter.
    short, long = (min(measured(size) for _ in range(3)) for size in (SHORT, LONG))
    assert long < 24 * max(short, 0.005)


def seconds(read: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    with contextlib.suppress(VotequeueError):
        read(text)
    return time.thread_time() - began
