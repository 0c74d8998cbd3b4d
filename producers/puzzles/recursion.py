"""Recursion puzzles: a base case, a rule, and the value at some n.

    1. f(0)=2。
    2. 当n大于0时，f(n)=3×f(n-1)+1。

The trace counts upwards from the base; the solver recurses downwards from the question.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Language
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_KINDS = ("linear", "index", "parity", "sum")


@dataclass(frozen=True)
class _Texts:
    scenes: tuple[str, ...]
    fact: str
    when: dict[str, str]
    base: str
    step: str
    asks: tuple[str, ...]
    claim: str


_TEXTS = {
    "zh": _Texts(
        scenes=("有一个递归定义的函数{f}。", "某个程序递归地计算{f}(n)，n是非负整数。"),
        fact="{equation}。",
        when={
            "above 0": "当n大于0时，{equation}。",
            "above 1": "当n大于1时，{equation}。",
            "odd": "当n是奇数时，{equation}。",
            "even": "当n是大于0的偶数时，{equation}。",
        },
        base="由第{line}条，起点{equation}。",
        step="n={n}时用第{line}条，{equation}。",
        asks=("{value}的值是多少？", "按照以上规则，{value}等于多少？", "{value}的计算结果是什么？"),
        claim="有人说{value}={claimed}，这个说法正确吗？",
    ),
    "en": _Texts(
        scenes=(
            "A function {f} is defined recursively.",
            "A program computes {f}(n) recursively, where n is a non-negative integer.",
        ),
        fact="{equation}.",
        when={
            "above 0": "If n is greater than 0, then {equation}.",
            "above 1": "If n is greater than 1, then {equation}.",
            "odd": "If n is odd, then {equation}.",
            "even": "If n is even and greater than 0, then {equation}.",
        },
        base="by line {line}, the starting value is {equation}.",
        step="for n={n} we use line {line}: {equation}.",
        asks=(
            "What is the value of {value}?",
            "According to the rules above, what does {value} equal?",
            "What is the result of computing {value}?",
        ),
        claim="Someone says that {value}={claimed}. Is that statement true?",
    ),
}


@dataclass(frozen=True)
class _Function:
    kind: str
    name: str
    bases: tuple[int, ...]
    times: int
    plus: int

    def rules(self, texts: _Texts) -> list[str]:
        bases = [f"{self.name}({n})={base}" for n, base in enumerate(self.bases)]
        rules = [texts.when[when].format(equation=f"{self.name}(n)={body}") for when, body in self._bodies()]
        return [*(texts.fact.format(equation=base) for base in bases), *rules]

    def _bodies(self) -> list[tuple[str, str]]:
        f, times, plus = self.name, self.times, self.plus
        if self.kind == "linear":
            return [("above 0", f"{times}×{f}(n-1)+{plus}")]
        if self.kind == "index":
            return [("above 0", f"{f}(n-1)+{times}×n")]
        if self.kind == "sum":
            return [("above 1", f"{f}(n-1)+{f}(n-2)")]
        return [("odd", f"{f}(n-1)×{times}"), ("even", f"{f}(n-1)+{plus}")]

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


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw a function and ask for its values."""
    texts = _TEXTS[language.code]
    function = _draw(rng, difficulty)
    scene = rng.choice(texts.scenes).format(f=function.name)
    problem = statement(rng, language, scene, function.rules(texts))
    first = 2 + difficulty
    points = rng.sample(range(first, first + 3), rng.randint(1, 2))
    queries = [_ask(rng, language, function, n) for n in points]
    return puzzle(problem, queries, len(points))


def _draw(rng: Random, difficulty: int) -> _Function:
    kind = rng.choice(_KINDS)
    bases = tuple(rng.randint(0 if kind == "index" else 1, 9) for _ in range(2 if kind == "sum" else 1))
    times = rng.randint(2, 2 + difficulty // 2)
    plus = rng.choice([one for one in range(1, 8) if one != times])
    return _Function(kind, rng.choice("fghFG"), bases, times, plus)


def _ask(rng: Random, language: Language, function: _Function, n: int) -> Query | None:
    texts = _TEXTS[language.code]
    start = len(function.bases)
    slips = [_Slip(at, True, 0) for at in range(start, n + 1)]
    slips += [
        _Slip(at, False, rng.choice((-10, -2, -1, 1, 2, 10) if at > start else (-2, -1, 1, 2)))
        for at in range(n + 1)
    ]
    right, wrong = _derive(texts, function, n, None), [_derive(texts, function, n, slip) for slip in slips]
    # A negative value in between would tell.
    wrong = [chain for chain in wrong if "-" not in "".join(chain.steps)]
    answer = str(function.solve(n))
    name = f"{function.name}({n})"
    if rng.random() < 0.25:
        return question_types.claim(rng, language, texts.claim, {"value": name}, right, wrong, answer)
    ask = rng.choice(texts.asks).format(value=name)
    spare = question_types.near(rng, int(answer), rng.randint(1, 3))
    return question_types.value(ask, right, wrong, spare, answer)


def _derive(texts: _Texts, function: _Function, n: int, slip: _Slip | None) -> Chain:
    values: list[int] = []
    steps: list[str] = []
    for at in range(n + 1):
        off = slip.off if slip and slip.at == at else 0
        if at < len(function.bases):
            values.append(function.bases[at] + off)
            steps.append(texts.base.format(line=at + 1, equation=f"{function.name}({at})={values[at]}"))
            continue
        misapplied = slip is not None and slip.at == at and slip.misapplied
        formula, numbers, value = function.step(at, values, misapplied)
        # Ten off in a small number would be no subtle slip.
        values.append(value + (off if abs(off) < 10 or value >= 20 else off // 10))
        equation = f"{function.name}({at})={formula}={numbers}={values[at]}"
        steps.append(texts.step.format(n=at, line=function.rule(at, misapplied), equation=equation))
    return Chain(tuple(steps), str(values[n]))
