"""Rule tables: the first rule that matches decides.

    2. 如果重量大于10公斤，则按“大件”处理。

The trace walks the table; the solver collects every rule that fits and takes the least.
"""

from dataclasses import dataclass, replace
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Count, Language
from producers.puzzles.types import Chain, Puzzle, Query, number, puzzle

# The lowest and the highest value of the two measures of each theme.
_RANGES = (((1, 20), (10, 90)), ((5, 80), (1, 9)), ((10, 60), (1, 30)))


@dataclass(frozen=True)
class _Theme:
    scene: str
    thing: str
    measures: tuple[tuple[str, str], ...]
    flags: tuple[tuple[str, str], ...]
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class _Texts:
    themes: tuple[_Theme, ...]
    names: tuple[str, ...]
    """Of the items, with a place for the thing they are."""
    intro: str
    known: str
    outros: tuple[str, ...]
    more: str
    less: str
    equal: str
    rule: str
    default_rule: str
    item: str
    asks: tuple[str, ...]
    claim: str
    fits: str
    fails: str
    default: str


_TEXTS = {
    "zh": _Texts(
        themes=(
            _Theme(
                "一家快递站收到了几个包裹，按规则表把包裹放进不同的箱子。",
                "包裹",
                (("重量", "公斤"), ("运送距离", "公里")),
                (("易碎", "不易碎"), ("加急", "不加急")),
                ("一号箱", "二号箱", "三号箱", "四号箱", "五号箱", "六号箱"),
            ),
            _Theme(
                "一个景区按规则表决定每位游客买哪种票。",
                "游客",
                (("年龄", "岁"), ("停留时间", "小时")),
                (("有学生证", "没有学生证"), ("有年卡", "没有年卡")),
                ("红票", "黄票", "蓝票", "绿票", "白票", "紫票"),
            ),
            _Theme(
                "一家工厂按规则表给零件评级。",
                "零件",
                (("长度", "毫米"), ("误差", "微米")),
                (("有划痕", "没有划痕"), ("有编号", "没有编号")),
                ("特级", "一级", "二级", "三级", "返修", "报废"),
            ),
        ),
        names=("{}甲", "{}乙", "{}丙", "{}丁", "{}戊"),
        intro="{scene}从第1条开始依次检查，只按第一条符合的规则来定。规则如下：",
        known="已知情况如下：",
        outros=("根据以上信息，回答以下选择题：", "请根据规则表，回答以下选择题："),
        more="{name}大于{value}{unit}",
        less="{name}小于{value}{unit}",
        equal="{name}是{value}{unit}",
        rule="如果{condition}，则定为“{outcome}”。",
        default_rule="如果以上各条都不符合，则定为“{outcome}”。",
        item="{item}：{shown}。",
        asks=("{item}应定为什么？", "按照规则表，{item}的结果是什么？"),
        claim="{item}应定为“{claimed}”，这样说对吗？",
        fits="第{rule}条要求{condition}，{item}{shown}，符合，定为“{outcome}”。",
        fails="第{rule}条要求{condition}，{item}{shown}，不符合，继续往下看。",
        default="前面各条都不符合，所以定为“{outcome}”。",
    ),
    "en": _Texts(
        themes=(
            _Theme(
                "A parcel office uses a table of rules to sort several parcels into boxes.",
                "parcel",
                (("the weight", " kg"), ("the distance", " km")),
                (("the parcel is fragile", "the parcel is not fragile"),
                 ("the parcel is urgent", "the parcel is not urgent")),
                ("box 1", "box 2", "box 3", "box 4", "box 5", "box 6"),
            ),
            _Theme(
                "A park uses a table of rules to decide the colour of each visitor's ticket.",
                "visitor",
                (("the age", "{n: year| years}"), ("the stay", "{n: hour| hours}")),
                (("the visitor has a student card", "the visitor has no student card"),
                 ("the visitor has an annual pass", "the visitor has no annual pass")),
                ("red", "yellow", "blue", "green", "white", "purple"),
            ),
            _Theme(
                "A factory uses a table of rules to grade its parts.",
                "part",
                (("the length", " mm"), ("the error", " µm")),
                (("the part is scratched", "the part is not scratched"),
                 ("the part has a serial number", "the part has no serial number")),
                ("premium", "grade 1", "grade 2", "grade 3", "repair", "scrap"),
            ),
        ),
        names=("{} P", "{} Q", "{} R", "{} S", "{} T"),
        intro="{scene} Check the rules one after another from rule 1 on; only the first rule that applies "
        "decides. The rules are:",
        known="The following is known:",
        outros=("Use this information to answer the following multiple-choice question:",
                "Use the table of rules to answer the following multiple-choice question:"),
        more="{name} is more than {value}{unit}",
        less="{name} is less than {value}{unit}",
        equal="{name} is {value}{unit}",
        rule="If {condition}, the result is “{outcome}”.",
        default_rule="If none of the rules above applies, the result is “{outcome}”.",
        item="{item}: {shown}.",
        asks=("What is the result for {item}?", "According to the rules, what is the result for {item}?"),
        claim="Someone says that the result for {item} is “{claimed}”. Is that true?",
        fits="rule {rule} applies if {condition}; for {item}, {shown}, so it applies and gives “{outcome}”.",
        fails="rule {rule} applies if {condition}; for {item}, {shown}, so it does not apply and we go on.",
        default="none of these rules applies, so the result is “{outcome}”.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _World:
    texts: _Texts
    theme: _Theme
    ranges: tuple[tuple[int, int], ...]
    rules: "list[_Rule]"
    default: str

    def flag(self, attribute: int, holds: bool) -> str:
        return self.theme.flags[attribute - 2][0 if holds else 1]

    def measure(self, template: str, attribute: int, value: int) -> str:
        name, unit = self.theme.measures[attribute]
        return template.format(name=name, value=value, unit=unit.format(n=Count(value)))


@dataclass(frozen=True)
class _Rule:
    attribute: int
    more: bool
    limit: int
    outcome: str

    def condition(self, world: _World) -> str:
        if self.attribute >= 2:
            return world.flag(self.attribute, self.more)
        template = world.texts.more if self.more else world.texts.less
        return world.measure(template, self.attribute, self.limit)

    def fits(self, item: "_Item") -> bool:
        here = item.values[self.attribute]
        return here > self.limit if self.more else here < self.limit


@dataclass(frozen=True)
class _Item:
    name: str
    values: tuple[int, ...]

    def show(self, world: _World, attribute: int) -> str:
        if attribute >= 2:
            return world.flag(attribute, bool(self.values[attribute]))
        return world.measure(world.texts.equal, attribute, self.values[attribute])


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw a table and items, and ask where they belong."""
    texts = _TEXTS[language.code]
    theme, ranges = rng.choice(list(zip(texts.themes, _RANGES, strict=True)))
    outcomes = rng.sample(theme.outcomes, 3 + difficulty)
    attributes = rng.sample((0, 1, 2, 3, 0, 1)[: 4 + difficulty], 2 + difficulty)
    rules = [_rule(rng, ranges, *pair) for pair in zip(attributes, outcomes, strict=False)]
    items = [_item(rng, ranges, name.format(theme.thing)) for name in texts.names[: 2 + difficulty]]
    world = _World(texts, theme, ranges, rules, outcomes[-1])
    # Two limits on the same side of one measure would leave a rule that never decides.
    if len({(rule.attribute, rule.more) for rule in rules}) < len(rules):
        return None
    problem = _problem(rng, language, world, items)
    wanted = rng.randint(1, 2)
    queries = [_ask(rng, language, world, items) for _ in range(wanted * 8)]
    return puzzle(problem, queries, wanted)


def _problem(rng: Random, language: Language, world: _World, items: list[_Item]) -> str:
    texts = world.texts
    lines = [texts.rule.format(condition=rule.condition(world), outcome=rule.outcome) for rule in world.rules]
    lines.append(texts.default_rule.format(outcome=world.default))
    listed = []
    for item in items:
        shown = language.clauses([item.show(world, one) for one in range(4)])
        listed.append("- " + language.sentence(texts.item.format(item=item.name, shown=shown)))
    intro = texts.intro.format(scene=world.theme.scene)
    return "\n\n".join((intro, number(lines), texts.known, "\n".join(listed), rng.choice(texts.outros)))


def _rule(rng: Random, ranges: tuple[tuple[int, int], ...], attribute: int, outcome: str) -> _Rule:
    if attribute >= 2:
        has = rng.random() < 0.5
        return _Rule(attribute, has, 0 if has else 1, outcome)
    low, high = ranges[attribute]
    more = rng.random() < 0.5
    share = rng.uniform(0.5, 0.85)
    limit = round(low + (high - low) * (share if more else 1 - share))
    return _Rule(attribute, more, limit, outcome)


def _item(rng: Random, ranges: tuple[tuple[int, int], ...], name: str) -> _Item:
    measured = [rng.randint(low, high) for low, high in ranges]
    return _Item(name, (*measured, rng.randint(0, 1), rng.randint(0, 1)))


def _ask(rng: Random, language: Language, world: _World, items: list[_Item]) -> Query | None:
    item, *others = rng.sample(items, len(items))
    answer = _solve(world, item)
    right = _derive(world, item, None)
    wrong = [_slip(rng, world, item, others, right)]
    if wrong[0].result == answer:
        return None
    spare = [rule.outcome for rule in world.rules] + [world.default]
    rng.shuffle(spare)
    if rng.random() < 0.25:
        names = {"item": item.name}
        return question_types.claim(rng, language, world.texts.claim, names, right, wrong, answer)
    ask = rng.choice(world.texts.asks).format(item=item.name)
    return question_types.value(ask, right, wrong, spare, answer)


def _slip(rng: Random, world: _World, item: _Item, others: list[_Item], right: Chain) -> Chain:
    """Misread one attribute or misjudge one comparison; return the right chain if that has no effect."""
    if rng.random() < 0.65:
        attribute, values = rng.randrange(4), list(item.values)
        values[attribute] = rng.choice(others).values[attribute]
        return _derive(world, replace(item, values=tuple(values)), None)
    place = rng.randrange(len(world.rules))
    early = place < len(right.steps) - 1
    # A rule fits about one time in three: halving the early stops makes wrong texts as long as right ones.
    if not _close_call(world, world.rules[place], item) or (early and rng.random() < 0.5):
        return right
    return _derive(world, item, place)


def _close_call(world: _World, rule: _Rule, item: _Item) -> bool:
    """Return whether a comparison is close enough for a plausible mistake."""
    if rule.attribute >= 2:
        return False
    low, high = world.ranges[rule.attribute]
    return abs(item.values[rule.attribute] - rule.limit) <= (high - low) / 4


def _derive(world: _World, item: _Item, slip: int | None) -> Chain:
    steps = []
    for place, rule in enumerate(world.rules):
        fits = rule.fits(item) != (place == slip)
        template = world.texts.fits if fits else world.texts.fails
        shown = item.show(world, rule.attribute)
        words = {"condition": rule.condition(world), "item": item.name, "shown": shown}
        steps.append(template.format(rule=place + 1, outcome=rule.outcome, **words))
        if fits:
            return Chain(tuple(steps), rule.outcome)
    steps.append(world.texts.default.format(outcome=world.default))
    return Chain(tuple(steps), world.default)


def _solve(world: _World, item: _Item) -> str:
    fitting = [place for place, rule in enumerate(world.rules) if rule.fits(item)]
    return world.rules[min(fitting)].outcome if fitting else world.default
