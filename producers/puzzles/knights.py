"""Knights and knaves: the one always tells the truth, the other always lies.

    甲说：“我和乙都是无赖。” 乙说：“丙是无赖。”

One statement opens the puzzle, every other one passes the finding on; the solver tries all assignments.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.question_types import Finding, Wording
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

KNIGHT, KNAVE = "骑士", "无赖"


@dataclass(frozen=True)
class _Saying:
    kind: str
    speaker: int
    about: int

    def render(self, names: list[str]) -> str:
        other = names[self.about]
        return {
            "both": f"我和{other}都是{KNAVE}",
            "either": f"我和{other}中至少有一个是{KNAVE}",
            "knight": f"{other}是{KNIGHT}",
            "knave": f"{other}是{KNAVE}",
        }[self.kind]

    def true(self, knights: tuple[bool, ...]) -> bool:
        me, other = knights[self.speaker], knights[self.about]
        return {
            "both": not me and not other,
            "either": not me or not other,
            "knight": other,
            "knave": not other,
        }[self.kind]


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw islanders and what they say, and ask who is what."""
    names = name_lists.people(rng, 2 + difficulty)
    sayings = _sayings(rng, len(names))
    solved = _solve(sayings, len(names))
    if solved is None:
        return None
    statements = [f"{names[one.speaker]}说：“{one.render(names)}。”" for one in sayings]
    scene = rng.choice(("一个岛上住着两种人", "某个村子里有两种人"))
    scene += f"：{KNIGHT}永远说真话，{KNAVE}永远说假话。这里有{len(names)}个人：{'、'.join(names)}。"
    problem = statement(rng, scene, rng.sample(statements, len(statements)))
    wanted = rng.randint(1, 2)
    queries = [_ask(rng, names, sayings, solved) for _ in range(wanted * 3)]
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


def _ask(rng: Random, names: list[str], sayings: list[_Saying], solved: tuple[bool, ...]) -> Query | None:
    traces = [_trace(names, sayings, slip) for slip in (None, *range(len(sayings)))]
    if rng.random() < 0.12:
        return _ask_one(rng, names, traces, solved)
    kind = rng.choice((KNIGHT, KNAVE))
    findings = [_members(names, steps, knights, kind == KNIGHT) for steps, knights in traces]
    wording = Wording(f"谁是{kind}？", f"这里有几个{kind}？", f"{{}}是{kind}吗？", f"综上，{kind}是{{}}")
    right = [name for name, knight in zip(names, solved, strict=True) if knight == (kind == KNIGHT)]
    return question_types.members(rng, wording, findings[0], findings[1:], names, right)


def _ask_one(
    rng: Random, names: list[str], traces: list[tuple[list[str], list[bool]]], solved: tuple[bool, ...]
) -> Query | None:
    who = rng.randrange(len(names))
    chains = [
        Chain((*steps, f"所以{names[who]}是{_type(knights[who])}。"), _type(knights[who]))
        for steps, knights in traces
    ]
    spare = (KNIGHT, KNAVE)
    return question_types.value(f"{names[who]}是什么人？", chains[0], chains[1:], spare, _type(solved[who]))


def _members(names: list[str], steps: list[str], knights: list[bool], knight: bool) -> Finding:
    return Finding(
        tuple(steps), tuple(name for name, one in zip(names, knights, strict=True) if one == knight)
    )


def _trace(names: list[str], sayings: list[_Saying], slip: int | None) -> tuple[list[str], list[bool]]:
    """Pass the finding from statement to statement; the slip turns one conclusion round."""
    opening = sayings[0]
    liar = opening.kind == "both"
    other = liar != (slip == 0)
    knights = {0: not liar, 1: other}
    steps = [_open(names, opening, _type(other))]
    for place, saying in enumerate(sayings[1:], 1):
        new = saying.about if saying.speaker in knights else saying.speaker
        is_knight = knights[saying.speaker + saying.about - new]
        knights[new] = (is_knight == (saying.kind == "knight")) != (place == slip)
        steps.append(_pass_on(names, saying, new, is_knight, _type(knights[new])))
    return steps, [knights[place] for place in range(len(names))]


def _open(names: list[str], saying: _Saying, other: str) -> str:
    me, you = names[saying.speaker], names[saying.about]
    if saying.kind == "both":
        why = f"{me}如果是{KNIGHT}，就等于承认自己是{KNAVE}，矛盾，所以{me}是{KNAVE}，这句话是假的"
    else:
        why = f"{me}如果是{KNAVE}，这句话就成了真话，矛盾，所以{me}是{KNIGHT}，这句话是真的"
    return f"{me}说“{saying.render(names)}”。{why}，因此{you}是{other}。"


def _pass_on(names: list[str], saying: _Saying, new: int, is_knight: bool, conclusion: str) -> str:
    who, text = names[saying.speaker], saying.render(names)
    if new == saying.about:
        manner = "真话" if is_knight else "假话"
        return f"{who}是{_type(is_knight)}，说的是{manner}，{who}说“{text}”，所以{names[new]}是{conclusion}。"
    return f"{who}说“{text}”，已知{names[saying.about]}是{_type(is_knight)}，所以{who}是{conclusion}。"


def _type(knight: bool) -> str:
    return KNIGHT if knight else KNAVE
