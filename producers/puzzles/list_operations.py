"""List puzzles: apply numbered operations to a list, in order.

    列表是[3, 1, 2]：1. 删去第一个数。 2. 按从小到大排序。

Each operation has a mirror image (first and last, up and down); a slip does the mirror's work under its
own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.types import Chain, Puzzle, Query, number, puzzle

_Change = Callable[[list[int]], list[int]]


@dataclass(frozen=True)
class _Operation:
    name: str
    change: _Change
    mirror: _Change


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw a list and operations, and ask for the result."""
    numbers = [rng.randint(1, 20) for _ in range(4 + difficulty)]
    operations = [_operation(rng, pair) for pair in rng.sample(range(6), 2 + difficulty)]
    opening = rng.choice(
        ("有一个列表{}，对它依次执行以下操作：", "一个程序读入列表{}，然后按顺序执行下面的操作：")
    )
    closing = rng.choice(("根据以上信息，回答以下选择题：", "请根据上述操作，回答以下选择题："))
    names = [f"{operation.name}。" for operation in operations]
    problem = "\n\n".join((opening.format(_show(numbers)), number(names), closing))
    wanted = rng.randint(1, 2)
    return puzzle(problem, [_ask(rng, numbers, operations) for _ in range(wanted * 3)], wanted)


def _operation(rng: Random, pair: int) -> _Operation:
    """Build one half of a mirrored pair, so that each half is as often done rightly as done by mistake."""
    amount = rng.randint(2, 9)
    pairs: list[tuple[tuple[str, _Change], tuple[str, _Change]]] = [
        (("删去第一个数", lambda xs: xs[1:]), ("删去最后一个数", lambda xs: xs[:-1])),
        (("按从小到大排序", sorted), ("按从大到小排序", lambda xs: sorted(xs, reverse=True))),
        (
            (f"在末尾加上{amount}", lambda xs: [*xs, amount]),
            (f"在开头加上{amount}", lambda xs: [amount, *xs]),
        ),
        (
            ("把第一个数移到末尾", lambda xs: xs[1:] + xs[:1]),
            ("把最后一个数移到开头", lambda xs: xs[-1:] + xs[:-1]),
        ),
        (
            ("把整个列表倒过来", lambda xs: xs[::-1]),
            ("交换第一个数和最后一个数", lambda xs: xs[-1:] + xs[1:-1] + xs[:1]),
        ),
        (
            (f"把每个奇数加上{amount}", lambda xs: [one + amount * (one % 2) for one in xs]),
            (f"把每个偶数加上{amount}", lambda xs: [one + amount * (one % 2 == 0) for one in xs]),
        ),
    ]
    (name, change), (_, mirror) = rng.sample(pairs[pair], 2)
    return _Operation(name, change, mirror)


def _ask(rng: Random, numbers: list[int], operations: list[_Operation]) -> Query | None:
    upto = rng.choice((len(operations), len(operations), len(operations) - 1))
    chosen = operations[:upto]
    moment = "全部操作完成后" if upto == len(operations) else f"完成第{upto}步操作后"
    solved = numbers
    for operation in chosen:
        solved = operation.change(solved)
    traces = [_trace(numbers, chosen, slip) for slip in (None, *range(upto))]
    kind = rng.choice(("list", "list", "place", "sum"))
    place = rng.randrange(len(solved))
    ends = [_end(steps, final, kind, place) for steps, final in traces]
    answer = _read(solved, kind, place)
    ask = {
        "list": f"{moment}，列表变成了什么？",
        "place": f"{moment}，列表的第{place + 1}个数是多少？",
        "sum": f"{moment}，列表中所有数的和是多少？",
    }[kind]
    return question_types.value(ask, ends[0], ends[1:], _spare(rng, solved, kind), answer)


def _trace(
    numbers: list[int], operations: list[_Operation], slip: int | None
) -> tuple[tuple[str, ...], list[int]]:
    steps = [f"开始时列表是{_show(numbers)}。"]
    for place, operation in enumerate(operations):
        numbers = (operation.mirror if place == slip else operation.change)(numbers)
        steps.append(f"第{place + 1}步{operation.name}，得到{_show(numbers)}。")
    return tuple(steps), numbers


def _end(steps: tuple[str, ...], final: list[int], kind: str, place: int) -> Chain:
    result = _read(final, kind, place)
    if kind == "place":
        return Chain((*steps, f"这时第{place + 1}个数是{result}。"), result)
    if kind == "sum":
        return Chain((*steps, f"把它们相加：{'+'.join(map(str, final))}={result}。"), result)
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
