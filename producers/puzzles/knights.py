"""Knights and knaves: the one always tells the truth, the other always lies.

    甲说：“我和乙都是无赖。” 乙说：“丙是无赖。”

One statement opens the puzzle, every other one passes the finding on; the solver tries all assignments.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.question_types import Finding, SetQuestions, Wording
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement


@dataclass(frozen=True)
class _Texts:
    types: tuple[str, str]
    """The knave, then the knight: False and True."""
    plurals: tuple[str, str]
    scenes: tuple[str, ...]
    people: str
    quote: str
    sayings: dict[str, str]
    asked: Wording
    ask_one: str
    so_one: str
    openings: dict[str, str]
    passed_on: tuple[str, str]
    """How a liar, and how an honest speaker, passes the finding on."""
    judged: str


_TEXTS = {
    "zh": _Texts(
        types=("无赖", "骑士"),
        plurals=("无赖", "骑士"),
        scenes=("一个岛上住着两种人", "某个村子里有两种人"),
        people="{scene}：骑士永远说真话，无赖永远说假话。这里有{n}个人：{names}。",
        quote="{who}说：“{saying}。”",
        sayings={
            "both": "我和{other}都是无赖",
            "either": "我和{other}中至少有一个是无赖",
            "knight": "{other}是骑士",
            "knave": "{other}是无赖",
        },
        asked=Wording(
            which="谁是{type}？",
            count="这里有几个{type}？",
            whether="{member}是{type}吗？",
            conclusion="综上，{type}是{members}",
        ),
        ask_one="{who}是什么人？",
        so_one="所以{who}是{type}。",
        openings={
            "both": "{me}说“{saying}”。{me}如果是骑士，就等于承认自己是无赖，矛盾，"
            "所以{me}是无赖，这句话是假的，因此{you}是{type}。",
            "either": "{me}说“{saying}”。{me}如果是无赖，这句话就成了真话，矛盾，"
            "所以{me}是骑士，这句话是真的，因此{you}是{type}。",
        },
        passed_on=(
            "{who}是无赖，说的是假话，{who}说“{saying}”，所以{other}是{type}。",
            "{who}是骑士，说的是真话，{who}说“{saying}”，所以{other}是{type}。",
        ),
        judged="{who}说“{saying}”，已知{other}是{known}，所以{who}是{type}。",
    ),
    "en": _Texts(
        types=("knave", "knight"),
        plurals=("knaves", "knights"),
        scenes=("Two kinds of people live on an island", "There are two kinds of people in a village"),
        people="{scene}: knights always tell the truth, and knaves always lie. "
        "There are {n} people here: {names}.",
        quote="{who} says: “{saying}.”",
        sayings={
            "both": "{other} and I are both knaves",
            "either": "At least one of {other} and me is a knave",
            "knight": "{other} is a knight",
            "knave": "{other} is a knave",
        },
        asked=Wording(
            which="Which people are {types}?",
            count="How many {types} are there?",
            whether="Is {member} a {type}?",
            conclusion="so only {members} {n:is a {type}|are {types}}",
        ),
        ask_one="Is {who} a knight or a knave?",
        so_one="so {who} is a {type}.",
        openings={
            "both": "{me} says “{saying}”; if {me} were a knight, that would be admitting to being a knave, "
            "a contradiction, so {me} is a knave and the statement is false, which makes {you} a {type}.",
            "either": "{me} says “{saying}”; if {me} were a knave, the statement would be true, "
            "a contradiction, so {me} is a knight and the statement is true, which makes {you} a {type}.",
        },
        passed_on=(
            "{who} is a knave and therefore lies; {who} says “{saying}”, so {other} is a {type}.",
            "{who} is a knight and tells the truth; {who} says “{saying}”, so {other} is a {type}.",
        ),
        judged="{who} says “{saying}”; we know that {other} is a {known}, so {who} is a {type}.",
    ),
}


Trace = tuple[list[str], list[bool]]  # steps, and who is a knight


@dataclass(frozen=True)
class _Saying:
    kind: str
    speaker: int
    about: int

    def render(self, texts: _Texts, names: list[str]) -> str:
        return texts.sayings[self.kind].format(other=names[self.about])

    def true(self, knights: tuple[bool, ...]) -> bool:
        me, other = knights[self.speaker], knights[self.about]
        return {
            "both": not me and not other,
            "either": not me or not other,
            "knight": other,
            "knave": not other,
        }[self.kind]


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw islanders and what they say, and ask who is what."""
    texts = _TEXTS[language.code]
    names = rng.sample(NAMES[language.code].people, 2 + difficulty)
    sayings = _sayings(rng, len(names))
    solved = _solve(sayings, len(names))
    if solved is None:
        return None
    statements = [
        texts.quote.format(who=names[one.speaker], saying=one.render(texts, names)) for one in sayings
    ]
    scene = texts.people.format(scene=rng.choice(texts.scenes), n=len(names), names=language.listed(names))
    problem = statement(rng, language, scene, rng.sample(statements, len(statements)))
    wanted = rng.randint(1, 2)
    queries = [_ask(rng, language, names, sayings, solved) for _ in range(wanted * 3)]
    return puzzle(problem, queries, wanted)


def _sayings(rng: Random, count: int) -> list[_Saying]:
    """Open with the first two, then tie every further person to one already known."""
    sayings = [_Saying(rng.choice(("both", "either")), 0, 1)]
    for new in range(2, count):
        old = rng.randrange(new)
        free = old not in {saying.speaker for saying in sayings}
        speaker, about = (old, new) if free and rng.random() < 0.7 else (new, old)
        sayings.append(_Saying(rng.choice(("knight", "knave", "knave")), speaker, about))
    return sayings


def _solve(sayings: list[_Saying], count: int) -> tuple[bool, ...] | None:
    models = [
        model
        for model in product((True, False), repeat=count)
        if all(saying.true(model) == model[saying.speaker] for saying in sayings)
    ]
    return models[0] if len(models) == 1 else None


def _ask(
    rng: Random, language: Language, names: list[str], sayings: list[_Saying], solved: tuple[bool, ...]
) -> Query | None:
    texts = _TEXTS[language.code]
    traces = [_trace(texts, names, sayings, slip) for slip in (None, *range(len(sayings)))]
    if rng.random() < 0.12:
        return _ask_one(texts, names, rng.randrange(len(names)), traces, solved)
    kind = rng.choice((True, False))
    findings = [
        Finding(tuple(steps), tuple(name for name, one in zip(names, knights, strict=True) if one == kind))
        for steps, knights in traces
    ]
    wording = texts.asked.about(type=texts.types[kind], types=texts.plurals[kind])
    right = [name for name, knight in zip(names, solved, strict=True) if knight == kind]
    return SetQuestions(language, wording, findings[0], findings[1:], names, right).draw(rng)


def _ask_one(
    texts: _Texts, names: list[str], who: int, traces: list[Trace], solved: tuple[bool, ...]
) -> Query | None:
    def end(steps: list[str], knight: bool) -> Chain:
        result = texts.types[knight]
        return Chain((*steps, texts.so_one.format(who=names[who], type=result)), result)

    right, *slips = (end(steps, knights[who]) for steps, knights in traces)
    ask = texts.ask_one.format(who=names[who])
    return question_types.value(ask, right, slips, texts.types[::-1], texts.types[solved[who]])


def _trace(texts: _Texts, names: list[str], sayings: list[_Saying], slip: int | None) -> Trace:
    """Pass the finding from statement to statement; the slip turns one conclusion round."""
    opening = sayings[0]
    liar = opening.kind == "both"
    other = liar != (slip == 0)
    knights = {0: not liar, 1: other}
    steps = [_open(texts, names, opening, other)]
    for place, saying in enumerate(sayings[1:], 1):
        new = saying.about if saying.speaker in knights else saying.speaker
        is_knight = knights[saying.speaker + saying.about - new]
        knights[new] = (is_knight == (saying.kind == "knight")) != (place == slip)
        steps.append(_pass_on(texts, names, saying, is_knight, knights[new], new == saying.about))
    return steps, [knights[place] for place in range(len(names))]


def _open(texts: _Texts, names: list[str], saying: _Saying, other: bool) -> str:
    return texts.openings[saying.kind].format(
        me=names[saying.speaker],
        you=names[saying.about],
        saying=saying.render(texts, names),
        type=texts.types[other],
    )


def _pass_on(
    texts: _Texts, names: list[str], saying: _Saying, known: bool, conclusion: bool, forward: bool
) -> str:
    """Conclude what the other is from what the speaker is (`forward`), or the reverse."""
    return (texts.passed_on[known] if forward else texts.judged).format(
        who=names[saying.speaker],
        other=names[saying.about],
        saying=saying.render(texts, names),
        known=texts.types[known],
        type=texts.types[conclusion],
    )
