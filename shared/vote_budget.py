"""Vote budgets: which questions get further votes, so that most answers are right.

    next_voice({"2,1,1,0": ("reasoning", 0.08)}, (2, 1, 1, 0), price=0.02)  ->  "reasoning"

The *gain* of a state of votes is the largest expected rise in right answers per vote that further votes can
bring, over all ways to go on and to stop. It is learned on labelled questions. A question gets a further vote
while its gain is at least the *price*, which follows from what is left of the budget.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared import voting
from shared.voting import Rule, Vote

State = tuple[int, ...]
# By state, as text: the voice of the next vote, and the gain.
Gains = Mapping[str, tuple[str, float]]
# Mean votes a question and the price that spends them, in the order of the votes.
Prices = Sequence[tuple[float, float]]


def spread(most: Mapping[str, int], count: int) -> dict[str, int]:
    """Spread some votes over the voices in turn, up to the most of each."""
    turns = sorted((turn, at) for at, votes in enumerate(most.values()) for turn in range(votes))[:count]
    return {voice: sum(at == place for _, at in turns) for place, voice in enumerate(most)}


def state(votes: Sequence[Sequence[Vote]], rule: Rule, weighed: bool) -> State:
    """Describe the votes of a question, by voice.

    It gives the votes of each voice, those of each voice for the leading letter, all votes for the second
    one, and those that do not count. Where the votes are ``weighed`` or the rule weighs them, it gives the
    votes of each voice and the strengths of the two letters, in half powers of two.
    """
    counted = [[vote for vote in of_voice if rule.accepts(vote.letter, vote.score)] for of_voice in votes]
    leading = voting.decide(list(itertools.chain(*counted)), rule)
    strengths: dict[str | None, float] = defaultdict(float)
    for vote in itertools.chain(*counted):
        weighs = rule.use.weighs and vote.score is not None
        strengths[vote.letter] += vote.weight * (voting.odds(vote.score) if weighs else 1.0)
    letter = leading.letter if leading else None
    first, second = strengths.pop(letter, 0.0), max(strengths.values(), default=0.0)
    sizes = [len(of_voice) for of_voice in votes]
    if weighed or rule.use.weighs:
        return (*sizes, *(round(2 * math.log2(1 + strength)) for strength in (first, second)))
    behind = [sum(vote.letter == letter for vote in of_voice) for of_voice in counted]
    return (*sizes, *behind, int(second), sum(sizes) - sum(map(len, counted)))


def key(state: State) -> str:
    """Write a state as text."""
    return ",".join(map(str, state))


def next_voice(gains: Gains, state: State, price: float) -> str | None:
    """Give the voice of the next vote; ``None``: no further vote is worth the price."""
    voice, gain = gains.get(key(state), (None, 0.0))
    return voice if gain >= price else None


def price_of(prices: Prices, votes: float) -> float:
    """Give the price that spends at most so many votes a question on average."""
    return next((price for mean, price in reversed(prices) if mean <= votes), math.inf)
