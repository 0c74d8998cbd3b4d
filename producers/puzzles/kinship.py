"""Kinship puzzles: derive a relation from statements about parents.

    建国是志明的父亲。 如果甲是乙的父亲，乙是丙的父亲，那么甲是丙的祖父。

The trace climbs from a child to a parent and looks around from there; the solver tests every
definition on every pair.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

_SIDES = ("father", "mother")
_ROLES = (*_SIDES, "brother", "sister")
_FLIP = {"father": "mother", "mother": "father", "brother": "sister", "sister": "brother"}
# A path leads to a parent, and from there to a relative.
_PATHS = tuple(product(_SIDES, _ROLES))


@dataclass(frozen=True)
class _Texts:
    scene: str
    roles: dict[str, str]
    titles: tuple[str, ...]
    """The titles of all `_PATHS`."""
    rules: tuple[str, ...]
    parents: str
    sexes: str
    men: str
    women: str
    relative: str
    """One person named as another's: also what a question calls its subject."""
    who: str
    which: str
    definition: str
    is_relative: str
    siblings: str
    found: str
    entitled: str

    def title(self, side: str, role: str) -> str:
        return self.titles[_PATHS.index((side, role))]


_TEXTS = {
    "zh": _Texts(
        scene="一个大家庭里有下面这些人。",
        roles=dict(zip(_ROLES, ("父亲", "母亲", "兄弟", "姐妹"), strict=True)),
        titles=("祖父", "祖母", "叔伯", "姑姑", "外祖父", "外祖母", "舅舅", "姨妈"),
        rules=(
            "父亲的父亲是祖父，父亲的母亲是祖母；母亲的父亲是外祖父，母亲的母亲是外祖母。",
            "有相同的父亲或母亲的两个人，男的是另一个人的兄弟，女的是另一个人的姐妹。",
            "父亲的兄弟是叔伯，父亲的姐妹是姑姑；母亲的兄弟是舅舅，母亲的姐妹是姨妈。",
        ),
        parents="{father}是{child}的父亲，{mother}是{child}的母亲。",
        sexes="{men}是男性，{women}是女性。",
        men="男性",
        women="女性",
        relative="{child}的{role}",
        who="谁是{child}的{title}？",
        which="{one}是{child}的什么人？",
        definition="{child}的{title}就是{child}的{side}的{role}。",
        is_relative="{child}的{role}是{one}。",
        siblings="{parent}的父母是{father}和{mother}，{one}的父母也是{father}和{mother}，"
        "{one}是{sex}，所以{one}是{parent}的{role}。",
        found="所以要找的人是{one}。",
        entitled="{side}的{role}是{title}，所以{one}是{child}的{title}。",
    ),
    "en": _Texts(
        scene="These people belong to one large family.",
        roles={role: role for role in _ROLES},
        titles=(
            *(f"paternal {one}" for one in ("grandfather", "grandmother", "uncle", "aunt")),
            *(f"maternal {one}" for one in ("grandfather", "grandmother", "uncle", "aunt")),
        ),
        rules=(
            "A father's father is a paternal grandfather, and a father's mother is a paternal grandmother; "
            "a mother's father is a maternal grandfather, and a mother's mother is a maternal grandmother.",
            "Of two people with the same father or mother, a man is the other's brother, "
            "and a woman is the other's sister.",
            "A father's brother is a paternal uncle, and a father's sister is a paternal aunt; "
            "a mother's brother is a maternal uncle, and a mother's sister is a maternal aunt.",
        ),
        parents="{father} is {child}'s father, and {mother} is {child}'s mother.",
        sexes="The men are {men}; the women are {women}.",
        men="a man",
        women="a woman",
        relative="{child}'s {role}",
        who="Who is {child}'s {title}?",
        which="How is {one} related to {child}?",
        definition="{child}'s {title} is the {role} of {child}'s {side}.",
        is_relative="{child}'s {role} is {one}.",
        siblings="{parent} and {one} are both children of {father} and {mother}, and {one} is {sex}, "
        "so {one} is {parent}'s {role}.",
        found="so the person we are looking for is {one}.",
        entitled="a {side}'s {role} is a {title}, so {one} is {child}'s {title}.",
    ),
}


@dataclass
class _Family:
    texts: _Texts
    men: list[str]
    women: list[str]
    father: dict[str, str]
    mother: dict[str, str]

    def everyone(self) -> list[str]:
        return self.men + self.women

    def parent(self, child: str, side: str) -> str:
        return (self.father if side == "father" else self.mother)[child]

    def around(self, person: str, role: str) -> list[str]:
        """Return a person's parent or siblings by role."""
        if role in _SIDES:
            parent_of = self.father if role == "father" else self.mother
            return [parent_of[person]] if person in parent_of else []
        pool = self.men if role == "brother" else self.women
        mine = self.father.get(person)
        return [one for one in pool if one != person and mine and self.father.get(one) == mine]


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw three or four generations and ask for relations across two or three of them."""
    texts = _TEXTS[language.code]
    family, young = _family(rng, difficulty, language)
    facts = [
        texts.parents.format(father=family.father[one], mother=family.mother[one], child=one)
        for one in family.father
    ]
    facts += [texts.sexes.format(men=language.listed(family.men), women=language.listed(family.women))]
    problem = statement(rng, language, texts.scene, rng.sample(facts, len(facts)), texts.rules)
    wanted = rng.randint(1, 2)
    queries = [_ask(rng, family, young) for _ in range(wanted * 5)]
    return puzzle(problem, queries, wanted)


def _family(rng: Random, difficulty: int, language: Language) -> tuple[_Family, "_Subject"]:
    """Draw two founding couples, their children, a grandchild of both, and at difficulty 3 its child."""
    texts = _TEXTS[language.code]
    names = NAMES[language.code]
    men, women = iter(rng.sample(names.men, 12)), iter(rng.sample(names.women, 12))
    family = _Family(texts, [], [], {}, {})

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
    relation = {"child": last, "role": texts.roles["father" if male else "mother"]}
    called = texts.relative.format(**relation)
    return family, _Subject(young, called, (texts.is_relative.format(**relation, one=young),))


@dataclass(frozen=True)
class _Subject:
    """Whose relatives are asked for: the name, what the question calls them, the steps that find the name."""

    name: str
    called: str
    lead: tuple[str, ...]


def _ask(rng: Random, family: _Family, young: _Subject) -> Query | None:
    texts = family.texts
    side, role = rng.choice(_PATHS)
    relatives = _relatives(family, young.name, side, role)
    if len(relatives) != 1:
        return None
    if rng.random() < 0.5:
        return _ask_title(family, young, relatives[0], side, role)
    title = texts.title(side, role)
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
    ask = texts.who.format(child=young.called, title=title)
    return question_types.value(ask, right, fair, spare, relatives[0])


def _find(
    family: _Family, young: _Subject, title: str, named: tuple[str, str], path: tuple[str, str]
) -> Chain | None:
    """Look for the one relative along a path, calling it what is said; None when there is not just one."""
    parent = family.parent(young.name, path[0])
    relatives = family.around(parent, path[1])
    if len(relatives) != 1:
        return None
    texts = family.texts
    side, role = (texts.roles[word] for word in named)
    steps = (
        texts.definition.format(child=young.name, title=title, side=side, role=role),
        texts.is_relative.format(child=young.name, role=side, one=parent),
        _near(family, parent, relatives[0], named[1]),
        texts.found.format(one=relatives[0]),
    )
    return Chain((*young.lead, *steps), relatives[0])


def _near(family: _Family, parent: str, one: str, role: str) -> str:
    texts = family.texts
    if role in _SIDES:
        return texts.is_relative.format(child=parent, role=texts.roles[role], one=one)
    parents = {"parent": parent, "father": family.father[parent], "mother": family.mother[parent]}
    sex = texts.men if role == "brother" else texts.women
    return texts.siblings.format(**parents, one=one, sex=sex, role=texts.roles[role])


def _ask_title(family: _Family, young: _Subject, one: str, side: str, role: str) -> Query | None:
    texts, child, parent = family.texts, young.name, family.parent(young.name, side)

    def derive(side: str, role: str, title: str) -> Chain:
        words = {"side": texts.roles[side], "role": texts.roles[role], "title": title}
        steps = (
            texts.is_relative.format(child=child, role=words["side"], one=parent),
            _near(family, parent, one, role),
            texts.entitled.format(**words, one=one, child=child),
        )
        return Chain((*young.lead, *steps), title)

    across = texts.title(_FLIP[side], role)
    slips = [derive(_FLIP[side], role, across), derive(side, role, across)]
    slips += [derive(side, _FLIP[role], texts.title(side, _FLIP[role]))]
    right = derive(side, role, texts.title(side, role))
    ask = texts.which.format(one=one, child=young.called)
    return question_types.value(ask, right, slips, texts.titles, right.result)


def _relatives(family: _Family, child: str, side: str, role: str) -> list[str]:
    """Test the path on every pair of people."""
    everyone = family.everyone()
    return [
        one
        for one in everyone
        if any(_is(family, via, side, child) and _is(family, one, role, via) for via in everyone)
    ]


def _is(family: _Family, one: str, role: str, other: str) -> bool:
    if role in _SIDES:
        return (family.father if role == "father" else family.mother).get(other) == one
    shared = [
        parent_of[one]
        for parent_of in (family.father, family.mother)
        if one in parent_of and parent_of[one] == parent_of.get(other)
    ]
    return one != other and bool(shared) and (one in family.men) == (role == "brother")
