"""Ranking puzzles: an order that is fixed by clues, one person at a time.

    小红排第2名。 小明紧挨在小红前面。 小刚比小明靠后2名。

The trace follows the clues; the solver tries every order and wants exactly one that fits.
"""

from dataclasses import dataclass
from itertools import permutations
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Count, Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement


@dataclass(frozen=True)
class _Texts:
    scenes: tuple[tuple[str, str], ...]
    """A scene, and what it calls a place."""
    behind: str
    before: str
    pinned: str
    adjacent: str
    apart: str
    says: str
    derived: str
    left_over: str
    who: tuple[str, ...]
    order: str
    claim: str
    position: str
    sequence: str
    """Joins the names of an order."""


_TEXTS = {
    "zh": _Texts(
        scenes=(
            ("{names}参加了一场跑步比赛，没有并列名次。", "第{at}名"),
            ("{names}参加了一次书法比赛，名次各不相同。", "第{at}名"),
            ("{names}排成一队买票，一个跟着一个。", "第{at}位"),
        ),
        behind="后",
        before="前",
        pinned="{who}是{place}",
        adjacent="{who}排在{other}{side}面，而且紧挨着{other}",
        apart="{who}排在{other}{side}面，两人之间隔着{between}个人",
        says="线索{number}说{clue}。",
        derived="线索{number}说{clue}，{other}是{reference}，所以{who}是{place}。",
        left_over="剩下的{who}就是{place}。",
        who=("谁是{place}？", "{place}是哪个人？"),
        order="从前到后的顺序是怎样的？",
        claim="有人说{who}是{claimed}，对吗？",
        position="{who}排在什么位置？",
        sequence="、",
    ),
    "en": _Texts(
        scenes=(
            ("{names} ran a race, and there were no ties.", "{at:th}"),
            ("{names} entered a handwriting contest, and there were no ties.", "{at:th}"),
            ("{names} are standing in line to buy tickets, one behind another.", "{at:th} in line"),
        ),
        behind="behind",
        before="ahead of",
        pinned="{who} is {place}",
        adjacent="{who} is directly {side} {other}",
        apart="{who} is {side} {other}, with {between:# person|# people} between them",
        says="clue {number} says that {clue}.",
        derived="clue {number} says that {clue}; {other} is {reference}, so {who} is {place}.",
        left_over="the only one left, {who}, is {place}.",
        who=("Who is {place}?", "Which person is {place}?"),
        order="What is the order from first to last?",
        claim="Someone says that {who} is {claimed}. Is that true?",
        position="What is {who}'s position?",
        sequence=", ",
    ),
}


@dataclass(frozen=True)
class _Clue:
    """Person `who` is `away` places behind (negative: before) `other`; without `other`, at place `away`."""

    who: int
    other: int | None
    away: int

    def render(self, cast: "_Cast") -> str:
        texts, who = cast.texts, cast.names[self.who]
        if self.other is None:
            return texts.pinned.format(who=who, place=cast.place(self.away))
        side = texts.behind if self.away > 0 else texts.before
        template = texts.adjacent if abs(self.away) == 1 else texts.apart
        between = Count(abs(self.away) - 1)
        return template.format(who=who, other=cast.names[self.other], side=side, between=between)

    def fits(self, order: tuple[int, ...]) -> bool:
        reference = 0 if self.other is None else order[self.other]
        return order[self.who] == reference + self.away


@dataclass(frozen=True)
class _Cast:
    """Who stands in the order, and the words for it."""

    names: list[str]
    texts: _Texts
    place_name: str

    def place(self, at: int) -> str:
        return self.place_name.format(at=Count(at))

    def sequence(self, order: tuple[int, ...]) -> str:
        return self.texts.sequence.join(name for _, name in sorted(zip(order, self.names, strict=True)))


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw an order and clues that leave no other, and ask about places."""
    texts = _TEXTS[language.code]
    count = 3 + difficulty
    names = rng.sample(NAMES[language.code].people, count)
    order = rng.sample(range(1, count + 1), count)
    clues = _clues(rng, order)
    models = [some for some in permutations(range(1, count + 1)) if all(clue.fits(some) for clue in clues)]
    if models != [tuple(order)]:
        return None
    scene, place_name = rng.choice(texts.scenes)
    cast = _Cast(names, texts, place_name)
    listed = rng.sample(clues, len(clues))
    lines = [clue.render(cast) + language.stop for clue in listed]
    problem = statement(rng, language, scene.format(names=language.listed(names)), lines)
    numbers = {clue: place for place, clue in enumerate(listed, 1)}
    traces = [_trace(cast, clues, numbers, slip) for slip in _slips(clues)]
    if traces[0] is None or len(traces) < 2:
        return None
    wanted = rng.randint(1, 2)
    fair = [trace for trace in traces if trace]
    queries = [_ask(rng, language, cast, fair, models[0]) for _ in range(wanted * 4)]
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
    cast: _Cast, clues: list[_Clue], numbers: dict[_Clue, int], slip: tuple[int, _Clue] | None
) -> Trace | None:
    """Place one person after another; None when two would share a place or one falls off the ends."""
    names, texts = cast.names, cast.texts
    order: dict[int, int] = {}
    steps = []
    for place, clue in enumerate(clues):
        read = slip[1] if slip and slip[0] == place else clue
        at = read.away + (0 if read.other is None else order[read.other])
        if at in order.values() or not 1 <= at <= len(names):
            return None
        order[clue.who] = at
        words = {"number": str(numbers[clue]), "clue": clue.render(cast)}
        if clue.other is None:
            steps.append(texts.says.format(**words))
            continue
        words |= {"other": names[clue.other], "reference": cast.place(order[clue.other])}
        steps.append(texts.derived.format(**words, who=names[clue.who], place=cast.place(at)))
    last = next(who for who in range(len(names)) if who not in order)
    order[last] = next(at for at in range(1, len(names) + 1) if at not in order.values())
    steps.append(texts.left_over.format(who=names[last], place=cast.place(order[last])))
    return tuple(steps), tuple(order[who] for who in range(len(names)))


def _ask(
    rng: Random, language: Language, cast: _Cast, traces: list[Trace], solved: tuple[int, ...]
) -> Query | None:
    names, texts = cast.names, cast.texts
    kind = rng.choice(("who", "who", "place", "order", "claim"))
    at = rng.randrange(len(names))
    if kind == "who":
        chains = [Chain(steps, names[order.index(at + 1)]) for steps, order in traces]
        ask = rng.choice(texts.who).format(place=cast.place(at + 1))
        return question_types.value(
            ask, chains[0], chains[1:], rng.sample(names, len(names)), names[solved.index(at + 1)]
        )
    if kind == "order":
        chains = [Chain(steps, cast.sequence(order)) for steps, order in traces]
        spare = [cast.sequence(tuple(rng.sample(solved, len(solved)))) for _ in range(4)]
        return question_types.value(texts.order, chains[0], chains[1:], spare, cast.sequence(solved))
    chains, answer = [Chain(steps, cast.place(order[at])) for steps, order in traces], cast.place(solved[at])
    if kind == "claim":
        who = {"who": names[at]}
        return question_types.claim(rng, language, texts.claim, who, chains[0], chains[1:], answer)
    spare = [cast.place(place + 1) for place in rng.sample(range(len(names)), len(names))]
    return question_types.value(texts.position.format(who=names[at]), chains[0], chains[1:], spare, answer)
