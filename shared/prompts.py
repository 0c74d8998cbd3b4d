"""The prompts, named and versioned by digest.

    ### 题目 / ### 问题 / options / ### 推理 / reasoning, twice solved, then once open

A prompt never holds a gold answer of the question it asks. How many examples fit is the generator's to say.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shared.dataset import LETTERS

HEAD = (
    "你是一位逻辑推理专家。下面每道题都是单项选择题，只有一个选项正确。"
    "推理遵循闭世界假设：题目没有给出、也无法由已知条件推出的，一律视为假。"
    "请根据已知条件一步一步推理，最后一行只写“答案是：X”，X 是所选选项的字母。\n"
)
_CASE = "\n### 题目\n{problem}\n\n### 问题\n{question}\n{options}\n\n### 推理\n"
# The solved examples close with a line of their own, so any such line at the end of a text comes off first.
_CLOSING = re.compile(r"\s*(?:因此|所以|故)?[，,]?\s*[*]*答案是\s*[:：][^\n]*\s*$")
VERSION = hashlib.sha256((HEAD + _CASE).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Asked:
    """A question as a prompt shows it; it has no room for an answer."""

    problem: str
    question: str
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        """Give problem and question: what is embedded, and what makes two questions the same."""
        return f"{self.problem.strip()}\n{self.question.strip()}"


@dataclass(frozen=True)
class Solved:
    """A solved question: an example of how to reason."""

    asked: Asked
    reasoning: str
    answer: str


def case(asked: Asked) -> str:
    """Render problem, question and lettered options, up to where the reasoning begins."""
    options = "\n".join(
        f"{letter}. {text.strip()}" for letter, text in zip(LETTERS, asked.options, strict=False)
    )
    return _CASE.format(problem=asked.problem.strip(), question=asked.question.strip(), options=options)


def solution(solved: Solved) -> str:
    """Render a reasoning whose last line is exactly ``答案是：X``."""
    body = _CLOSING.sub("", solved.reasoning.strip())
    return f"{body}\n答案是：{solved.answer}\n"


def answering(asked: Asked, examples: Sequence[Solved] = ()) -> str:
    """Build the prompt that samples votes: head, solved examples, the question, an opening."""
    shown = "".join(case(example.asked) + solution(example) for example in examples)
    return HEAD + shown + case(asked)


def judged(asked: Asked, reasoning: str) -> str:
    """Build the text a scorer reads under ``question+reasoning``."""
    return f"{case(asked).strip()}\n{reasoning.strip()}"
