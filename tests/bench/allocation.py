"""What a vote budget gains on the votes that finished labelled runs have on record; nothing is sampled.

    python -m tests.bench.allocation RUN...

The first rounds of the runs are pools of votes; at least 16 a question give fair figures. Questions are
answered from random draws: with fixed numbers of votes, with rounds of 5 that stop early (`--stop exact`, in
waves), and within vote budgets. A budget is replayed as workers spend it, question by question,
with gains that were learned without the question's fold. It prints votes a question, their ratio to 5,
the share of right answers, and differences in points to fixed numbers of votes, with 95 % intervals by entry.
"""

import argparse
import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

from producers.enqueue import budget_gains
from producers.enqueue.budget_gains import Pool, Walk
from producers.reports import confidence_intervals, render
from shared import vote_budget, vote_weights, voting
from shared.early_stop import StopRule
from shared.ledger import votes
from shared.options import Sampling
from shared.vote_budget import Gains, Prices
from shared.voting import PLAIN, Answer, Vote
from tests.bench.early_stop import Replay
from workers.inference import waves

FIXED, BUDGETS, STOPPED = (3, 4, 5), (3.0, 3.5, 4.0, 5.0), 5
HEADINGS = ["rule", "votes for", "votes", "ratio to 5", "right %", *(f"over {count} each" for count in FIXED)]


@dataclass
class Way:
    """A way to spend votes: by question, the mean votes and the share of right answers of all draws."""

    name: str
    votes: list[float]
    right: list[float]


def by_question(found: Sequence[Pool], walked: Sequence[Walk]) -> list[list[Walk]]:
    """Give the walks of each pool."""
    of: dict[int, list[Walk]] = {id(pool): [] for pool in found}
    for walk in walked:
        of[id(walk.pool)].append(walk)
    return list(of.values())


def fixed(walks: Sequence[Sequence[Walk]], count: int, sampling: Sampling) -> Way:
    """Give every question as many votes."""
    drawn = [[budget_gains.spend(walk, {}, 1.0, count, sampling) for walk in of] for of in walks]
    return Way(f"{count} each", *_means(drawn))


def within(
    walks: Sequence[Sequence[Walk]], gains: Sequence[Gains], prices: Prices, sampling: Sampling
) -> Way:
    """Spend a vote budget question by question, in another order in each draw."""
    drawn: list[list[tuple[int, bool]]] = [[] for _ in walks]
    for draw in range(len(walks[0])):
        order = list(range(len(walks)))
        random.Random(draw).shuffle(order)
        left = int((sampling.vote_budget or 0) * len(order) + 1e-6)
        for at, question in enumerate(order):
            spent = answer(walks[question][draw], gains, prices, sampling, left, len(order) - at)
            left -= spent[0]
            drawn[question].append(spent)
    return Way(f"{sampling.vote_budget:g} on average", *_means(drawn))


def answer(
    walk: Walk, gains: Sequence[Gains], prices: Prices, sampling: Sampling, left: int, questions: int
) -> tuple[int, bool]:
    """Spend votes on one of the ``questions`` that are left."""
    voices = list(sampling.votes_by_voice)
    most = left - sampling.first_votes * (questions - 1)
    price = vote_budget.price_of(prices, left / questions)
    counts = tuple(vote_budget.spread(sampling.votes_by_voice, sampling.first_votes).values())
    while sum(counts) < most:
        voice = vote_budget.next_voice(gains[walk.pool.fold], walk.seen[counts][0], price)
        further = tuple(count + (voice == of) for of, count in zip(voices, counts, strict=True))
        if voice is None or further not in walk.seen:
            break
        counts = further
    return sum(counts), walk.seen[counts][1]


def stopped(found: Sequence[Pool], draws: int) -> list[float]:
    """Count the votes that rounds by plain majority need until their answers are fixed."""
    return [
        fmean(
            _needed(random.Random(f"{pool.unit} {draw}").sample(pool.votes[0], STOPPED))
            for draw in range(draws)
        )
        for pool in found
    ]


def _needed(drawn: Sequence[Vote]) -> int:
    def decide(cast_votes: Sequence[Vote]) -> Answer | None:
        return voting.decide(cast_votes, PLAIN) or voting.fall_back(cast_votes, "majority")

    # One letter more than those that were drawn: no vote has it, but one could.
    letters = "".join(sorted({vote.letter for vote in drawn if vote.letter})) + "_"
    replay = Drawn(StopRule(letters, decide, lambda _, letter: Vote(letter)), cast(Any, drawn))

    async def ask(places: Sequence[int]) -> Any:
        return [drawn[place] for place in places]

    asyncio.run(waves.sample(cast(Any, replay), ask, None, False))
    return STOPPED - len(replay.coming)


class Drawn(Replay):
    """A round of drawn votes."""

    def add(self, places: Sequence[int], drawn: Sequence[Any]) -> None:
        """Count some votes."""
        for place, vote in zip(places, drawn, strict=True):
            self.known[place] = vote


def _means(drawn: Sequence[Sequence[tuple[int, bool]]]) -> tuple[list[float], list[float]]:
    return [fmean(votes for votes, _ in of) for of in drawn], [
        fmean(right for _, right in of) for of in drawn
    ]


def ways(names: str, sampling: Sampling) -> tuple[list[Pool], list[Way]]:
    """Spend votes in all ways."""
    found = budget_gains.pools(names, sampling)
    walked = budget_gains.walks(found, sampling)
    walks = by_question(found, walked)
    gains = [budget_gains.gains_of(walked, sampling, fold) for fold in range(vote_weights.UNLABELLED + 1)]
    spent = [fixed(walks, count, sampling) for count in FIXED]
    plain = sampling.scorer == "none" and sampling.kind_weights is None
    if plain and len(sampling.votes_by_voice) == 1 and all(len(pool.votes[0]) >= STOPPED for pool in found):
        spent.append(
            Way(f"{STOPPED}, exact stop", stopped(found, len(walks[0])), spent[FIXED.index(STOPPED)].right)
        )
    for budget in BUDGETS:
        chosen = sampling.model_copy(update={"vote_budget": budget})
        prices = [(votes, price) for votes, _, price in budget_gains.schedule(walked, gains, chosen)]
        spent.append(within(walks, gains, prices, chosen))
    return found, spent


def rows(names: str, sampling: Sampling, rule: str) -> list[list[str]]:
    """Compare all ways."""
    found, spent = ways(names, sampling)
    units = [pool.unit for pool in found]
    cells = []
    for way in spent:
        over = [
            [now - then for now, then in zip(way.right, base.right, strict=True)]
            for base in spent[: len(FIXED)]
        ]
        cells.append(
            [
                rule,
                way.name,
                f"{fmean(way.votes):.2f}",
                f"{fmean(way.votes) / STOPPED:.3f}",
                f"{100 * fmean(way.right):.1f}",
                *(_points(units, differences) for differences in over),
            ]
        )
    return cells


def _points(units: Sequence[str], differences: Sequence[float]) -> str:
    interval = confidence_intervals.by_unit(units, differences)
    return f"{100 * fmean(differences):+.1f}" + (f" ({render.points(interval)})" if interval else "")


def main() -> None:
    """Print a table by plain majority, and one by the scorer that scored the first run's votes, if any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--votes", type=int, default=8, help="most votes a question")
    parser.add_argument("--voices", help="most votes of each voice, instead")
    given = parser.parse_args()
    options = {"votes": given.votes, "voices": given.voices, "vote_budget": BUDGETS[0]}
    scorer = votes.main_scorer(given.runs[0])
    for rule, name in [("majority", "none"), *([("scorer", scorer)] if scorer else [])]:
        sampling = Sampling.model_validate({**options, "scorer": name})
        render.table(rows(",".join(given.runs), sampling, rule), HEADINGS)


if __name__ == "__main__":
    main()
