"""Kinship puzzles: derive a relation from statements about parents.

    建国是志明的父亲。 如果甲是乙的父亲，乙是丙的父亲，那么甲是丙的祖父。

The trace climbs from a child to a parent and looks around from there; the solver tests every
definition on every pair.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_TITLES = {
    ("父亲", "父亲"): "祖父",
    ("父亲", "母亲"): "祖母",
    ("父亲", "兄弟"): "叔伯",
    ("父亲", "姐妹"): "姑姑",
    ("母亲", "父亲"): "外祖父",
    ("母亲", "母亲"): "外祖母",
    ("母亲", "兄弟"): "舅舅",
    ("母亲", "姐妹"): "姨妈",
}
_SIDES = ("父亲", "母亲")
_FLIP = {"父亲": "母亲", "母亲": "父亲", "兄弟": "姐妹", "姐妹": "兄弟"}
_RULES = (
    "父亲的父亲是祖父，父亲的母亲是祖母；母亲的父亲是外祖父，母亲的母亲是外祖母。",
    "有相同的父亲或母亲的两个人，男的是另一个人的兄弟，女的是另一个人的姐妹。",
    "父亲的兄弟是叔伯，父亲的姐妹是姑姑；母亲的兄弟是舅舅，母亲的姐妹是姨妈。",
)


@dataclass
class _Family:
    men: list[str]
    women: list[str]
    father: dict[str, str]
    mother: dict[str, str]

    def everyone(self) -> list[str]:
        return self.men + self.women

    def parent(self, child: str, side: str) -> str:
        return (self.father if side == "父亲" else self.mother)[child]

    def around(self, person: str, role: str) -> list[str]:
        """Return a person's parent or siblings by role."""
        if role in ("父亲", "母亲"):
            parent_of = self.father if role == "父亲" else self.mother
            return [parent_of[person]] if person in parent_of else []
        pool = self.men if role == "兄弟" else self.women
        mine = self.father.get(person)
        return [one for one in pool if one != person and mine and self.father.get(one) == mine]


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw three or four generations and ask for relations across two or three of them."""
    family, young = _family(rng, difficulty)
    facts = [
        f"{family.father[one]}是{one}的父亲，{family.mother[one]}是{one}的母亲。" for one in family.father
    ]
    facts += [f"{'、'.join(family.men)}是男性，{'、'.join(family.women)}是女性。"]
    problem = statement(rng, "一个大家庭里有下面这些人。", rng.sample(facts, len(facts)), _RULES)
    wanted = rng.randint(1, 2)
    queries = [_ask(rng, family, young) for _ in range(wanted * 5)]
    return puzzle(problem, queries, wanted)


def _family(rng: Random, difficulty: int) -> tuple[_Family, "_Subject"]:
    """Draw two founding couples, their children, a grandchild of both, and at difficulty 3 its child."""
    men, women = iter(rng.sample(name_lists.MEN, 12)), iter(rng.sample(name_lists.WOMEN, 12))
    family = _Family([], [], {}, {})

    def born(male: bool, parents: tuple[str, str] | None) -> str:
        one = next(men if male else women)
        (family.men if male else family.women).append(one)
        if parents:
            family.father[one], family.mother[one] = parents
        return one

    heirs = []
    for side in (True, False):
        parents = born(True, None), born(False, None)
        heirs.append(born(side, parents))
        for place in range(2 if difficulty > 1 else 1 + rng.randint(0, 1)):
            born(place == 0 if difficulty > 1 else rng.random() < 0.5, parents)
    male = rng.random() < 0.5
    young = born(male, (heirs[0], heirs[1]))
    if difficulty < 3:
        return family, _Subject(young, young, ())
    spouse = born(not male, None)
    last = born(rng.random() < 0.5, (young, spouse) if male else (spouse, young))
    called = f"{last}的{'父亲' if male else '母亲'}"
    return family, _Subject(young, called, (f"{called}是{young}。",))


@dataclass(frozen=True)
class _Subject:
    """Whose relatives are asked for: the name, what the question calls them, the steps that find the name."""

    name: str
    called: str
    lead: tuple[str, ...]


def _ask(rng: Random, family: _Family, young: _Subject) -> Query | None:
    side, role = rng.choice(list(_TITLES))
    title = _TITLES[side, role]
    relatives = _relatives(family, young.name, title)
    if len(relatives) != 1:
        return None
    if rng.random() < 0.5:
        return _ask_title(family, young, relatives[0], side, role)
    right = _find(family, young, title, (side, role), (side, role))
    if right is None:
        return None
    across, flipped = (_FLIP[side], role), (side, _FLIP[role])
    # A definition mixed up (two ways), or the right one applied to the wrong person.
    slips = [
        _find(family, young, title, across, across),
        _find(family, young, title, flipped, flipped),
        _find(family, young, title, (side, role), flipped),
    ]
    everyone = family.everyone()
    spare = [one for one in rng.sample(everyone, len(everyone)) if one != young.name]
    fair = [chain for chain in slips if chain]
    return question_types.value(f"谁是{young.called}的{title}？", right, fair, spare, relatives[0])


def _find(
    family: _Family, young: _Subject, title: str, named: tuple[str, str], path: tuple[str, str]
) -> Chain | None:
    """Look for the one relative along a path, calling it what is said; None when there is not just one."""
    parent = family.parent(young.name, path[0])
    relatives = family.around(parent, path[1])
    if len(relatives) != 1:
        return None
    steps = (
        f"{young.name}的{title}就是{young.name}的{'的'.join(named)}。",
        f"{young.name}的{named[0]}是{parent}。",
        _near(family, parent, relatives[0], named[1]),
        f"所以要找的人是{relatives[0]}。",
    )
    return Chain((*young.lead, *steps), relatives[0])


def _near(family: _Family, parent: str, one: str, role: str) -> str:
    if role in _SIDES:
        return f"{parent}的{role}是{one}。"
    sex = "男性" if role == "兄弟" else "女性"
    both = f"{family.father[parent]}和{family.mother[parent]}"
    return f"{parent}的父母是{both}，{one}的父母也是{both}，{one}是{sex}，所以{one}是{parent}的{role}。"


def _ask_title(family: _Family, young: _Subject, one: str, side: str, role: str) -> Query | None:
    child, parent = young.name, family.parent(young.name, side)

    def derive(side: str, role: str, title: str) -> Chain:
        last = f"{side}的{role}是{title}，所以{one}是{child}的{title}。"
        steps = (f"{child}的{side}是{parent}。", _near(family, parent, one, role), last)
        return Chain((*young.lead, *steps), title)

    across = _TITLES[_FLIP[side], role]
    slips = [derive(_FLIP[side], role, across), derive(side, role, across)]
    slips += [derive(side, _FLIP[role], _TITLES[side, _FLIP[role]])]
    right = derive(side, role, _TITLES[side, role])
    return question_types.value(
        f"{one}是{young.called}的什么人？", right, slips, list(_TITLES.values()), right.result
    )


def _relatives(family: _Family, child: str, title: str) -> list[str]:
    """Test the title's definition on every pair of people."""
    (side, role), everyone = next(key for key, name in _TITLES.items() if name == title), family.everyone()
    return [
        one
        for one in everyone
        if any(_is(family, via, side, child) and _is(family, one, role, via) for via in everyone)
    ]


def _is(family: _Family, one: str, role: str, other: str) -> bool:
    if role in _SIDES:
        return (family.father if role == "父亲" else family.mother).get(other) == one
    shared = [
        parent_of[one]
        for parent_of in (family.father, family.mother)
        if one in parent_of and parent_of[one] == parent_of.get(other)
    ]
    return one != other and bool(shared) and (one in family.men) == (role == "兄弟")
