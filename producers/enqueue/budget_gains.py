"""Learn from labelled runs how much further votes gain, for runs with a vote budget.

    learn("mine,more", sampling)  ->  ({"2,1,1,0": ("reasoning", 0.08)}, ...), ((2.0, 1.0), ...), "..."

The recorded votes of a question are drawn in random orders. For each state on the way, it is counted how
often the answer is right, and to which states a further vote leads. Optimal stopping at a price per vote
gives the gains. A model of the votes, such as a Dirichlet, is not used: it would trust the letter that the
generator prefers. A labelled question gets gains that were learned without its fold (`shared.vote_weights`).
"""

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from producers import console, run_progress
from shared import dataset, vote_budget, vote_weights, voting
from shared.errors import UserError
from shared.ledger import models, votes
from shared.ledger.models import Model
from shared.options import Sampling
from shared.vote_budget import Gains, Prices, State
from shared.vote_weights import UNLABELLED
from shared.voting import SCORED, Vote

# Prices of a vote, in right answers. The first one buys no vote.
PRICES = [1.0, *(round(0.25 * 0.75**step, 6) for step in range(22))]
SHRINKAGE = 4.0  # questions that a state must have for half of its gain to count
ORDERS, LOOKS = 16, 100_000  # orders of a question's votes; states to look at in all of them, at most
Counts = tuple[int, ...]  # votes of each voice


@dataclass(frozen=True)
class Pool:
    """The recorded votes of a labelled question, by voice."""

    fold: int
    unit: str
    gold: str
    votes: list[list[Vote]]


@dataclass(frozen=True)
class Walk:
    """The votes of a pool in one order: after votes of each voice, the state, and if the answer is right."""

    pool: Pool
    seen: Mapping[Counts, tuple[State, bool]]


def learn(names: str, sampling: Sampling) -> tuple[tuple[Gains, ...], Prices, str]:
    """Learn the gains by fold and the votes that prices spend, for a run with these options; say what.

    Raises:
        UserError: as `pools`.
    """
    sampling = models.weighed(sampling)
    found = pools(names, sampling)
    walked = walks(found, sampling)
    gains = tuple(gains_of(walked, sampling, fold) for fold in range(UNLABELLED + 1))
    known, budget = schedule(walked, gains, sampling), sampling.vote_budget or 1.0
    right = max(accuracy for votes, accuracy, _ in known if votes <= budget)
    fixed = spending(walked, None, 1.0, int(budget), sampling)[1]
    note = (
        f"vote budget learned on {console.count(len(found), 'question')}, cross-validated: {budget:g} votes "
        f"each on average answer {100 * right:.1f} % right there, {int(budget)} for each {100 * fixed:.1f} %"
    )
    return gains, tuple((votes, price) for votes, _, price in known), note


def schedule(
    walked: Sequence[Walk], gains: Sequence[Gains], sampling: Sampling
) -> list[tuple[float, float, float]]:
    """Give the mean votes that prices spend, the share of right answers, and the price; votes increase."""
    known: list[tuple[float, float, float]] = []
    for price in PRICES:
        spent, right = spending(walked, gains, price, sampling.first_votes, sampling)
        if not known or spent > known[-1][0]:
            known.append((spent, right, price))
    return known


def pools(names: str, sampling: Sampling) -> list[Pool]:
    """Read the first rounds of labelled questions in runs, whose names are separated by commas.

    Raises:
        UserError: a run is missing, unfinished or stopped rounds early, its rounds have too few votes or
            lack the scores of the run's scorer, or no question has a right letter and votes.
    """
    model = models.chosen("scorer", sampling.scorer)
    found = [pool for name in names.split(",") for pool in _pools(name.strip(), sampling, model)]
    if not found:
        raise UserError(f"--budget-from {names}: no question there has a right letter and usable votes")
    for at, (voice, count) in enumerate(sampling.votes_by_voice.items()):
        if (there := max(len(pool.votes[at]) for pool in found)) < count:
            raise UserError(
                f"--budget-from {names}: its rounds have at most {there} votes of the voice {voice}, not "
                f"{count}: lower --votes or --voices, or sample labelled questions with as many"
            )
    return found


def _pools(name: str, sampling: Sampling, model: Model | None) -> Iterator[Pool]:
    run_progress.require_questions(name)
    run_progress.require_finished(name)
    run_progress.require_whole_rounds(name, f"--budget-from {name}")
    scorer = model.name if model and models.rule_of(sampling, model).use in SCORED else None
    learned = models.problems(scorer) if scorer else set()
    for result in votes.of_run(name):
        if not (result.gold and result.votes) or result.problem_identity in learned:
            continue
        if scorer and any(vote.scorer != scorer for vote in result.first_round):
            raise UserError(
                f"--budget-from {name}: its votes lack scores of {scorer}, which this run uses: name a run "
                f"that `votequeue enqueue infer {name} --scorer {scorer}` has scored"
            )
        unit = dataset.unit(result.entry)
        fold = vote_weights.fold(unit, labelled=True)
        by_voice: dict[str, list[Vote]] = {voice: [] for voice in sampling.votes_by_voice}
        for vote in result.first_round:
            weight = sampling.kind_weight(vote.kind, fold)
            by_voice.get(vote.voice, []).append(Vote(vote.letter, vote.score if scorer else None, weight))
        yield Pool(fold, unit, result.gold, list(by_voice.values()))


def walks(found: Sequence[Pool], sampling: Sampling) -> list[Walk]:
    """Draw the votes of each pool in random orders, always the same ones."""
    most = sampling.votes_by_voice.values()
    orders = max(2, min(ORDERS, LOOKS // (len(found) * math.prod(count + 1 for count in most))))
    rule = models.rule_of(sampling, models.chosen("scorer", sampling.scorer))
    walked = []
    for pool in found:
        rng = random.Random(f"{pool.unit} {pool.gold}")
        for _ in range(orders):
            drawn = [rng.sample(of, min(len(of), up_to)) for of, up_to in zip(pool.votes, most, strict=True)]
            seen = {}
            for counts in itertools.product(*(range(len(of) + 1) for of in drawn)):
                by_voice = [of[:count] for of, count in zip(drawn, counts, strict=True)]
                (answer, _) = voting.revote([list(itertools.chain(*by_voice))], rule, sampling.fallback)
                state = vote_budget.state(by_voice, rule, sampling.kind_weights is not None)
                seen[counts] = (state, answer.letter == pool.gold)
            walked.append(Walk(pool, seen))
    return walked


def gains_of(walked: Sequence[Walk], sampling: Sampling, left_out: int) -> Gains:
    """Learn the gain of each state without the questions of a fold; that of a rare state is shrunk to 0."""
    voices = list(sampling.votes_by_voice)
    visits, right = Counter[State](), Counter[State]()
    moves: dict[State, list[Counter[State]]] = defaultdict(lambda: [Counter() for _ in voices])
    for walk in walked:
        for counts, (state, is_right) in walk.seen.items() if walk.pool.fold != left_out else ():
            visits[state] += 1
            right[state] += is_right
            for at in range(len(voices)):
                if further := walk.seen.get(_after(counts, at)):
                    moves[state][at][further[0]] += 1
    # All questions have the same number of orders.
    shrinkage = SHRINKAGE * len(walked) / len({id(walk.pool) for walk in walked})
    gains: dict[str, tuple[str, float]] = {}
    from_the_end = sorted(visits, key=lambda state: -sum(state[: len(voices)]))
    for price in PRICES:
        values: dict[State, float] = {}
        for state in from_the_end:
            now = right[state] / visits[state]
            rises = [(0.0, "")]
            for voice, to in zip(voices, moves[state], strict=True):
                value = sum(count * values[after] for after, count in to.items())
                rises.append(((value - to.total() * now) / (to.total() + shrinkage) - price, voice))
            rise, voice = max(rises)
            values[state] = now + rise
            if rise > 0:
                gains.setdefault(vote_budget.key(state), (voice, price))
    return gains


def _after(counts: Counts, voice: int) -> Counts:
    return (*counts[:voice], counts[voice] + 1, *counts[voice + 1 :])


def spend(walk: Walk, gains: Gains, price: float, first: int, sampling: Sampling) -> tuple[int, bool]:
    """Take further votes while they are worth the price; give their number, and if the answer is right."""
    most = dict(zip(sampling.votes_by_voice, max(walk.seen), strict=True))
    counts = tuple(vote_budget.spread(most, first).values())
    while voice := vote_budget.next_voice(gains, walk.seen[counts][0], price):
        if (further := _after(counts, list(most).index(voice))) not in walk.seen:
            break
        counts = further
    return sum(counts), walk.seen[counts][1]


def spending(
    walked: Sequence[Walk], gains: Sequence[Gains] | None, price: float, first: int, sampling: Sampling
) -> tuple[float, float]:
    """Give the mean votes and the share of right answers at a price; without gains, of the first votes."""
    spent = [spend(walk, gains[walk.pool.fold] if gains else {}, price, first, sampling) for walk in walked]
    return fmean(votes for votes, _ in spent), fmean(right for _, right in spent)
