"""Preference puzzles: who likes which food, by facts and Datalog-like rules.

    小红喜欢小明喜欢的食物里的所有水果。 小刚喜欢小明不喜欢的所有食物。

The trace fills in one person after another; the solver derives single facts, a pair of person and food each.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.question_types import Finding, SetQuestions, Wording
from producers.puzzles.types import Puzzle, Query, puzzle, statement

# The kinds of each food, as places in a language's list of kinds.
_FRUIT, _HOT, _SWEET, _VEGETARIAN, _CRUNCHY, _SOFT, _SPICY, _DRINK = range(8)
_KINDS_OF = (
    (_FRUIT, _CRUNCHY), (_FRUIT, _SWEET), (_FRUIT, _SOFT), (_SWEET, _SOFT), (_SOFT, _VEGETARIAN),
    (_SPICY, _HOT), (_SWEET, _HOT), (_CRUNCHY, _VEGETARIAN), (_SWEET, _DRINK), (_SPICY, _DRINK),
    (_SPICY, _CRUNCHY), (_HOT, _VEGETARIAN),
)  # fmt: skip


@dataclass(frozen=True)
class _Texts:
    foods: tuple[str, ...]
    kinds: tuple[str, ...]
    scene: str
    fact: str
    forms: dict[str, str]
    all_of: str
    any_of: str
    asked: Wording
    step: str
    nothing: str


_TEXTS = {
    "zh": _Texts(
        foods=(
            "苹果", "西瓜", "香蕉", "蛋糕", "豆腐", "火锅", "汤圆", "黄瓜", "奶茶", "姜汤", "辣椒", "米粥",
        ),
        kinds=("水果", "热的食物", "甜的食物", "素的食物", "脆的食物", "软的食物", "辣的食物", "饮料"),
        scene="有{foods}种食物，{names}{people}个人各有自己的口味，没有提到的都不成立。",
        fact="{food}是{kinds}。",
        forms={
            "kind": "{who}喜欢所有{kind}",
            "some": "{who}喜欢{one}喜欢的食物里的所有{kind}",
            "not": "{who}喜欢{one}喜欢的、又不是{kind}的所有食物",
            "reverse": "{who}喜欢{one}不喜欢的所有食物",
            "and": "{who}喜欢{both}都喜欢的所有食物",
            "or": "{who}喜欢{either}喜欢的所有食物",
        },
        all_of="和",
        any_of="或",
        asked=Wording(
            which="{who}喜欢哪些食物？",
            count="{who}喜欢几种食物？",
            whether="{who}喜欢{member}吗？",
            conclusion="所以{who}喜欢的是{members}",
        ),
        step="{rule}，也就是{foods}。",
        nothing="什么都没有",
    ),
    "en": _Texts(
        foods=(
            "apples", "melons", "bananas", "cupcakes", "mushrooms", "curries", "waffles", "cucumbers",
            "milkshakes", "ginger shots", "radishes", "baked potatoes",
        ),
        kinds=(
            "fruits", "warm items", "sweet items", "vegetarian items", "crunchy items", "soft items",
            "spicy items", "drinks",
        ),
        scene="A menu has {foods} items; {names} each have their own tastes, and anything that is not stated "
        "is false.",
        fact="{food} are {kinds}.",
        forms={
            "kind": "{who} likes all {kind}",
            "some": "{who} likes all {kind} that {one} likes",
            "not": "{who} likes everything that {one} likes except {kind}",
            "reverse": "{who} likes everything that {one} does not like",
            "and": "{who} likes everything that both {both} like",
            "or": "{who} likes everything that {either} likes",
        },
        all_of=" and ",
        any_of=" or ",
        asked=Wording(
            which="Which items does {who} like?",
            count="How many items does {who} like?",
            whether="Does {who} like {member}?",
            conclusion="so {who} likes only {members}",
        ),
        step="{rule}, that is, {foods}.",
        nothing="nothing at all",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Taste:
    """One person's rule: a kind, and up to two people named before."""

    form: str
    kind: int
    others: tuple[int, ...]

    def render(self, texts: _Texts, names: list[str], me: int) -> str:
        others = [names[one] for one in self.others]
        return texts.forms[self.form].format(
            who=names[me],
            kind=texts.kinds[self.kind],
            one="".join(others[:1]),
            both=texts.all_of.join(others),
            either=texts.any_of.join(others),
        )

    def likes(self, food: int, before: Callable[[int, int], bool]) -> bool:
        liked = [before(one, food) for one in self.others]
        fits = self.kind in _KINDS_OF[food]
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
    food: int | None


@dataclass(frozen=True)
class _World:
    language: Language
    foods: list[int]
    names: list[str]
    tastes: list[_Taste]

    @property
    def texts(self) -> _Texts:
        return _TEXTS[self.language.code]

    def named(self, foods: list[int]) -> list[str]:
        return [self.texts.foods[food] for food in foods]


_OPPOSITE = {"some": "not", "not": "some", "and": "or", "or": "and"}


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw foods and tastes, and ask what the last people like."""
    texts = _TEXTS[language.code]
    foods = rng.sample(range(len(_KINDS_OF)), 4 + difficulty)
    names = rng.sample(NAMES[language.code].people, 2 + difficulty)
    tastes = [_taste(rng, foods, place) for place in range(len(names))]
    world = _World(language, foods, names, tastes)
    solved = _solve(world)
    if any(len(solved[place]) in (0, len(foods)) for place in range(len(names))):
        return None
    facts = [_fact(language, food) for food in foods]
    rules = [taste.render(texts, names, place) + language.stop for place, taste in enumerate(tastes)]
    order = rng.sample(range(len(rules)), len(rules))
    scene = texts.scene.format(foods=len(foods), names=language.listed(names), people=len(names))
    problem = statement(rng, language, scene, facts, [rules[place] for place in order])
    wanted = rng.randint(1, 2)
    asked = rng.sample(range(1, len(names)), min(wanted, len(names) - 1))
    queries = [_ask(rng, world, place) for place in asked]
    return puzzle(problem, queries, len(asked))


def _fact(language: Language, food: int) -> str:
    texts = _TEXTS[language.code]
    kinds = language.listed([texts.kinds[kind] for kind in _KINDS_OF[food]])
    return language.sentence(texts.fact.format(food=texts.foods[food], kinds=kinds))


def _taste(rng: Random, foods: list[int], place: int) -> _Taste:
    kinds = sorted({kind for food in foods for kind in _KINDS_OF[food]})
    kind = rng.choice(kinds)
    if place == 0:
        return _Taste("kind", kind, ())
    form = rng.choice(
        ("kind", "some", "not", "reverse") if place == 1 else ("some", "not", "reverse", "and", "or")
    )
    others = {"kind": 0, "and": 2, "or": 2}.get(form, 1)
    return _Taste(form, kind, tuple(sorted(rng.sample(range(place), others))))


def _ask(rng: Random, world: _World, target: int) -> Query | None:
    tastes = world.tastes
    needed = question_types.needed([taste.others for taste in tastes], target)
    slips = [_Slip(at, food) for at in needed for food in world.foods]
    # There are many foods to misjudge and one rule to misread: weigh them alike.
    slips += [_Slip(at, None) for at in needed if tastes[at].form in _OPPOSITE] * 3
    wording = world.texts.asked.about(who=world.names[target])
    right, *slipped = (_trace(world, needed, slip) for slip in (None, *slips))
    menu, solved = world.named(world.foods), world.named(_solve(world)[target])
    return SetQuestions(world.language, wording, right, slipped, menu, solved).draw(rng)


def _trace(world: _World, needed: list[int], slip: _Slip | None) -> Finding:
    texts = world.texts
    liked: dict[int, list[int]] = {}
    steps = []
    for at in needed:
        taste = world.tastes[at]
        here = slip if slip and slip.at == at else None
        read = replace(taste, form=_OPPOSITE[taste.form]) if here and here.food is None else taste
        wrong = here.food if here else None
        liked[at] = [
            food
            for food in world.foods
            if read.likes(food, lambda one, it: it in liked[one]) != (food == wrong)
        ]
        named = world.language.listed(world.named(liked[at])) or texts.nothing
        steps.append(texts.step.format(rule=taste.render(texts, world.names, at), foods=named))
    return Finding(tuple(steps), tuple(world.named(liked[needed[-1]])))


def _solve(world: _World) -> list[list[int]]:
    """Derive single facts person by person, since a rule may deny what an earlier person likes."""
    facts: set[tuple[int, int]] = set()

    def likes(person: int, food: int) -> bool:
        return (person, food) in facts

    for person, taste in enumerate(world.tastes):
        facts.update([(person, food) for food in world.foods if taste.likes(food, likes)])
    return [[food for food in world.foods if (person, food) in facts] for person in range(len(world.tastes))]
