"""Recursion puzzles: a base case, a rule, and the value at some n.

    1. f(0)=2。
    2. 当n大于0时，f(n)=3×f(n-1)+1。

The trace counts upwards from the base; the solver recurses downwards from the question.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_KINDS = ("linear", "index", "parity", "sum")


@dataclass(frozen=True)
class _Function:
    kind: str
    name: str
    bases: tuple[int, ...]
    times: int
    plus: int

    def rules(self) -> list[str]:
        f, times, plus = self.name, self.times, self.plus
        lines = [f"{f}({n})={base}。" for n, base in enumerate(self.bases)]
        if self.kind == "linear":
            return [*lines, f"当n大于0时，{f}(n)={times}×{f}(n-1)+{plus}。"]
        if self.kind == "index":
            return [*lines, f"当n大于0时，{f}(n)={f}(n-1)+{times}×n。"]
        if self.kind == "sum":
            return [*lines, f"当n大于1时，{f}(n)={f}(n-1)+{f}(n-2)。"]
        odd = f"当n是奇数时，{f}(n)={f}(n-1)×{times}。"
        return [*lines, odd, f"当n是大于0的偶数时，{f}(n)={f}(n-1)+{plus}。"]

    def rule(self, n: int, misapplied: bool) -> int:
        """Return the number of the rule a step goes by."""
        even = self.kind == "parity" and (n % 2 == 0) != misapplied
        return len(self.bases) + (2 if even else 1)

    def solve(self, n: int) -> int:
        if n < len(self.bases):
            return self.bases[n]
        before = self.solve(n - 1)
        if self.kind == "sum":
            return before + self.solve(n - 2)
        if self.kind == "index":
            return before + self.times * n
        if self.kind == "linear":
            return self.times * before + self.plus
        return before * self.times if n % 2 else before + self.plus

    def step(self, n: int, values: list[int], misapplied: bool) -> tuple[str, str, int]:
        """Return the formula, the formula in numbers, its value; misapplied, a near rule's."""
        f, times, plus, last = self.name, self.times, self.plus, values[n - 1]
        if self.kind == "linear":
            if misapplied:
                times, plus = plus, times
            return f"{times}×{f}({n - 1})+{plus}", f"{times}×{last}+{plus}", times * last + plus
        if self.kind == "index":
            factor = n + (n % 2 * 2 - 1 if misapplied else 0)
            return f"{f}({n - 1})+{times}×{factor}", f"{last}+{times}×{factor}", last + times * factor
        if self.kind == "sum":
            other = n - 2 if not misapplied else max(n - 3, 0)
            value = last + values[other]
            return f"{f}({n - 1})+{f}({other})", f"{last}+{values[other]}", value
        if (n % 2 == 1) != misapplied:
            return f"{f}({n - 1})×{times}", f"{last}×{times}", last * times
        return f"{f}({n - 1})+{plus}", f"{last}+{plus}", last + plus


@dataclass(frozen=True)
class _Slip:
    at: int
    misapplied: bool
    off: int


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw a function and ask for its values."""
    function = _draw(rng, difficulty)
    scenes = (
        f"有一个递归定义的函数{function.name}。",
        f"某个程序递归地计算{function.name}(n)，n是非负整数。",
    )
    problem = statement(rng, rng.choice(scenes), function.rules())
    first = 2 + difficulty
    points = rng.sample(range(first, first + 3), rng.randint(1, 2))
    queries = [_ask(rng, function, n) for n in points]
    return puzzle(problem, queries, len(points))


def _draw(rng: Random, difficulty: int) -> _Function:
    kind = rng.choice(_KINDS)
    bases = tuple(rng.randint(0 if kind == "index" else 1, 9) for _ in range(2 if kind == "sum" else 1))
    times = rng.randint(2, 2 + difficulty // 2)
    plus = rng.choice([one for one in range(1, 8) if one != times])
    return _Function(kind, rng.choice("fghFG"), bases, times, plus)


def _ask(rng: Random, function: _Function, n: int) -> Query | None:
    start = len(function.bases)
    slips = [_Slip(at, True, 0) for at in range(start, n + 1)]
    slips += [
        _Slip(at, False, rng.choice((-10, -2, -1, 1, 2, 10) if at > start else (-2, -1, 1, 2)))
        for at in range(n + 1)
    ]
    right = _derive(function, n, None)
    wrong = [
        chain for chain in (_derive(function, n, slip) for slip in slips) if "-" not in "".join(chain.steps)
    ]
    answer = str(function.solve(n))
    name = f"{function.name}({n})"
    if rng.random() < 0.25:
        return question_types.claim(rng, f"有人说{name}={{}}，这个说法正确吗？", right, wrong, answer)
    ask = rng.choice((f"{name}的值是多少？", f"按照以上规则，{name}等于多少？", f"{name}的计算结果是什么？"))
    return question_types.value(
        ask, right, wrong, question_types.near(rng, int(answer), rng.randint(1, 3)), answer
    )


def _derive(function: _Function, n: int, slip: _Slip | None) -> Chain:
    values: list[int] = []
    steps: list[str] = []
    for at in range(n + 1):
        off = slip.off if slip and slip.at == at else 0
        if at < len(function.bases):
            values.append(function.bases[at] + off)
            steps.append(f"由第{at + 1}条，起点{function.name}({at})={values[at]}。")
            continue
        misapplied = slip is not None and slip.at == at and slip.misapplied
        formula, numbers, value = function.step(at, values, misapplied)
        # Ten off in a small number would be no subtle slip.
        values.append(value + (off if abs(off) < 10 or value >= 20 else off // 10))
        rule = function.rule(at, misapplied)
        steps.append(f"n={at}时用第{rule}条，{function.name}({at})={formula}={numbers}={values[at]}。")
    return Chain(tuple(steps), str(values[n]))
