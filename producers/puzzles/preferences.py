"""Preference puzzles: who likes which food, by facts and Datalog-like rules.

    小红喜欢小明喜欢的食物里的所有水果。 小刚喜欢小明不喜欢的所有食物。

The trace fills in one person after another; the solver derives single facts, a pair of person and food each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.question_types import Finding, Wording
from producers.puzzles.types import Puzzle, Query, puzzle, statement

_FOODS = {
    "苹果": "水果 脆", "西瓜": "水果 甜", "香蕉": "水果 软", "蛋糕": "甜 软", "豆腐": "软 素",
    "火锅": "辣 热", "汤圆": "甜 热", "黄瓜": "脆 素", "奶茶": "甜 饮料", "姜汤": "辣 饮料",
    "辣椒": "辣 脆", "米粥": "热 素",
}  # fmt: skip
_KINDS = {
    "水果": "水果", "饮料": "饮料", "甜": "甜的食物", "脆": "脆的食物", "软": "软的食物",
    "辣": "辣的食物", "热": "热的食物", "素": "素的食物",
}  # fmt: skip


@dataclass(frozen=True)
class _Taste:
    """One person's rule: a kind, and up to two people named before."""

    form: str
    kind: str
    others: tuple[int, ...]

    def render(self, names: list[str], me: int) -> str:
        who, kind = names[me], _KINDS[self.kind]
        others = [names[one] for one in self.others]
        return {
            "kind": "{who}喜欢所有{kind}",
            "some": "{who}喜欢{one}喜欢的食物里的所有{kind}",
            "not": "{who}喜欢{one}喜欢的、又不是{kind}的所有食物",
            "reverse": "{who}喜欢{one}不喜欢的所有食物",
            "and": "{who}喜欢{both}都喜欢的所有食物",
            "or": "{who}喜欢{either}喜欢的所有食物",
        }[self.form].format(
            who=who, kind=kind, one="".join(others[:1]), both="和".join(others), either="或".join(others)
        )

    def likes(self, food: str, before: Callable[[int, str], bool]) -> bool:
        liked = [before(one, food) for one in self.others]
        fits = self.kind in _FOODS[food].split()
        match self.form:
            case "kind":
                return fits
            case "some":
                return liked[0] and fits
            case "not":
                return liked[0] and not fits
            case "reverse":
                return not liked[0]
            case "and":
                return all(liked)
            case _:
                return any(liked)


@dataclass(frozen=True)
class _Slip:
    """Where the reasoning goes wrong: one person's rule read as its opposite, or one food misjudged."""

    at: int
    food: str


_OPPOSITE = {"some": "not", "not": "some", "and": "or", "or": "and"}


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw foods and tastes, and ask what the last people like."""
    foods = rng.sample(list(_FOODS), 4 + difficulty)
    names = name_lists.people(rng, 2 + difficulty)
    tastes = [_taste(rng, foods, place) for place in range(len(names))]
    solved = _solve(foods, tastes)
    if any(len(solved[place]) in (0, len(foods)) for place in range(len(names))):
        return None
    facts = [f"{food}是{'、'.join(_KINDS[kind] for kind in _FOODS[food].split())}。" for food in foods]
    rules = [f"{taste.render(names, place)}。" for place, taste in enumerate(tastes)]
    order = rng.sample(range(len(rules)), len(rules))
    scene = f"有{len(foods)}种食物，{'、'.join(names)}{len(names)}个人各有自己的口味，没有提到的都不成立。"
    problem = statement(rng, scene, facts, [rules[place] for place in order])
    wanted = rng.randint(1, 2)
    asked = rng.sample(range(1, len(names)), min(wanted, len(names) - 1))
    queries = [_ask(rng, foods, names, tastes, place) for place in asked]
    return puzzle(problem, queries, len(asked))


def _taste(rng: Random, foods: list[str], place: int) -> _Taste:
    kinds = sorted({kind for food in foods for kind in _FOODS[food].split()})
    kind = rng.choice(kinds)
    if place == 0:
        return _Taste("kind", kind, ())
    form = rng.choice(
        ("kind", "some", "not", "reverse") if place == 1 else ("some", "not", "reverse", "and", "or")
    )
    others = {"kind": 0, "and": 2, "or": 2}.get(form, 1)
    return _Taste(form, kind, tuple(sorted(rng.sample(range(place), others))))


def _needed(tastes: list[_Taste], target: int) -> list[int]:
    needed = {target}
    for place in range(target, -1, -1):
        if place in needed:
            needed.update(tastes[place].others)
    return sorted(needed)


def _ask(rng: Random, foods: list[str], names: list[str], tastes: list[_Taste], target: int) -> Query | None:
    needed = _needed(tastes, target)
    slips = [_Slip(at, food) for at in needed for food in foods]
    # There are many foods to misjudge and one rule to misread: weigh them alike.
    slips += [_Slip(at, "") for at in needed if tastes[at].form in _OPPOSITE] * 3
    right = _trace(foods, names, tastes, needed, None)
    slipped = [_trace(foods, names, tastes, needed, slip) for slip in slips]
    who = names[target]
    wording = Wording(
        f"{who}喜欢哪些食物？", f"{who}喜欢几种食物？", f"{who}喜欢{{}}吗？", f"所以{who}喜欢的是{{}}"
    )
    return question_types.members(rng, wording, right, slipped, foods, _solve(foods, tastes)[target])


def _trace(
    foods: list[str], names: list[str], tastes: list[_Taste], needed: list[int], slip: _Slip | None
) -> Finding:
    liked: dict[int, list[str]] = {}
    steps = []
    for at in needed:
        taste = tastes[at]
        here = slip is not None and slip.at == at
        read = (
            _Taste(_OPPOSITE[taste.form], taste.kind, taste.others)
            if here and slip and not slip.food
            else taste
        )
        wrong = slip.food if here and slip else ""
        liked[at] = [
            food for food in foods if read.likes(food, lambda one, it: it in liked[one]) != (food == wrong)
        ]
        steps.append(f"{taste.render(names, at)}，也就是{'、'.join(liked[at]) or '什么都没有'}。")
    return Finding(tuple(steps), tuple(liked[needed[-1]]))


def _solve(foods: list[str], tastes: list[_Taste]) -> list[list[str]]:
    """Derive single facts person by person, since a rule may deny what an earlier person likes."""
    facts: set[tuple[int, str]] = set()

    def likes(person: int, food: str) -> bool:
        return (person, food) in facts

    for person, taste in enumerate(tastes):
        facts.update([(person, food) for food in foods if taste.likes(food, likes)])
    return [[food for food in foods if (person, food) in facts] for person in range(len(tastes))]
