"""List puzzles: apply numbered operations to a list, in order.

    列表是[3, 1, 2]：1. 删去第一个数。 2. 按从小到大排序。

Each operation has a mirror image (first and last, up and down); a slip does the mirror's work under its
own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Count, Language
from producers.puzzles.types import Chain, Puzzle, Query, number, puzzle

_Change = Callable[[list[int]], list[int]]


@dataclass(frozen=True)
class _Texts:
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    operations: tuple[tuple[str, str], ...]
    """The names of the pairs of `_operation`, in its order."""
    after_all: str
    after_step: str
    asks: dict[str, str]
    start: str
    step: str
    place: str
    sum: str


_TEXTS = {
    "zh": _Texts(
        openings=(
            "有一个列表{list}，对它依次执行以下操作：",
            "一个程序读入列表{list}，然后按顺序执行下面的操作：",
        ),
        closings=("根据以上信息，回答以下选择题：", "请根据上述操作，回答以下选择题："),
        operations=(
            ("删去第一个数", "删去最后一个数"),
            ("按从小到大排序", "按从大到小排序"),
            ("在末尾加上{amount}", "在开头加上{amount}"),
            ("把第一个数移到末尾", "把最后一个数移到开头"),
            ("把整个列表倒过来", "交换第一个数和最后一个数"),
            ("把每个奇数加上{amount}", "把每个偶数加上{amount}"),
        ),
        after_all="全部操作完成后",
        after_step="完成第{step}步操作后",
        asks={
            "list": "{moment}，列表变成了什么？",
            "place": "{moment}，列表的第{place}个数是多少？",
            "sum": "{moment}，列表中所有数的和是多少？",
        },
        start="开始时列表是{list}。",
        step="第{step}步{operation}，得到{list}。",
        place="这时第{place}个数是{result}。",
        sum="把它们相加：{terms}={result}。",
    ),
    "en": _Texts(
        openings=(
            "Take the list {list} and carry out these operations on it in order:",
            "A program reads the list {list} and then carries out the following operations in order:",
        ),
        closings=(
            "Use this information to answer the following multiple-choice question:",
            "Carry out the operations above to answer the following multiple-choice question:",
        ),
        operations=(
            ("remove the first number", "remove the last number"),
            ("sort the numbers from smallest to largest", "sort the numbers from largest to smallest"),
            ("insert {amount} at the end", "insert {amount} at the beginning"),
            ("move the first number to the end", "move the last number to the beginning"),
            ("reverse the whole list", "swap the first and the last numbers"),
            ("increase each odd number by {amount}", "increase each even number by {amount}"),
        ),
        after_all="After all the operations",
        after_step="After step {step}",
        asks={
            "list": "{moment}, what is the list?",
            "place": "{moment}, what is the {place:th} number in the list?",
            "sum": "{moment}, what is the sum of all the numbers in the list?",
        },
        start="the list is {list} at the start.",
        step="step {step} is to {operation}, which gives {list}.",
        place="the {place:th} number is now {result}.",
        sum="adding them up gives {terms}={result}.",
    ),
}


@dataclass(frozen=True)
class _Operation:
    name: str
    change: _Change
    mirror: _Change


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw a list and operations, and ask for the result."""
    texts = _TEXTS[language.code]
    numbers = [rng.randint(1, 20) for _ in range(4 + difficulty)]
    operations = [_operation(rng, texts, pair) for pair in rng.sample(range(6), 2 + difficulty)]
    opening, closing = rng.choice(texts.openings), rng.choice(texts.closings)
    names = [language.sentence(operation.name) + language.stop for operation in operations]
    problem = "\n\n".join((opening.format(list=_show(numbers)), number(names), closing))
    wanted = rng.randint(1, 2)
    return puzzle(problem, [_ask(rng, texts, numbers, operations) for _ in range(wanted * 3)], wanted)


def _operation(rng: Random, texts: _Texts, pair: int) -> _Operation:
    """Build one half of a mirrored pair, so that each half is as often done rightly as done by mistake."""
    amount = rng.randint(2, 9)
    pairs: list[tuple[_Change, _Change]] = [
        (lambda xs: xs[1:], lambda xs: xs[:-1]),
        (sorted, lambda xs: sorted(xs, reverse=True)),
        (lambda xs: [*xs, amount], lambda xs: [amount, *xs]),
        (lambda xs: xs[1:] + xs[:1], lambda xs: xs[-1:] + xs[:-1]),
        (lambda xs: xs[::-1], lambda xs: xs[-1:] + xs[1:-1] + xs[:1]),
        (
            lambda xs: [one + amount * (one % 2) for one in xs],
            lambda xs: [one + amount * (one % 2 == 0) for one in xs],
        ),
    ]
    halves = list(zip(texts.operations[pair], pairs[pair], strict=True))
    (name, change), (_, mirror) = rng.sample(halves, 2)
    return _Operation(name.format(amount=amount), change, mirror)


def _ask(rng: Random, texts: _Texts, numbers: list[int], operations: list[_Operation]) -> Query | None:
    upto = rng.choice((len(operations), len(operations), len(operations) - 1))
    chosen = operations[:upto]
    moment = texts.after_all if upto == len(operations) else texts.after_step.format(step=upto)
    solved = numbers
    for operation in chosen:
        solved = operation.change(solved)
    traces = [_trace(texts, numbers, chosen, slip) for slip in (None, *range(upto))]
    kind = rng.choice(("list", "list", "place", "sum"))
    place = rng.randrange(len(solved))
    ends = [_end(texts, steps, final, kind, place) for steps, final in traces]
    answer = _read(solved, kind, place)
    ask = texts.asks[kind].format(moment=moment, place=Count(place + 1))
    return question_types.value(ask, ends[0], ends[1:], _spare(rng, solved, kind), answer)


def _trace(
    texts: _Texts, numbers: list[int], operations: list[_Operation], slip: int | None
) -> tuple[tuple[str, ...], list[int]]:
    steps = [texts.start.format(list=_show(numbers))]
    for place, operation in enumerate(operations):
        numbers = (operation.mirror if place == slip else operation.change)(numbers)
        steps.append(texts.step.format(step=place + 1, operation=operation.name, list=_show(numbers)))
    return tuple(steps), numbers


def _end(texts: _Texts, steps: tuple[str, ...], final: list[int], kind: str, place: int) -> Chain:
    result = _read(final, kind, place)
    if kind == "place":
        return Chain((*steps, texts.place.format(place=Count(place + 1), result=result)), result)
    if kind == "sum":
        return Chain((*steps, texts.sum.format(terms="+".join(map(str, final)), result=result)), result)
    return Chain(steps, result)


def _read(final: list[int], kind: str, place: int) -> str:
    if kind == "list":
        return _show(final)
    return str(final[place] if kind == "place" else sum(final))


def _spare(rng: Random, solved: list[int], kind: str) -> list[str]:
    if kind == "sum":
        return question_types.near(rng, sum(solved))
    if kind == "place":
        return [str(one) for one in rng.sample(solved, len(solved))]
    return [_show(rng.sample(solved, len(solved))) for _ in range(4)]


def _show(numbers: list[int]) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
