"""Ask for the votes of a round within the vote budget of its run: a first wave, then vote by vote.

    await allocation.sample(partial, ask, claim, sampling, fold)    3 of 8 votes of the round

Votes are reserved in the ledger before they are asked for. The price of a further vote follows from what is
left for the questions that are not finished.
"""

import functools

from shared import vote_budget
from shared.ledger import vote_spending
from shared.ledger.claims import Claim
from shared.options import Sampling
from workers import retries
from workers.inference import waves
from workers.inference.waves import Ask, PartialRound


async def sample(partial: PartialRound, ask: Ask, claim: Claim, sampling: Sampling, fold: int) -> None:
    """Ask for votes as long as they are worth their price, and the budget has some left."""
    budget, first = sampling.vote_budget or 0.0, sampling.first_votes
    wave = vote_budget.spread(sampling.votes_by_voice, first)
    while wave:
        reserve = functools.partial(vote_spending.reserve, claim, sum(wave.values()), budget, first)
        granted = await retries.until_done_aside(reserve)
        if not granted:
            # A further round would get no votes either.
            partial.final |= len(partial.coming) == sampling.votes
            break
        places = partial.next_places(vote_budget.spread(wave, granted))
        await waves.add(partial, places, await ask(places))
        wave = await retries.until_done_aside(lambda: _next(partial, claim, sampling, fold))


def _next(partial: PartialRound, claim: Claim, sampling: Sampling, fold: int) -> dict[str, int]:
    """Choose the voice of the next vote; give no vote if none is worth its price."""
    balance = vote_spending.balance(claim.job.run, sampling.vote_budget or 0.0)
    price = vote_budget.price_of(sampling.prices or (), balance.per_question if balance else 0.0)
    gains = sampling.gains[fold] if sampling.gains else {}
    voice = vote_budget.next_voice(gains, partial.state(), price)
    return {voice: 1} if voice and partial.next_places({voice: 1}) else {}
