"""Classification puzzles: rules with negation as failure; what is not stated is false.

    如果一个人有借书卡并且交了押金，那么这个人是正式读者。如果……并且没有逾期记录，那么……是优秀读者。

The trace goes person by person; the solver applies rule after rule to the set of all facts.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles.languages import Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.question_types import Finding, SetQuestions, Wording
from producers.puzzles.types import Puzzle, Query, puzzle, statement


@dataclass(frozen=True)
class _Theme:
    """Four plain features with their negations, and the classes they lead to: one member, several members."""

    scene: str
    features: tuple[tuple[str, str], ...]
    classes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Texts:
    themes: tuple[_Theme, ...]
    scene: str
    fact: str
    first_rule: str
    next_rule: str
    closed: str
    asked: Wording
    belongs: str
    does_not: str


_TEXTS = {
    "zh": _Texts(
        themes=(
            _Theme(
                "一家图书馆登记了几位读者的情况",
                (("有借书卡", "没有借书卡"), ("交了押金", "没有交押金"),
                 ("有逾期记录", "没有逾期记录"), ("丢过书", "没有丢过书")),
                (("正式读者",) * 2, ("优秀读者",) * 2, ("年度读者",) * 2),
            ),
            _Theme(
                "一个登山队登记了几位报名者的情况",
                (("通过了体检", "没有通过体检"), ("带了睡袋", "没有带睡袋"),
                 ("受过伤", "没有受过伤"), ("迟到过", "没有迟到过")),
                (("候补队员",) * 2, ("正式队员",) * 2, ("先锋队员",) * 2),
            ),
            _Theme(
                "一所学校登记了几位学生的情况",
                (("交了作业", "没有交作业"), ("参加了考试", "没有参加考试"),
                 ("旷过课", "没有旷过课"), ("抄袭过", "没有抄袭过")),
                (("合格学生",) * 2, ("良好学生",) * 2, ("模范学生",) * 2),
            ),
            _Theme(
                "一家商店登记了几位顾客的情况",
                (("办了会员", "没有办会员"), ("买过家电", "没有买过家电"),
                 ("欠过款", "没有欠过款"), ("退过货", "没有退过货")),
                (("老顾客",) * 2, ("金牌顾客",) * 2, ("贵宾",) * 2),
            ),
        ),
        scene="{scene}：{people}。",
        fact="{person}{feature}。",
        first_rule="如果一个人{one}并且{other}，那么这个人是{name}。",
        next_rule="如果一个人是{one}并且{other}，那么这个人是{name}。",
        closed="没有提到的情况都当作没有发生。",
        asked=Wording(
            which="哪些人是{name}？",
            count="有几个人是{name}？",
            whether="{member}是{name}吗？",
            conclusion="所以，{name}有{members}",
        ),
        belongs="{person}{features}，是{name}。",
        does_not="{person}{features}，不是{name}。",
    ),
    "en": _Texts(
        themes=(
            _Theme(
                "A library keeps a record of several readers",
                (("has a library card", "has no library card"),
                 ("has paid the deposit", "has not paid the deposit"),
                 ("has an overdue book", "has no overdue book"), ("has lost a book", "has not lost a book")),
                (("a registered reader", "registered readers"), ("an excellent reader", "excellent readers"),
                 ("a reader of the year", "readers of the year")),
            ),
            _Theme(
                "A climbing club keeps a record of several applicants",
                (("has passed the health check", "has not passed the health check"),
                 ("has brought a sleeping bag", "has not brought a sleeping bag"),
                 ("has been injured", "has never been injured"), ("has been late", "has never been late")),
                (("a reserve climber", "reserve climbers"), ("a full member", "full members"),
                 ("an expedition leader", "expedition leaders")),
            ),
            _Theme(
                "A school keeps a record of several students",
                (("has done the homework", "has not done the homework"),
                 ("has taken the exam", "has not taken the exam"),
                 ("has missed a lesson", "has never missed a lesson"), ("has cheated", "has never cheated")),
                (("a satisfactory student", "satisfactory students"), ("a good student", "good students"),
                 ("an outstanding student", "outstanding students")),
            ),
            _Theme(
                "A shop keeps a record of several customers",
                (("has joined the loyalty scheme", "has not joined the loyalty scheme"),
                 ("has bought an appliance", "has never bought an appliance"),
                 ("has owed money", "has never owed money"),
                 ("has returned goods", "has never returned goods")),
                (("a regular customer", "regular customers"), ("a gold customer", "gold customers"),
                 ("a guest of honour", "guests of honour")),
            ),
        ),
        scene="{scene}: {people}.",
        fact="{person} {feature}.",
        first_rule="If a person {one} and {other}, then this person is {name}.",
        next_rule="If a person is {one} and {other}, then this person is {name}.",
        closed="Anything that is not stated is taken to be false.",
        asked=Wording(
            which="Which people are {names}?",
            count="How many people are {names}?",
            whether="Is {member} {name}?",
            conclusion="so only {members} {n:is {name}|are {names}}",
        ),
        belongs="{person} {features}, so {person} is {name}.",
        does_not="{person} {features}, so {person} is not {name}.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _World:
    theme: _Theme
    people: list[str]
    has: dict[str, tuple[bool, ...]]
    levels: int

    def rules(self, texts: _Texts) -> list[str]:
        (first, second, *barred), classes = self.theme.features, [name for name, _ in self.theme.classes]
        rules = [texts.first_rule.format(one=first[0], other=second[0], name=classes[0])]
        for level in range(1, self.levels):
            before, absent = classes[level - 1], barred[level - 1][1]
            rules.append(texts.next_rule.format(one=before, other=absent, name=classes[level]))
        return [*rules, texts.closed]


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw people and their features, and ask who falls in which class."""
    texts = _TEXTS[language.code]
    theme = rng.choice(texts.themes)
    people = rng.sample(NAMES[language.code].people, 2 + difficulty)
    levels = 2 if difficulty < 3 else 3
    has = {
        one: (*(rng.random() < 0.75 for _ in range(2)), *(rng.random() < 0.4 for _ in range(2)))
        for one in people
    }
    world = _World(theme, people, has, levels)
    used = levels + 1
    facts = [
        texts.fact.format(person=one, feature=theme.features[at][0])
        for one in people
        for at in range(used)
        if has[one][at]
    ]
    scene = texts.scene.format(scene=theme.scene, people=language.listed(people))
    problem = statement(rng, language, scene, rng.sample(facts, len(facts)), world.rules(texts))
    wanted = rng.randint(1, 2)
    levels_asked = rng.sample(range(levels), wanted)
    queries = [_ask(rng, language, world, level) for level in levels_asked for _ in range(2)]
    return puzzle(problem, queries, wanted)


def _ask(rng: Random, language: Language, world: _World, level: int) -> Query | None:
    slips = [(one, at) for one in world.people for at in range(level + 2)]
    right = _trace(language, world, level, None)
    slipped = [_trace(language, world, level, slip) for slip in slips]
    name, names = world.theme.classes[level]
    wording = _TEXTS[language.code].asked.about(name=name, names=names)
    return SetQuestions(language, wording, right, slipped, world.people, _solve(world)[level]).draw(rng)


def _trace(language: Language, world: _World, level: int, slip: tuple[str, int] | None) -> Finding:
    steps, members = [], []
    for one in world.people:
        has = [stated != ((one, at) == slip) for at, stated in enumerate(world.has[one])]
        steps.append(_examine(language, world.theme, one, has, level))
        if has[0] and has[1] and not any(has[2 : level + 2]):
            members.append(one)
    return Finding(tuple(steps), tuple(members))


def _examine(language: Language, theme: _Theme, person: str, has: list[bool], level: int) -> str:
    """Render the relevant features of one person, then the verdict."""
    features = [theme.features[at][0 if has[at] else 1] for at in range(level + 2)]
    belongs = has[0] and has[1] and not any(has[2 : level + 2])
    texts, (name, _) = _TEXTS[language.code], theme.classes[level]
    verdict = texts.belongs if belongs else texts.does_not
    return verdict.format(person=person, features=language.clauses(features), name=name)


def _solve(world: _World) -> list[list[str]]:
    """Apply the rules in order, each to the class the one before it made; return every class's members."""
    stages = [[one for one in world.people if world.has[one][0] and world.has[one][1]]]
    for level in range(1, world.levels):
        stages.append([one for one in stages[-1] if not world.has[one][level + 1]])
    return stages
