"""Reachability puzzles: one-way roads between towns, and the fewest roads to a town.

    有一条从青石到白沙的单行路。

The trace spreads out from the start town by town; the solver closes the relation over all pairs.
"""

from random import Random

from producers.puzzles import name_lists, question_types
from producers.puzzles.question_types import Finding, Wording
from producers.puzzles.types import Chain, Puzzle, Query, puzzle, statement

Road = tuple[str, str]

_SCENES = (
    ("几个村镇之间有一些单行路，只能按指明的方向走。", "有一条从{}到{}的单行路。"),
    ("某地的班车只按固定方向开，乘客可以一班接一班地换乘。", "有班车从{}开往{}。"),
    ("几个站点之间有单向的传送带，货物可以接着传下去。", "有传送带从{}通到{}。"),
)
_RULE = "如果从一个地方可以直接到第二个地方，又能从第二个地方到第三个地方，就能从第一个地方到第三个地方。"


def make(rng: Random, difficulty: int) -> Puzzle | None:
    """Draw towns and roads, and ask about the way from one town."""
    towns = name_lists.places(rng, 4 + difficulty)
    pairs = [(one, other) for one in towns for other in towns if one != other]
    roads = rng.sample(pairs, 3 + 2 * difficulty)
    scene, template = rng.choice(_SCENES)
    facts = [template.format(*road) for road in roads]
    start = rng.choice(towns)
    rule = [_RULE, "除此以外没有别的走法。"]
    problem = statement(rng, scene + f"涉及的地方有{'、'.join(towns)}。", facts, rule)
    queries = [_members(rng, towns, roads, start), _distance(rng, towns, roads, start)]
    queries.append(_members(rng, towns, roads, rng.choice(towns)))
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


def _members(rng: Random, towns: list[str], roads: list[Road], start: str) -> Query | None:
    def find(read: list[Road]) -> Finding:
        steps, distances = _spread(read, start)
        return Finding(steps, tuple(town for town in towns if town in distances and town != start))

    wording = Wording(
        f"从{start}出发，可以到达的其他地方有哪些？",
        f"从{start}出发，一共可以到达几个其他地方？",
        f"从{start}出发，能到达{{}}吗？",
        f"所以从{start}能到的地方是{{}}",
    )
    solved = [town for town in towns if town != start and (start, town) in _close(towns, roads)]
    slipped = [find(some) for some in _slips(rng, towns, roads)]
    return question_types.members(rng, wording, find(roads), slipped, towns, solved)


def _distance(rng: Random, towns: list[str], roads: list[Road], start: str) -> Query | None:
    solved = _close(towns, roads)
    far = [town for town in towns if town != start and solved.get((start, town), 0) > 1]
    if not far:
        return None
    goal = rng.choice(far)

    def find(read: list[Road]) -> Chain | None:
        steps, distances = _spread(read, start)
        if distances.get(goal, 0) < 2:
            return None
        return Chain((*steps, f"{goal}是第{distances[goal]}段路到的。"), str(distances[goal]))

    right = find(roads)
    slipped = [chain for some in _slips(rng, towns, roads) if (chain := find(some))]
    answer = solved[start, goal]
    if right is None:
        return None
    ask = f"从{start}到{goal}，最少要走几段路？"
    return question_types.value(
        ask, right, slipped, [one for one in question_types.near(rng, answer) if one != "0"], str(answer)
    )


def _spread(roads: list[Road], start: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Visit towns in the order they are found; one sentence each."""
    distances = {start: 0}
    steps = []
    for town in (queue := [start]):
        onward = [other for one, other in roads if one == town]
        fresh = [other for other in onward if other not in distances]
        distances.update((other, distances[town] + 1) for other in fresh)
        queue.extend(fresh)
        steps.append(_sentence(town, onward, fresh, distances[town] + 1))
    return tuple(steps), distances


def _sentence(town: str, onward: list[str], fresh: list[str], length: int) -> str:
    if not onward:
        return f"从{town}没有路可走。"
    news = f"，其中新到的是{'、'.join(fresh)}，用{length}段路" if fresh else "，都已经到过"
    return f"从{town}可以直接到{'、'.join(onward)}{news}。"


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
