"""Classification puzzles: rules with negation as failure; what is not stated is false.

    如果一个人有借书卡并且交了押金，那么这个人是正式读者。如果……并且没有逾期记录，那么……是优秀读者。

The trace goes person by person; the solver applies rule after rule to the set of all facts.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.question_types import Finding, Wording
from producers.puzzles.types import Puzzle, Query, puzzle, statement


@dataclass(frozen=True)
class _Theme:
    """Three plain features with their negations, and the classes they lead to."""

    scene: str
    features: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]


_THEMES = (
    _Theme(
        "一家图书馆登记了几位读者的情况",
        (
            ("有借书卡", "没有借书卡"),
            ("交了押金", "没有交押金"),
            ("有逾期记录", "没有逾期记录"),
            ("丢过书", "没有丢过书"),
        ),
        ("正式读者", "优秀读者", "年度读者"),
    ),
    _Theme(
        "一个登山队登记了几位报名者的情况",
        (
            ("通过了体检", "没有通过体检"),
            ("带了睡袋", "没有带睡袋"),
            ("受过伤", "没有受过伤"),
            ("迟到过", "没有迟到过"),
        ),
        ("候补队员", "正式队员", "先锋队员"),
    ),
    _Theme(
        "一所学校登记了几位学生的情况",
        (
            ("交了作业", "没有交作业"),
            ("参加了考试", "没有参加考试"),
            ("旷过课", "没有旷过课"),
            ("抄袭过", "没有抄袭过"),
        ),
        ("合格学生", "良好学生", "模范学生"),
    ),
    _Theme(
        "一家商店登记了几位顾客的情况",
        (
            ("办了会员", "没有办会员"),
            ("买过家电", "没有买过家电"),
            ("欠过款", "没有欠过款"),
            ("退过货", "没有退过货"),
        ),
        ("老顾客", "金牌顾客", "贵宾"),
    ),
)


@dataclass(frozen=True)
class _World:
    theme: _Theme
    people: list[str]
    has: dict[str, tuple[bool, ...]]
    levels: int

    def rules(self) -> list[str]:
        (first, second, *barred), classes = self.theme.features, self.theme.classes
        rules = [f"如果一个人{first[0]}并且{second[0]}，那么这个人是{classes[0]}。"]
        for level in range(1, self.levels):
            absent = barred[level - 1][1]
            rules.append(f"如果一个人是{classes[level - 1]}并且{absent}，那么这个人是{classes[level]}。")
        return [*rules, "没有提到的情况都当作没有发生。"]


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw people and their features, and ask who falls in which class."""
    theme = rng.choice(_THEMES)
    people = name_lists.people(rng, 2 + difficulty)
    levels = 2 if difficulty < 3 else 3
    has = {
        one: (*(rng.random() < 0.75 for _ in range(2)), *(rng.random() < 0.4 for _ in range(2)))
        for one in people
    }
    world = _World(theme, people, has, levels)
    used = levels + 1
    facts = [f"{one}{theme.features[at][0]}。" for one in people for at in range(used) if has[one][at]]
    problem = statement(
        rng, f"{theme.scene}：{'、'.join(people)}。", rng.sample(facts, len(facts)), world.rules()
    )
    wanted = rng.randint(1, 2)
    levels_asked = rng.sample(range(levels), wanted)
    queries = [_ask(rng, world, level) for level in levels_asked for _ in range(2)]
    return puzzle(problem, queries, wanted)


def _ask(rng: Random, world: _World, level: int) -> Query | None:
    slips = [(one, at) for one in world.people for at in range(level + 2)]
    right = _trace(world, level, None)
    slipped = [_trace(world, level, slip) for slip in slips]
    name = world.theme.classes[level]
    wording = Wording(f"哪些人是{name}？", f"有几个人是{name}？", f"{{}}是{name}吗？", f"所以，{name}有{{}}")
    return question_types.members(rng, wording, right, slipped, world.people, _solve(world)[level])


def _trace(world: _World, level: int, slip: tuple[str, int] | None) -> Finding:
    steps, members = [], []
    for one in world.people:
        has = [stated != ((one, at) == slip) for at, stated in enumerate(world.has[one])]
        steps.append(_examine(world.theme, one, has, level))
        if has[0] and has[1] and not any(has[2 : level + 2]):
            members.append(one)
    return Finding(tuple(steps), tuple(members))


def _examine(theme: _Theme, person: str, has: list[bool], level: int) -> str:
    """Render the relevant features of one person, then the verdict."""
    features = [theme.features[at][0 if has[at] else 1] for at in range(level + 2)]
    belongs = has[0] and has[1] and not any(has[2 : level + 2])
    return f"{person}{'，'.join(features)}，{'是' if belongs else '不是'}{theme.classes[level]}。"


def _solve(world: _World) -> list[list[str]]:
    """Apply the rules in order, each to the class the one before it made; return every class's members."""
    stages = [[one for one in world.people if world.has[one][0] and world.has[one][1]]]
    for level in range(1, world.levels):
        stages.append([one for one in stages[-1] if not world.has[one][level + 1]])
    return stages
