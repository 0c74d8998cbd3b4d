"""Phrasing of a reasoning: its opening, connectives and closing, the same for right and wrong texts.

我们一步一步来看。\n\n1. f(0)=2。\n2. f(1)=2×f(0)+1=5。\n\n结果对应选项B。\n\n答案是：B
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles.types import Chain, number

_OPENERS = (
    "我们一步一步来看。",
    "先整理题目里的条件，再逐步推理。",
    "按照题目给的信息依次推导。",
    "下面从已知条件出发来分析。",
    "我们把用得上的条件找出来，逐条推下去。",
)
_CLOSINGS = (
    "对照选项，应选{letter}。",
    "这正是选项{letter}：{result}。",
    "所以结果是“{result}”，对应选项{letter}。",
    "因此选择{letter}（{result}）。",
)
_LAYOUTS = ("numbered", "dashed", "prose", "connected")


@dataclass(frozen=True)
class Voice:
    """One phrasing of a chain."""

    opener: str
    layout: str
    closing: str

    def render(self, chain: Chain, letter: str) -> str:
        """Render a chain that ends at the option with this letter."""
        closing = self.closing.format(letter=letter, result=chain.result)
        return "\n\n".join((self.opener, self._body(chain.steps), closing, f"答案是：{letter}"))

    def _body(self, steps: tuple[str, ...]) -> str:
        if self.layout == "numbered":
            return number(steps)
        if self.layout == "dashed":
            return "\n".join(f"- {step}" for step in steps)
        if self.layout == "connected" and len(steps) == 1:
            return f"首先，{steps[0]}"
        if self.layout == "connected":
            middle = "".join(f"\n接着，{step}" for step in steps[1:-1])
            last = steps[-1].removeprefix("所以").removeprefix("，")
            return f"首先，{steps[0]}{middle}\n最后，{last}"
        return "".join(steps)


def draw(rng: Random) -> Voice:
    """Draw a phrasing."""
    return Voice(rng.choice(_OPENERS), rng.choice(_LAYOUTS), rng.choice(_CLOSINGS))
