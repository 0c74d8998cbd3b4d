"""Reachability puzzles: one-way roads between towns, and the fewest roads to a town.

    有一条从青石到白沙的单行路。

The trace spreads out from the start town by town; the solver closes the relation over all pairs.
"""

from dataclasses import dataclass
from random import Random

from producers.puzzles import question_types
from producers.puzzles.languages import Count, Language
from producers.puzzles.name_lists import NAMES
from producers.puzzles.question_types import Finding, SetQuestions, Wording
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

Road = tuple[str, str]


@dataclass(frozen=True)
class _Texts:
    scenes: tuple[tuple[str, str], ...]
    places: str
    rules: tuple[str, ...]
    asked: Wording
    fewest: str
    arrival: str
    dead_end: str
    onward: str
    known: str


_TEXTS = {
    "zh": _Texts(
        scenes=(
            ("几个村镇之间有一些单行路，只能按指明的方向走。", "有一条从{one}到{other}的单行路。"),
            ("某地的班车只按固定方向开，乘客可以一班接一班地换乘。", "有班车从{one}开往{other}。"),
            ("几个站点之间有单向的传送带，货物可以接着传下去。", "有传送带从{one}通到{other}。"),
        ),
        places="涉及的地方有{places}。",
        rules=(
            "如果从一个地方可以直接到第二个地方，又能从第二个地方到第三个地方，就能从第一个地方到第三个地方。",
            "除此以外没有别的走法。",
        ),
        asked=Wording(
            which="从{start}出发，可以到达的其他地方有哪些？",
            count="从{start}出发，一共可以到达几个其他地方？",
            whether="从{start}出发，能到达{member}吗？",
            conclusion="所以从{start}能到的地方是{members}",
        ),
        fewest="从{start}到{goal}，最少要走几段路？",
        arrival="{goal}是第{roads}段路到的。",
        dead_end="从{place}没有路可走。",
        onward="从{place}可以直接到{onward}，其中新到的是{fresh}，用{roads}段路。",
        known="从{place}可以直接到{onward}，都已经到过。",
    ),
    "en": _Texts(
        scenes=(
            ("Several towns are linked by one-way roads, which can be used only in the direction given.",
             "There is a one-way road from {one} to {other}."),
            ("In one region, buses run only in the directions given, and passengers may change buses.",
             "There is a bus from {one} to {other}."),
            ("Several stations are linked by one-way conveyor belts, and goods can be passed on.",
             "There is a conveyor belt from {one} to {other}."),
        ),
        places="The places are {places}.",
        rules=(
            "If there is a direct connection from one place to a second, then the second can be reached from "
            "the first, and so can every place that can be reached from the second.",
            "There is no other way to get from one place to another.",
        ),
        asked=Wording(
            which="Which other places can be reached from {start}?",
            count="How many other places can be reached from {start}?",
            whether="Can {member} be reached from {start}?",
            conclusion="so only {members} can be reached from {start}",
        ),
        fewest="What is the smallest number of direct connections needed to get from {start} to {goal}?",
        arrival="{goal} is reached after {roads} connections.",
        dead_end="nothing leads on from {place}.",
        onward="from {place} we get directly to {onward}; after {roads:# connection|# connections}, "
        "we reach {fresh} for the first time.",
        known="from {place} we get directly to {onward}, where we have already been.",
    ),
}  # fmt: skip


def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
    """Draw towns and roads, and ask about the way from one town."""
    texts = _TEXTS[language.code]
    towns = rng.sample(NAMES[language.code].places, 4 + difficulty)
    pairs = [(one, other) for one in towns for other in towns if one != other]
    roads = rng.sample(pairs, 3 + 2 * difficulty)
    scene, template = rng.choice(texts.scenes)
    facts = [template.format(one=one, other=other) for one, other in roads]
    start = rng.choice(towns)
    scene += language.space + texts.places.format(places=language.listed(towns))
    problem = statement(rng, language, scene, facts, texts.rules)
    queries = [_members(rng, language, towns, roads, start), _distance(rng, language, towns, roads, start)]
    queries.append(_members(rng, language, towns, roads, rng.choice(towns)))
    rng.shuffle(queries)
    return puzzle(problem, queries, rng.randint(1, 2))


def _slips(rng: Random, towns: list[str], roads: list[Road]) -> list[list[Road]]:
    """Return the roads with one turned round, or read as going elsewhere."""
    slipped = []
    for place, (one, other) in enumerate(roads):
        away = rng.choice([town for town in towns if town not in (one, other)])
        for read in ((other, one), (one, away), (away, other)):
            # A road read as another that exists would be one fewer: a shorter text, which tells.
            if read not in roads:
                slipped.append([*roads[:place], read, *roads[place + 1 :]])
    return slipped


def _members(
    rng: Random, language: Language, towns: list[str], roads: list[Road], start: str
) -> Query | None:
    def find(read: list[Road]) -> Finding:
        steps, distances = _spread(language, read, start)
        return Finding(steps, tuple(town for town in towns if town in distances and town != start))

    wording = _TEXTS[language.code].asked.about(start=start)
    solved = [town for town in towns if town != start and (start, town) in _close(towns, roads)]
    slipped = [find(some) for some in _slips(rng, towns, roads)]
    return SetQuestions(language, wording, find(roads), slipped, towns, solved).draw(rng)


def _distance(
    rng: Random, language: Language, towns: list[str], roads: list[Road], start: str
) -> Query | None:
    texts = _TEXTS[language.code]
    solved = _close(towns, roads)
    far = [town for town in towns if town != start and solved.get((start, town), 0) > 1]
    if not far:
        return None
    goal = rng.choice(far)

    def find(read: list[Road]) -> Chain | None:
        steps, distances = _spread(language, read, start)
        if distances.get(goal, 0) < 2:
            return None
        arrival = texts.arrival.format(goal=goal, roads=distances[goal])
        return Chain((*steps, arrival), str(distances[goal]))

    right = find(roads)
    slipped = [chain for some in _slips(rng, towns, roads) if (chain := find(some))]
    answer = solved[start, goal]
    if right is None:
        return None
    ask = texts.fewest.format(start=start, goal=goal)
    return question_types.value(
        ask, right, slipped, [one for one in question_types.near(rng, answer) if one != "0"], str(answer)
    )


def _spread(language: Language, roads: list[Road], start: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Visit towns in the order they are found; one sentence each."""
    distances = {start: 0}
    steps = []
    for town in (queue := [start]):
        onward = [other for one, other in roads if one == town]
        fresh = [other for other in onward if other not in distances]
        distances.update((other, distances[town] + 1) for other in fresh)
        queue.extend(fresh)
        steps.append(_sentence(language, town, onward, fresh, distances[town] + 1))
    return tuple(steps), distances


def _sentence(language: Language, town: str, onward: list[str], fresh: list[str], length: int) -> str:
    texts = _TEXTS[language.code]
    if not onward:
        return texts.dead_end.format(place=town)
    return (texts.onward if fresh else texts.known).format(
        place=town,
        onward=language.listed(onward),
        fresh=language.listed(fresh),
        roads=Count(length),
    )


def _close(towns: list[str], roads: list[Road]) -> dict[Road, int]:
    """Close the relation over all pairs, keeping the least number of roads (Floyd-Warshall)."""
    least = dict.fromkeys(roads, 1)
    for via in towns:
        for one in towns:
            for other in towns:
                if (one, via) in least and (via, other) in least:
                    longer = least[one, via] + least[via, other]
                    least[one, other] = min(longer, least.get((one, other), longer))
    return least
