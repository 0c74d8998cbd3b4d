"""Reads the printed puzzles, and nothing else, and solves them by other means than the generator's.

A reader solves once and reads in each language: it picks its patterns from pairs, `of("谁是", "Who is")`.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import pytest

from producers import sample
from producers.puzzles.families import FAMILIES

Of = Callable[[str, str], str]
Reader = Callable[[str, str, Of], str]
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th")
LANGUAGES: dict[str, Of] = {"zh": lambda zh, en: zh, "en": lambda zh, en: en}


def _find(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in {text!r}"
    return found.groups()


def _yes(true: bool, of: Of) -> str:
    return of("是", "Yes") if true else of("否", "No")


def _words(listed: str) -> list[str]:
    return re.split("、|, | and ", listed)


def _listed(words: list[str], of: Of) -> str:
    return of("、".join(words), " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:]))))


def _about_set(question: str, which: str, count: str, whether: str, members: list[str], of: Of) -> str:
    """Answer any of the three questions about a set."""
    if re.search(which, question):
        return _listed(members, of)
    if re.search(count, question):
        return str(len(members))
    return _yes(_find(whether, question)[0] in members, of)


def _recursion(problem: str, question: str, of: Of) -> str:
    rules = dict(re.findall(r"^\d+\. (.*?)\w\(n\)=(.*)[。.]$", problem, re.M))
    bases = {int(n): int(value) for n, value in re.findall(r"\w\((\d)\)=(\d+)[。.]", problem)}

    @lru_cache
    def value(n: int) -> int:
        if n in bases:
            return bases[n]
        [body] = [
            body
            for when, body in rules.items()
            if not (of("奇数", "odd") in when and n % 2 == 0)
            and not (of("偶数", "even") in when and n % 2 == 1)
        ]
        body = re.sub(r"\w\(n-(\d)\)", lambda back: str(value(n - int(back[1]))), body)
        return sum(_product(term, n) for term in body.split("+"))

    n, claimed = _find(r"\w\((\d+)\)(?:=(\d+))?", question)
    return _yes(value(int(n)) == int(claimed), of) if claimed else str(value(int(n)))


def _product(term: str, n: int) -> int:
    result = 1
    for factor in term.split("×"):
        result *= n if factor == "n" else int(factor)
    return result


def _list_operations(problem: str, question: str, of: Of) -> str:
    numbers = [int(one) for one in _find(r"\[(.*?)\]", problem)[0].split(", ")]
    operations = re.findall(r"^\d+\. (.*)[。.]$", problem, re.M)
    done = re.search(of(r"完成第(\d)步", r"After step (\d)"), question)
    for operation in operations[: int(done[1]) if done else len(operations)]:
        numbers = _operate(operation, numbers, of)
    if place := re.search(of(r"第(\d+)个数", r"the (\d+)\w\w number"), question):
        return str(numbers[int(place[1]) - 1])
    return str(sum(numbers)) if of("和是", "the sum") in question else str(numbers)


def _operate(operation: str, old: list[int], of: Of) -> list[int]:
    new = list(old)
    amount = int(found[0]) if (found := re.findall(r"\d+", operation)) else 0
    if of("删去", "Remove") in operation:
        new.pop(0 if of("第一个", "first") in operation else -1)
    elif of("排序", "Sort") in operation:
        new.sort()
        if of("从大到小", "from largest to smallest") in operation:
            new.reverse()
    elif re.search(of("末尾加上", "Insert.* at the end"), operation):
        new.append(amount)
    elif re.search(of("开头加上", "Insert.* at the beginning"), operation):
        new.insert(0, amount)
    elif re.search(of("移到末尾", "Move the first.* to the end"), operation):
        new.append(new.pop(0))
    elif re.search(of("移到开头", "Move the last.* to the beginning"), operation):
        new.insert(0, new.pop())
    elif of("倒过来", "Reverse") in operation:
        new.reverse()
    elif of("交换", "Swap") in operation:
        new[0], new[-1] = new[-1], new[0]
    else:
        parity = 1 if of("奇数", "odd") in operation else 0
        for place, one in enumerate(new):
            if one % 2 == parity:
                new[place] = one + amount
    return new


def _reachability(problem: str, question: str, of: Of) -> str:
    towns = _words(_find(of(r"涉及的地方有(.*?)。", r"The places are (.*?)\."), problem)[0])
    road = of(r"\d+\. 有\D*?从(..)(?:到|开往|通到)(..)", r"\d+\. There is .* from (\w+) to (\w+)\.")
    roads = set(re.findall(road, problem))
    start = _find(of(r"^从(..)", r"from (\w+)"), question)[0]
    layers = [{start}]
    while fresh := {to for at, to in roads if at in layers[-1]} - set().union(*layers):
        layers.append(fresh)
    if of("最少", "smallest") in question:
        goal = _find(of(r"到(..)，最少", r"to (\w+)\?"), question)[0]
        return str(next(length for length, layer in enumerate(layers) if goal in layer))
    reached = [town for town in towns if town in set().union(*layers) - {start}]
    whether = of(r"能到达(..)吗", r"Can (\w+) be")
    return _about_set(question, of("有哪些", "Which"), of("几个", "How many"), whether, reached, of)


def _knights(problem: str, question: str, of: Of) -> str:
    names = _words(_find(of(r"个人：(.*?)。", r"people here: (.*?)\."), problem)[0])
    said = re.findall(of(r"(\w+)说：“(.*?)。”", r"(\w+) says: “(.*?)\.”"), problem)
    models = []
    for types in product((True, False), repeat=len(names)):
        knight = dict(zip(names, types, strict=True))
        if all(_true(words, me, knight, of) is knight[me] for me, words in said):
            models.append(knight)
    [knight] = models
    if who := re.search(of(r"(\w+)是什么人", r"Is (\w+) a knight or a knave"), question):
        return of("骑士", "knight") if knight[who[1]] else of("无赖", "knave")
    kind = of("骑士", "knight") in question
    members = [name for name in names if knight[name] == kind]
    whether = of(r"(\w+)是..吗", r"Is (\w+) a")
    return _about_set(question, of("谁是", "Which"), of("几个", "How many"), whether, members, of)


def _true(words: str, me: str, knight: dict[str, bool], of: Of) -> bool:
    both = of(r"我和(\w+)都是无赖", r"(\w+) and I are both knaves")
    either = of(r"我和(\w+)中至少有一个是无赖", r"At least one of (\w+) and me is a knave")
    for form, joined in ((both, all), (either, any)):
        if other := re.fullmatch(form, words):
            return joined([not knight[me], not knight[other[1]]])
    other_name, kind = _find(of(r"(\w+)是(骑士|无赖)", r"(\w+) is a (knight|knave)"), words)
    return knight[other_name] == (kind == of("骑士", "knight"))


def _ranking(problem: str, question: str, of: Of) -> str:
    names = _words(_find(of(r"^(.*?)(?:参加|排成)", "^(.*?) (?:ran|entered|are standing)"), problem)[0])
    fixed = re.findall(of(r"(\w+)是第(\d)", r"(\w+) is (\d)(?:st|nd|rd|th)\b"), problem)
    apart = [
        clue.groupdict()
        for clue in re.finditer(
            of(
                r"(?P<one>\w+)排在(?P<two>\w+?)(?P<side>前|后)面，(?:而且|两人之间隔着(?P<gap>\d)个人)",
                r"(?P<one>\w+) is (?:\w+ly )?(?P<side>behind|ahead of) (?P<two>\w+)(?:, with (?P<gap>\d))?",
            ),
            problem,
        )
    ]
    assert len(fixed) + len(apart) == len(re.findall(r"^\d+\.", problem, re.M))
    fitting = []
    for order in permutations(names):
        at = {name: place for place, name in enumerate(order, 1)}
        far = [
            (at[clue["one"]] - at[clue["two"]]) * (1 if clue["side"] in "后behind" else -1)
            == int(clue["gap"] or 0) + 1
            for clue in apart
        ]
        if all(far) and all(at[name] == int(place) for name, place in fixed):
            fitting.append(order)
    [order] = fitting
    if claim := re.search(of(r"有人说(\w+)是第(\d)", r"says that (\w+) is (\d)"), question):
        return _yes(order[int(claim[2]) - 1] == claim[1], of)
    if of("顺序", "order") in question:
        return of("、", ", ").join(order)
    if place := re.search(of(r"第(\d)", r"(\d)"), question):
        return order[int(place[1]) - 1]
    [name] = _find(of(r"(\w+)排在什么位置", r"(\w+)'s position"), question)
    at = order.index(name)
    if "买票" in problem or "tickets" in problem:
        return of(f"第{at + 1}位", f"{ORDINALS[at]} in line")
    return of(f"第{at + 1}名", ORDINALS[at])


def _scheduling(problem: str, question: str, of: Of) -> str:
    takes = of(r"\d+\. “(.*?)”.*?需要(\d)天", r"\d+\. “(.*?)”.*? takes (\d) days?\b")
    jobs = {name: int(days) for name, days in re.findall(takes, problem)}
    waits = dict(
        re.findall(
            of(r"\d+\. “(.*?)”要等(.*?)完成", r"\d+\. “(.*?)” can start only when (.*?) finished"), problem
        )
    )

    def done(job: str) -> int:
        return jobs[job] + max([done(one) for one in re.findall(r"“(.*?)”", waits.get(job, ""))], default=0)

    if of("全部", "all jobs") in question:
        return str(max(done(job) for job in jobs))
    job = _find(r"“(.*?)”", question)[0]
    claimed = re.search(r"\d+", question)
    return _yes(done(job) == int(claimed[0]), of) if claimed else str(done(job))


def _classification(problem: str, question: str, of: Of) -> str:
    people = _words(_find(of(r"的情况：(.*?)。", r"^A .*?: (.*?)\."), problem)[0])
    facts = set(re.findall(of(r"^\d+\. (\w+)。$", r"^\d+\. ([A-Z][a-z]+ has .*)\.$"), problem, re.M))
    rule = of(
        r"如果一个人(\w+)并且(\w+)，那么这个人(是\w+)。",
        r"If a person (.*) and (has .*), then this person (is .*)\.",
    )
    rules = re.findall(rule, problem)

    def so(person: str, what: str) -> bool:
        for first, second, name in rules:
            if what == name:
                return so(person, first) and so(person, second)
        if denied := re.match(of("没有.*(..)", "has (?:not|no|never) (.*)"), what):
            return not any(one.startswith(person) and one.endswith(denied[1]) for one in facts)
        return of(person, person + " ") + what in facts

    name = _find(of(r"是(\w+?)(?:吗)?？", r" (?:are|[A-Z]\w+ an?) (.*?)s?\?"), question)[0]
    [level] = [
        what for _, _, what in rules if re.fullmatch(of(f"是{name}", f"is an? {_singular(name)}"), what)
    ]
    found = [person for person in people if so(person, level)]
    whether = of(r"(\w+)是\w+吗", r"Is (\w+) an? ")
    return _about_set(question, of("哪些人", "Which"), of("几个", "How many"), whether, found, of)


def _singular(name: str) -> str:
    return re.sub("s of ", " of ", name)


def _rule_table(problem: str, question: str, of: Of) -> str:
    thing = _find(of(r"((?:包裹|游客|零件).)", r"for ((?:parcel|visitor|part) [P-T])"), question)[0]
    told = re.split("，|, | and (?=the )", _find(rf"(?i)- {thing}(?:：|: )(.*)[。.]", problem)[0])
    rule = of(r"\d+\. 如果(.*?)，则定为“(.*?)”", r"\d+\. If (.*?), the result is “(.*?)”")
    for condition, outcome in re.findall(rule, problem):
        if _fits(condition, told, of):
            claimed = re.search(r"“(.*?)”", question)
            return _yes(claimed[1] == outcome, of) if claimed else outcome
    raise AssertionError("the last rule always fits")


def _fits(condition: str, told: list[str], of: Of) -> bool:
    if compared := re.match(of(r"(\D+?)(大于|小于)(\d+)", r"(\D+) is (more|less) than (\d+)"), condition):
        measure = compared[1] + of("是", " is ")
        [value] = [int(_find(r"(\d+)", one)[0]) for one in told if one.startswith(measure)]
        return value > int(compared[3]) if compared[2] == of("大于", "more") else value < int(compared[3])
    return condition in told or of("都不符合", "none of the rules above applies") in condition


def _liking(problem: str, question: str, of: Of) -> str:
    fact = of(r"^\d+\. (\w\w)是(.*)。$", r"^\d+\. (.*) are (.*)\.$")
    foods = {name.lower(): _words(kinds) for name, kinds in re.findall(fact, problem, re.M)}
    rules = dict(re.findall(of(r"^\d+\. (\w\w)喜欢(.*)。$", r"^\d+\. (\w+) likes (.*)\.$"), problem, re.M))

    def likes(who: str, food: str) -> bool:
        rule, kinds = rules[who], foods[food]
        if some := re.fullmatch(
            of("(..)喜欢的食物里的所有(?P<kind>.*)", r"all (?P<kind>.*) that (\w+) likes"), rule
        ):
            one = of(some[1], some[2])
            return some["kind"] in kinds and likes(one, food)
        if kind := re.fullmatch(of("所有(.*)", "all (.*)"), rule):
            return kind[1] in kinds
        if but := re.fullmatch(
            of("(..)喜欢的、又不是(.*)的所有食物", r"everything that (\w+) likes except (.*)"), rule
        ):
            return but[2] not in kinds and likes(but[1], food)
        if none := re.fullmatch(of("(..)不喜欢的所有食物", r"everything that (\w+) does not like"), rule):
            return not likes(none[1], food)
        one, joint, two = _find(of("(..)(和|或)(..)", r"(\w+) (and|or) (\w+) likes?$"), rule)
        votes = (likes(one, food), likes(two, food))
        return all(votes) if joint in "和and" else any(votes)

    who = _find(of("^(..)", r"do(?:es)? ([A-Z]\w+) |Does (\w+)"), question.replace("Does", "does"))[0]
    members = [food for food in foods if likes(who, food)]
    whether = of("喜欢(..)吗", r"like (.*)\?")
    return _about_set(question, of("哪些", "Which"), of("几种", "How many"), whether, members, of)


def _kinship(problem: str, question: str, of: Of) -> str:
    parents = re.findall(of(r"(\w\w)是(\w\w)的(父|母)亲", r"(\w+) is (\w+)'s (fa|mo)ther"), problem)
    if through := re.search(of(r"(\w\w)的(父|母)亲(?=的)", r"(\w+)'s (fa|mo)ther(?='s|\?)"), question):
        [via] = [parent for parent, child, side in parents if (child, side) == through.groups()]
        question = question.replace(through[0], via)
    males = _words(_find(of(r"([\w、]*)是男性", r"The men are (.*?);"), problem)[0])
    titles: dict[tuple[str, str], str] = {}
    for child, people in ((child, {one for pair in parents for one in pair[:2]}) for _, child, _ in parents):
        for parent, _, side in (link for link in parents if link[1] == child):
            mine = {link[0] for link in parents if link[1] == parent}
            for one in people - {parent}:
                male = one in males
                if one in mine:
                    titles[one, child] = TITLES[side, "parent", male]
                elif mine & {link[0] for link in parents if link[1] == one}:
                    titles[one, child] = TITLES[side, "sibling", male]
    if which := re.search(of(r"谁是(\w\w)的(\w+)？", r"Who is (\w+)'s (.*)\?"), question):
        [one] = [one for (one, child), title in titles.items() if (child, title) == (which[1], which[2])]
        return one
    one, child = _find(of(r"(\w\w)是(\w\w)的什么人", r"How is (\w+) related to (\w+)"), question)
    return titles[one, child]


READERS: dict[str, Reader] = {
    "kinship": _kinship,
    "ranking": _ranking,
    "recursion": _recursion,
    "list-operations": _list_operations,
    "reachability": _reachability,
    "rule-table": _rule_table,
    "knights": _knights,
    "scheduling": _scheduling,
    "classification": _classification,
    "liking": _liking,
}


TITLES = {
    ("父", "parent", True): "祖父",
    ("父", "parent", False): "祖母",
    ("母", "parent", True): "外祖父",
    ("母", "parent", False): "外祖母",
    ("父", "sibling", True): "叔伯",
    ("父", "sibling", False): "姑姑",
    ("母", "sibling", True): "舅舅",
    ("母", "sibling", False): "姨妈",
    ("fa", "parent", True): "paternal grandfather",
    ("fa", "parent", False): "paternal grandmother",
    ("mo", "parent", True): "maternal grandfather",
    ("mo", "parent", False): "maternal grandmother",
    ("fa", "sibling", True): "paternal uncle",
    ("fa", "sibling", False): "paternal aunt",
    ("mo", "sibling", True): "maternal uncle",
    ("mo", "sibling", False): "maternal aunt",
}


def _right(question: dict[str, Any]) -> str:
    return str(question["options"][ord(question["answer"]) - ord("A")])


def test_every_family_has_a_second_solver() -> None:
    assert set(READERS) == set(FAMILIES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("difficulty", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_right_option_is_proved_by_an_independent_solver(
    family: str, difficulty: int, language: str
) -> None:
    for entry in sample.generate(80, 40 + difficulty, difficulty, [family], language=language):
        for question in entry["questions"]:
            asked = question["question"].split("\n", 1)[1]
            derived = READERS[family](entry["problem"], asked, LANGUAGES[language])
            assert derived == _right(question), f"{entry['problem']}\n{asked}\n{question['options']}"
