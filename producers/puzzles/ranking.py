"""Ranking puzzles: an order that is fixed by clues, one person at a time.

    小红排第2名。 小明紧挨在小红前面。 小刚比小明靠后2名。

The trace follows the clues; the solver tries every order and wants exactly one that fits.
"""

from dataclasses import dataclass
from itertools import permutations
from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_SCENES = (
    ("{}参加了一场跑步比赛，没有并列名次", "名"),
    ("{}参加了一次书法比赛，名次各不相同", "名"),
    ("{}排成一队买票，一个跟着一个", "位"),
)


@dataclass(frozen=True)
class _Clue:
    """Person `who` is `away` places behind (negative: before) `other`; without `other`, at place `away`."""

    who: int
    other: int | None
    away: int

    def render(self, names: list[str], unit: str) -> str:
        who = names[self.who]
        if self.other is None:
            return f"{who}是第{self.away}{unit}"
        side = "后" if self.away > 0 else "前"
        other = names[self.other]
        if abs(self.away) == 1:
            return f"{who}排在{other}{side}面，而且紧挨着{other}"
        return f"{who}排在{other}{side}面，两人之间隔着{abs(self.away) - 1}个人"

    def fits(self, order: tuple[int, ...]) -> bool:
        reference = 0 if self.other is None else order[self.other]
        return order[self.who] == reference + self.away


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw an order and clues that leave no other, and ask about places."""
    count = 3 + difficulty
    names = name_lists.people(rng, count)
    order = rng.sample(range(1, count + 1), count)
    clues = _clues(rng, order)
    models = [some for some in permutations(range(1, count + 1)) if all(clue.fits(some) for clue in clues)]
    if models != [tuple(order)]:
        return None
    scene, unit = rng.choice(_SCENES)
    listed = rng.sample(clues, len(clues))
    lines = [f"{clue.render(names, unit)}。" for clue in listed]
    problem = statement(rng, scene.format("、".join(names)) + "。", lines)
    numbers = {clue: place for place, clue in enumerate(listed, 1)}
    traces = [_trace(names, unit, clues, numbers, slip) for slip in _slips(clues)]
    if traces[0] is None or len(traces) < 2:
        return None
    wanted = rng.randint(1, 2)
    fair = [trace for trace in traces if trace]
    queries = [_ask(rng, names, unit, fair, models[0]) for _ in range(wanted * 4)]
    return puzzle(problem, queries, wanted)


def _clues(rng: Random, order: list[int]) -> list[_Clue]:
    """Pin the first person, then each next one against somebody known; the last is what is left over."""
    turn = rng.sample(range(len(order)), len(order))
    clues = [_Clue(turn[0], None, order[turn[0]])]
    for place, who in enumerate(turn[1:-1], 1):
        other = rng.choice(turn[:place])
        clues.append(_Clue(who, other, order[who] - order[other]))
    return clues


def _slips(clues: list[_Clue]) -> list[tuple[int, _Clue] | None]:
    """No slip first; then each clue read the other way round or one place off."""
    slips: list[tuple[int, _Clue] | None] = [None]
    for place, clue in enumerate(clues):
        if clue.other is not None:
            slips.append((place, _Clue(clue.who, clue.other, -clue.away)))
        slips += [(place, _Clue(clue.who, clue.other, clue.away + off)) for off in (-1, 1)]
    return slips


Trace = tuple[tuple[str, ...], tuple[int, ...]]


def _trace(
    names: list[str], unit: str, clues: list[_Clue], numbers: dict[_Clue, int], slip: tuple[int, _Clue] | None
) -> Trace | None:
    """Place one person after another; None when two would share a place or one falls off the ends."""
    order: dict[int, int] = {}
    steps = []
    for place, clue in enumerate(clues):
        read = slip[1] if slip and slip[0] == place else clue
        at = read.away + (0 if read.other is None else order[read.other])
        if at in order.values() or not 1 <= at <= len(names):
            return None
        order[clue.who] = at
        reference = "" if clue.other is None else f"，{names[clue.other]}是第{order[clue.other]}{unit}"
        clue_text = f"线索{numbers[clue]}说{clue.render(names, unit)}{reference}"
        steps.append(f"{clue_text}{'' if clue.other is None else f'，所以{names[clue.who]}是第{at}{unit}'}。")
    last = next(who for who in range(len(names)) if who not in order)
    order[last] = next(at for at in range(1, len(names) + 1) if at not in order.values())
    steps.append(f"剩下的{names[last]}就是第{order[last]}{unit}。")
    return tuple(steps), tuple(order[who] for who in range(len(names)))


def _ask(
    rng: Random, names: list[str], unit: str, traces: list[Trace], solved: tuple[int, ...]
) -> Query | None:
    kind = rng.choice(("who", "who", "place", "order", "claim"))
    at = rng.randrange(len(names))
    if kind == "who":
        chains = [Chain(steps, names[order.index(at + 1)]) for steps, order in traces]
        ask = rng.choice((f"谁是第{at + 1}{unit}？", f"第{at + 1}{unit}是哪个人？"))
        return question_types.value(
            ask, chains[0], chains[1:], rng.sample(names, len(names)), names[solved.index(at + 1)]
        )
    if kind == "order":
        chains = [Chain(steps, _render_order(names, order)) for steps, order in traces]
        spare = [_render_order(names, tuple(rng.sample(solved, len(solved)))) for _ in range(4)]
        return question_types.value(
            "从前到后的顺序是怎样的？", chains[0], chains[1:], spare, _render_order(names, solved)
        )
    chains = [Chain(steps, f"第{order[at]}{unit}") for steps, order in traces]
    if kind == "claim":
        ask = f"有人说{names[at]}是{{}}，对吗？"
        return question_types.claim(rng, ask, chains[0], chains[1:], f"第{solved[at]}{unit}")
    spare = [f"第{place + 1}{unit}" for place in rng.sample(range(len(names)), len(names))]
    return question_types.value(
        f"{names[at]}排在什么位置？", chains[0], chains[1:], spare, f"第{solved[at]}{unit}"
    )


def _render_order(names: list[str], order: tuple[int, ...]) -> str:
    return "、".join(name for _, name in sorted(zip(order, names, strict=True)))
