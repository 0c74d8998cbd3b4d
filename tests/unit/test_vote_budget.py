"""Vote budgets on simulated voters, whose probabilities of a right vote are known.

spend(walks of 300 questions, 3.5 votes each)  ->  more right answers than with 4 votes for every question
"""

import random
from collections.abc import Mapping, Sequence

import pytest

from producers.enqueue import budget_gains
from producers.enqueue.budget_gains import PRICES, Pool, Walk
from shared import vote_budget, vote_weights
from shared.options import Sampling
from shared.vote_budget import Gains
from shared.vote_weights import UNLABELLED
from shared.voting import GATE, PLAIN, Rule, Vote, VotingMode

SAMPLING = Sampling(votes=8, vote_budget=3.5, budget_from="labelled", scorer="none")
Letters = Mapping[str | None, float]


def pools(name: str, questions: Sequence[Letters], votes: int = 16) -> list[Pool]:
    """Draw votes for questions whose right letter is A."""
    rng = random.Random(name)
    return [
        Pool(
            vote_weights.fold(f"{name} {at}", labelled=True),
            f"{name} {at}",
            "A",
            [[Vote(letter) for letter in rng.choices(list(letters), list(letters.values()), k=votes)]],
        )
        for at, letters in enumerate(questions)
    ]


def of_all_kinds(seed: int, count: int) -> list[Letters]:
    """Make sure questions, hard ones, and ones whose commonest letter is wrong."""
    rng = random.Random(seed)
    questions: list[Letters] = []
    for _ in range(count):
        right = rng.betavariate(1.2, 1.0)
        other = rng.betavariate(1.0, 1.5)
        rest = 1 - right
        questions.append(
            {
                "A": right,
                "B": 0.8 * rest * (1 - other),
                "C": 0.8 * rest * other,
                "D": 0.1 * rest,
                None: 0.1 * rest,
            }
        )
    return questions


def accuracy(walked: Sequence[Walk], gains: Gains, votes: float) -> float:
    """Give the highest accuracy that a price reaches with at most so many votes a question."""
    known = budget_gains.schedule(walked, [gains] * (UNLABELLED + 1), SAMPLING)
    return max(right for spent, right, _ in known if spent <= votes)


def fixed(walked: Sequence[Walk], votes: int) -> float:
    spent, right = budget_gains.spending(walked, None, 1.0, votes, SAMPLING)
    assert spent == votes
    return right


def test_where_questions_differ_allocated_votes_answer_more_right_than_as_many_for_each() -> None:
    gains = budget_gains.gains_of(
        budget_gains.walks(pools("learned", of_all_kinds(1, 250)), SAMPLING), SAMPLING, UNLABELLED
    )
    walked = budget_gains.walks(pools("other", of_all_kinds(2, 400)), SAMPLING)
    # Even 3.5 votes on average beat 4 for each, and 3 beat 3.
    assert accuracy(walked, gains, 3.5) > fixed(walked, 4) + 0.01
    assert accuracy(walked, gains, 3.0) > fixed(walked, 3) + 0.01


@pytest.mark.parametrize("letters", [{"A": 1.0}, {"B": 1.0}, {"A": 0.25, "B": 0.25, "C": 0.25, "D": 0.25}])
def test_where_votes_tell_nothing_further_ones_change_nothing(letters: Letters) -> None:
    gains = budget_gains.gains_of(
        budget_gains.walks(pools("learned", [letters] * 100), SAMPLING), SAMPLING, UNLABELLED
    )
    walked = budget_gains.walks(pools("other", [letters] * 200), SAMPLING)
    assert accuracy(walked, gains, 3.5) == pytest.approx(fixed(walked, 3), abs=0.03)
    if len(letters) == 1:
        assert gains == {}
        assert budget_gains.spending(walked, [gains] * 6, PRICES[-1], 2, SAMPLING)[0] == 2.0


def test_gains_do_not_trust_the_commonest_letter() -> None:
    # B leads nearly always and is never right: more votes only confirm it.
    trap: Letters = {"B": 0.7, "A": 0.2, "C": 0.1}
    gains = budget_gains.gains_of(
        budget_gains.walks(pools("trap", [trap] * 100), SAMPLING), SAMPLING, UNLABELLED
    )
    sure: Letters = {"A": 0.7, "B": 0.2, "C": 0.1}
    against = budget_gains.gains_of(
        budget_gains.walks(pools("sure", [sure] * 100), SAMPLING), SAMPLING, UNLABELLED
    )
    tie = vote_budget.key((2, 1, 1, 0))
    assert against[tie][1] > 0.1
    assert gains.get(tie, ("", 0.0))[1] < against[tie][1] / 4


def test_a_rare_state_gains_little() -> None:
    walked = budget_gains.walks(pools("few", [{"A": 0.6, "B": 0.4}] * 2), SAMPLING)
    many = budget_gains.walks(pools("many", [{"A": 0.6, "B": 0.4}] * 100), SAMPLING)
    tie = vote_budget.key((2, 1, 1, 0))
    few_gain = budget_gains.gains_of(walked, SAMPLING, UNLABELLED).get(tie, ("", 0.0))[1]
    assert few_gain < budget_gains.gains_of(many, SAMPLING, UNLABELLED)[tie][1]


def test_a_fold_is_left_out() -> None:
    found = pools("folds", of_all_kinds(3, 60))
    walked = budget_gains.walks(found, SAMPLING)
    others = [walk for walk in walked if walk.pool.fold != 2]
    assert budget_gains.gains_of(walked, SAMPLING, 2) == budget_gains.gains_of(others, SAMPLING, UNLABELLED)
    assert budget_gains.gains_of(walked, SAMPLING, 2) != budget_gains.gains_of(walked, SAMPLING, UNLABELLED)


def test_the_voice_that_tells_more_gets_the_votes() -> None:
    sampling = SAMPLING.model_copy(update={"voices": "reasoning=4,program=4"})
    rng = random.Random(5)
    found = []
    for at in range(100):
        right, wrong = [("A", "B"), ("A", "C")][at % 2]
        words = [Vote(letter) for letter in rng.choices([right, wrong], [0.5, 0.5], k=8)]
        programs = [Vote(letter) for letter in rng.choices([right, wrong], [0.85, 0.15], k=8)]
        found.append(Pool(at % 5, f"q{at}", "A", [words, programs]))
    gains = budget_gains.gains_of(budget_gains.walks(found, sampling), sampling, UNLABELLED)
    # One vote of each voice, for different letters.
    assert gains[vote_budget.key((1, 1, 1, 0, 1, 0))][0] == "program"


# States and prices


@pytest.mark.parametrize(
    ("votes", "rule", "weighed", "state"),
    [
        ([[Vote("A"), Vote("B"), Vote("A"), Vote(None)]], PLAIN, False, (4, 2, 1, 1)),
        ([[Vote("A"), Vote("B")], [Vote("B")]], PLAIN, False, (2, 1, 1, 1, 1, 0)),
        ([[Vote("A", 0.9), Vote("B", 0.2)]], GATE, False, (2, 1, 0, 1)),
        ([[]], PLAIN, False, (0, 0, 0, 0)),
        # Odds of 3 and 1: two and one powers of two above none, in halves.
        ([[Vote("A", 0.75), Vote("B", 0.5)]], Rule(VotingMode.WEIGHTED, 0.0), False, (2, 4, 2)),
        ([[Vote("A", None, 3.0)]], PLAIN, True, (1, 4, 0)),
    ],
)
def test_a_state_tells_what_the_votes_look_like(
    votes: list[list[Vote]], rule: Rule, weighed: bool, state: tuple[int, ...]
) -> None:
    assert vote_budget.state(votes, rule, weighed) == state


def test_a_first_wave_is_spread_over_the_voices() -> None:
    most = {"reasoning": 3, "program": 1}
    assert vote_budget.spread(most, 2) == {"reasoning": 1, "program": 1}
    assert vote_budget.spread(most, 3) == {"reasoning": 2, "program": 1}
    assert vote_budget.spread(most, 9) == most


def test_the_price_is_the_lowest_one_that_the_votes_left_pay_for() -> None:
    prices = ((2.0, 1.0), (2.6, 0.1), (3.4, 0.02))
    assert [vote_budget.price_of(prices, left) for left in (1.9, 2.0, 2.7, 3.4, 9.0)] == [
        float("inf"),
        1.0,
        0.1,
        0.02,
        0.02,
    ]
    gains = {"2,1,1,0": ("reasoning", 0.08)}
    assert vote_budget.next_voice(gains, (2, 1, 1, 0), 0.08) == "reasoning"
    assert vote_budget.next_voice(gains, (2, 1, 1, 0), 0.1) is None
    assert vote_budget.next_voice(gains, (3, 2, 1, 0), 0.0) is None
