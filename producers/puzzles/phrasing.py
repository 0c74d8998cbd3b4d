"""Phrasing of a reasoning: its opening, connectives and closing, the same for right and wrong texts.

我们一步一步来看。\n\n1. f(0)=2。\n2. f(1)=2×f(0)+1=5。\n\n结果对应选项B。\n\n答案是：B

Steps are written as they stand within a sentence; a step that begins one gets its capital here.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles.languages import Language
from producers.puzzles.types import Chain, number

_LAYOUTS = ("numbered", "dashed", "prose", "connected")


@dataclass(frozen=True)
class _Phrases:
    openers: tuple[str, ...]
    closings: tuple[str, ...]
    first: str
    then: str
    last: str
    so: tuple[str, ...]
    """What a step may begin with, but not after `last`."""
    answer: str


_PHRASES = {
    "zh": _Phrases(
        openers=(
            "我们一步一步来看。",
            "先整理题目里的条件，再逐步推理。",
            "按照题目给的信息依次推导。",
            "下面从已知条件出发来分析。",
            "我们把用得上的条件找出来，逐条推下去。",
        ),
        closings=(
            "对照选项，应选{letter}。",
            "这正是选项{letter}：{result}。",
            "所以结果是“{result}”，对应选项{letter}。",
            "因此选择{letter}（{result}）。",
        ),
        first="首先，",
        then="接着，",
        last="最后，",
        so=("所以", "，"),
        answer="答案是：{letter}",
    ),
    "en": _Phrases(
        openers=(
            "Let us take this step by step.",
            "We put the conditions of the problem in order and then reason step by step.",
            "We follow the information in the problem from one step to the next.",
            "Let us start from what is known.",
            "We look for the conditions that we need and work through them one by one.",
        ),
        closings=(
            "Among the options, this is {letter}.",
            "This is exactly option {letter}: {result}.",
            "So the result is “{result}”, which is option {letter}.",
            "Therefore we choose {letter} ({result}).",
        ),
        first="First, ",
        then="Next, ",
        last="Finally, ",
        so=("so ",),
        answer="The answer is: {letter}",
    ),
}


@dataclass(frozen=True)
class Voice:
    """One phrasing of a chain."""

    language: Language
    opener: str
    layout: str
    closing: str

    def render(self, chain: Chain, letter: str) -> str:
        """Render a chain that ends at the option with this letter."""
        closing = self.closing.format(letter=letter, result=chain.result)
        answer = _PHRASES[self.language.code].answer.format(letter=letter)
        return "\n\n".join((self.opener, self._body(chain.steps), closing, answer))

    def _body(self, steps: tuple[str, ...]) -> str:
        if self.layout == "connected":
            return self._connected(steps)
        sentences = [self.language.sentence(step) for step in steps]
        if self.layout == "numbered":
            return number(sentences)
        if self.layout == "dashed":
            return "\n".join(f"- {sentence}" for sentence in sentences)
        return self.language.space.join(sentences)

    def _connected(self, steps: tuple[str, ...]) -> str:
        phrases = _PHRASES[self.language.code]
        if len(steps) == 1:
            return phrases.first + steps[0]
        last = steps[-1]
        for so in phrases.so:
            last = last.removeprefix(so)
        middle = (phrases.then + step for step in steps[1:-1])
        return "\n".join((phrases.first + steps[0], *middle, phrases.last + last))


def draw(rng: Random, language: Language) -> Voice:
    """Draw a phrasing."""
    phrases = _PHRASES[language.code]
    return Voice(language, rng.choice(phrases.openers), rng.choice(_LAYOUTS), rng.choice(phrases.closings))
