"""Rule tables: the first rule that matches decides.

    2. 如果重量大于10公斤，则按“大件”处理。

The trace walks the table; the solver collects every rule that fits and takes the least.
"""

from dataclasses import dataclass, replace
from random import Random

from producers.puzzles import question_types
from producers.puzzles.types import Chain, Puzzle, Query, number, puzzle


@dataclass(frozen=True)
class _Theme:
    scene: str
    thing: str
    measures: tuple[tuple[str, str, int, int], ...]
    flags: tuple[tuple[str, str], ...]
    outcomes: tuple[str, ...]


_THEMES = (
    _Theme(
        "一家快递站收到了几个包裹，按规则表把包裹放进不同的箱子",
        "包裹",
        (("重量", "公斤", 1, 20), ("运送距离", "公里", 10, 90)),
        (("易碎", "不易碎"), ("加急", "不加急")),
        ("一号箱", "二号箱", "三号箱", "四号箱", "五号箱", "六号箱"),
    ),
    _Theme(
        "一个景区按规则表决定每位游客买哪种票",
        "游客",
        (("年龄", "岁", 5, 80), ("停留时间", "小时", 1, 9)),
        (("有学生证", "没有学生证"), ("有年卡", "没有年卡")),
        ("红票", "黄票", "蓝票", "绿票", "白票", "紫票"),
    ),
    _Theme(
        "一家工厂按规则表给零件评级",
        "零件",
        (("长度", "毫米", 10, 60), ("误差", "微米", 1, 30)),
        (("有划痕", "没有划痕"), ("有编号", "没有编号")),
        ("特级", "一级", "二级", "三级", "返修", "报废"),
    ),
)


@dataclass(frozen=True)
class _Rule:
    attribute: int
    more: bool
    limit: int
    outcome: str

    def condition(self, theme: _Theme) -> str:
        if self.attribute >= 2:
            return theme.flags[self.attribute - 2][0 if self.more else 1]
        name, unit, _, _ = theme.measures[self.attribute]
        return f"{name}{'大于' if self.more else '小于'}{self.limit}{unit}"

    def fits(self, item: "_Item") -> bool:
        here = item.values[self.attribute]
        return here > self.limit if self.more else here < self.limit


@dataclass(frozen=True)
class _Item:
    name: str
    values: tuple[int, ...]

    def show(self, theme: _Theme, attribute: int) -> str:
        if attribute >= 2:
            return theme.flags[attribute - 2][0 if self.values[attribute] else 1]
        name, unit, _, _ = theme.measures[attribute]
        return f"{name}是{self.values[attribute]}{unit}"


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw a table and items, and ask where they belong."""
    theme = rng.choice(_THEMES)
    outcomes = rng.sample(theme.outcomes, 3 + difficulty)
    attributes = rng.sample((0, 1, 2, 3, 0, 1)[: 4 + difficulty], 2 + difficulty)
    rules = [_rule(rng, theme, *pair) for pair in zip(attributes, outcomes, strict=False)]
    items = [_item(rng, theme, f"{theme.thing}{name}") for name in "甲乙丙丁戊"[: 2 + difficulty]]
    default = outcomes[-1]
    # Two limits on the same side of one measure would leave a rule that never decides.
    if len({(rule.attribute, rule.more) for rule in rules}) < len(rules):
        return None
    lines = [f"如果{rule.condition(theme)}，则定为“{rule.outcome}”。" for rule in rules]
    lines.append(f"如果以上各条都不符合，则定为“{default}”。")
    listed = [f"{item.name}：{'，'.join(item.show(theme, one) for one in range(4))}。" for item in items]
    intro = f"{theme.scene}。从第1条开始依次检查，只按第一条符合的规则来定。规则如下："
    problem = "\n\n".join((intro, number(lines), "已知情况如下：", "\n".join(f"- {one}" for one in listed)))
    problem += "\n\n" + rng.choice(("根据以上信息，回答以下选择题：", "请根据规则表，回答以下选择题："))
    wanted = rng.randint(1, 2)
    return puzzle(problem, [_ask(rng, theme, rules, items, default) for _ in range(wanted * 8)], wanted)


def _rule(rng: Random, theme: _Theme, attribute: int, outcome: str) -> _Rule:
    if attribute >= 2:
        has = rng.random() < 0.5
        return _Rule(attribute, has, 0 if has else 1, outcome)
    _, _, low, high = theme.measures[attribute]
    more = rng.random() < 0.5
    share = rng.uniform(0.5, 0.85)
    limit = round(low + (high - low) * (share if more else 1 - share))
    return _Rule(attribute, more, limit, outcome)


def _item(rng: Random, theme: _Theme, name: str) -> _Item:
    measured = [rng.randint(low, high) for _, _, low, high in theme.measures]
    return _Item(name, (*measured, rng.randint(0, 1), rng.randint(0, 1)))


def _ask(rng: Random, theme: _Theme, rules: list[_Rule], items: list[_Item], default: str) -> Query | None:
    item, *others = rng.sample(items, len(items))
    answer = _solve(rules, item, default)
    right = _derive(theme, rules, item, default, None)
    wrong = [_slip(rng, theme, rules, item, others, default, right)]
    if wrong[0].result == answer:
        return None
    spare = [rule.outcome for rule in rules] + [default]
    rng.shuffle(spare)
    if rng.random() < 0.25:
        return question_types.claim(rng, f"{item.name}应定为“{{}}”，这样说对吗？", right, wrong, answer)
    ask = rng.choice((f"{item.name}应定为什么？", f"按照规则表，{item.name}的结果是什么？"))
    return question_types.value(ask, right, wrong, spare, answer)


def _slip(
    rng: Random,
    theme: _Theme,
    rules: list[_Rule],
    item: _Item,
    others: list[_Item],
    default: str,
    right: Chain,
) -> Chain:
    """Misread one attribute or misjudge one comparison; return the right chain if that has no effect."""
    if rng.random() < 0.65:
        attribute, values = rng.randrange(4), list(item.values)
        values[attribute] = rng.choice(others).values[attribute]
        return _derive(theme, rules, replace(item, values=tuple(values)), default, None)
    place = rng.randrange(len(rules))
    early = place < len(right.steps) - 1
    # A rule fits about one time in three: halving the early stops makes wrong texts as long as right ones.
    if not _close_call(theme, rules[place], item) or (early and rng.random() < 0.5):
        return right
    return _derive(theme, rules, item, default, place)


def _close_call(theme: _Theme, rule: _Rule, item: _Item) -> bool:
    """Return whether a comparison is close enough for a plausible mistake."""
    if rule.attribute >= 2:
        return False
    _, _, low, high = theme.measures[rule.attribute]
    return abs(item.values[rule.attribute] - rule.limit) <= (high - low) / 4


def _derive(theme: _Theme, rules: list[_Rule], item: _Item, default: str, slip: int | None) -> Chain:
    steps = []
    for place, rule in enumerate(rules):
        fits = rule.fits(item) != (place == slip)
        head = f"第{place + 1}条要求{rule.condition(theme)}，{item.name}{item.show(theme, rule.attribute)}"
        if fits:
            steps.append(f"{head}，符合，定为“{rule.outcome}”。")
            return Chain(tuple(steps), rule.outcome)
        steps.append(f"{head}，不符合，继续往下看。")
    steps.append(f"前面各条都不符合，所以定为“{default}”。")
    return Chain(tuple(steps), default)


def _solve(rules: list[_Rule], item: _Item, default: str) -> str:
    fitting = [place for place in range(len(rules)) if rules[place].fits(item)]
    return rules[min(fitting)].outcome if fitting else default
