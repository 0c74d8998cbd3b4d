"""The tests that promote a scorer and switch it off, against exact values and by simulation."""

import itertools
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy.stats import binomtest

from shared import dataset, metrics
from shared.errors import NotServedHere
from shared.ledger.models import Model
from shared.prompts import PromptQuestion
from shared.training_examples import Text, TrainingExample
from shared.voting import Rule, VotingMode
from workers.models.calibration import Case
from workers.training import promotion
from workers.training.ipc import Comparison, Difference
from workers.training.promotion import ScorerInUse

WEIGHTED = Rule(VotingMode.WEIGHTED, 0.0)


# The paired test


def test_with_one_question_an_entry_it_is_mcnemars_exact_test() -> None:
    new = [True] * 9 + [False] * 2 + [True] * 20
    old = [False] * 9 + [True] * 2 + [True] * 20
    found = promotion.difference([str(at) for at in range(31)], new, old)
    assert found.gain == pytest.approx(7 / 31)
    assert found.p == pytest.approx(binomtest(9, 11, alternative="greater").pvalue)


def test_p_counts_all_signs_of_the_entries_differences() -> None:
    sums = {"a": 2, "b": -1, "c": 3, "d": 0}
    entries, new, old = [], [], []
    for entry, total in sums.items():
        for at in range(3):
            entries.append(entry)
            new.append(at < max(total, 0))
            old.append(at < max(-total, 0))
    totals = [sum(signs) for signs in itertools.product((2, -2), (1, -1), (3, -3))]
    found = promotion.difference(entries, new, old)
    assert found.p == pytest.approx(sum(total >= 4 for total in totals) / len(totals))
    assert found.gain == pytest.approx(4 / 12)


def test_no_difference_proves_nothing() -> None:
    assert promotion.difference(["a", "b"], [True, False], [True, False]).p == 1.0
    # All questions of one entry can show nothing.
    assert promotion.difference(["a"] * 9, [True] * 9, [False] * 9).p == 0.5


def pairs(rng: np.random.Generator, entries: int, won: float, lost: float) -> Difference:
    """Draw two questions an entry, which are won or lost together in half of the entries."""
    draws = rng.random((entries, 2))
    draws[: entries // 2, 1] = draws[: entries // 2, 0]
    new, old = (draws < won).ravel(), ((draws >= won) & (draws < won + lost)).ravel()
    return promotion.difference([str(at // 2) for at in range(2 * entries)], new.tolist(), old.tolist())


def test_a_scorer_that_is_no_better_passes_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    passed = sum(pairs(rng, 125, 0.09, 0.09).p <= 0.05 for _ in range(2000))
    assert 0.03 <= passed / 2000 <= 0.05


def test_the_power_is_that_of_the_documentation() -> None:
    rng = np.random.default_rng(2)
    single = [
        promotion.difference(
            [str(at) for at in range(250)],
            (draws < 0.155).tolist(),
            ((draws >= 0.155) & (draws < 0.23)).tolist(),
        )
        for draws in rng.random((1000, 250))
    ]
    assert np.mean([each.p <= 0.05 for each in single]) == pytest.approx(0.84, abs=0.04)
    assert np.mean([each.half_width for each in single]) == pytest.approx(0.058, abs=0.002)


# The comparison


def case(at: int, letters: str, answer: str = "A") -> Case:
    texts = tuple(Text(text=letter, letter=letter, place=place) for place, letter in enumerate(letters))
    example = TrainingExample(
        problem=f"题{at}",
        question="谁？",
        options=("甲", "乙", "丙"),
        answer=answer,
        group=dataset.identity(f"题{at}"),
        source="r",
        kind="votes",
        texts=texts,
    )
    return Case(example, np.zeros(len(texts)))


class ScoringA:
    """Scores votes for A high, all others low."""

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        return [[0.9 if vote.letter == "A" else 0.1 for vote in votes] for _, votes in questions]


class Absent:
    def score(self, name: str, questions: object) -> list[list[float]]:
        raise NotServedHere("the model old has no folder here")


def used(learned: set[str] = frozenset(), scorer: object = None) -> ScorerInUse:  # type: ignore[assignment]
    model = Model("old", "scorer", "judge", "base", "votes", "digest", {}, "0.1.0", {}, WEIGHTED)
    return ScorerInUse(model, set(learned), scorer or ScoringA())  # type: ignore[arg-type]


CASES = [case(at, "ABB") for at in range(10)]
NEW = [True] * 8 + [False] * 2


def compare(in_use: ScorerInUse | None) -> Comparison:
    return promotion.compare(CASES, NEW, in_use, lambda example: example)


def test_without_a_scorer_in_use_only_the_majority_must_be_beaten() -> None:
    found = compare(None)
    # The majority of ABB is wrong everywhere.
    assert (found.questions, found.entries, found.over_majority.gain) == (10, 10, 0.8)
    assert found.over_majority.p == pytest.approx(2**-8)
    assert (found.in_use, found.over_in_use, found.is_better(0.05)) == (None, None, True)


def test_a_scorer_that_beats_the_majority_but_not_the_one_in_use_is_not_better() -> None:
    found = compare(used())
    assert found.over_in_use is not None
    # The scorer in use is right on all ten, the new one on eight.
    assert found.over_in_use.gain == -0.2
    assert not found.is_better(0.05)
    assert "-20.0 points (± 24.8, one-sided p 1) over old, until now in use" in str(found)


def test_problems_that_the_scorer_in_use_was_trained_on_are_left_out_of_both_comparisons() -> None:
    learned = {each.example.group for each in CASES[:7]}
    found = compare(used(learned))
    assert (found.questions, found.over_majority.gain) == (3, pytest.approx(1 / 3))
    assert found.over_in_use is not None
    assert found.over_in_use.gain == pytest.approx(-2 / 3)


def test_what_cannot_be_compared_says_why() -> None:
    found = compare(used({each.example.group for each in CASES}))
    assert (found.questions, found.over_in_use) == (10, None)
    assert found.obstacle == (
        "was trained on all of these questions (to compare the two, train again with --test and a "
        "labelled run on other questions)"
    )
    found = compare(used(scorer=Absent()))
    assert found.obstacle == "cannot be loaded (the model old has no folder here)"


def test_both_gains_must_be_shown_at_the_level() -> None:
    shown, weak = (Difference(gain=0.05, half_width=0.04, p=p) for p in (0.01, 0.07))
    known = Comparison(questions=9, entries=9, over_majority=shown, in_use="old", over_in_use=weak)
    assert not known.is_better(0.05)
    assert known.is_better(0.1)


# The sequential test


def test_evidence_is_the_mean_capital_of_bets_on_losses() -> None:
    assert metrics.evidence(0, 0) == pytest.approx(1.0)
    bets = [0.1 * tenth for tenth in range(1, 10)]
    assert metrics.evidence(1, 2) == pytest.approx(sum((1 + b) ** 2 * (1 - b) for b in bets) / 9)
    assert metrics.evidence(0, 5) < 20 < metrics.evidence(0, 7)
    assert metrics.evidence(100_000, 0) < 1e-9
    assert metrics.evidence(0, 100_000) > 1e300


def runs_to(limit: float, losses: float, count: int, seed: int) -> Iterator[int | None]:
    """Give the discordant entry at which each simulated test ends; looks come after every entry."""
    rng = random.Random(seed)
    for _ in range(count):
        won = lost = 0
        ended = None
        for at in range(1, 401):
            lost_this = rng.random() < losses
            won, lost = won + (not lost_this), lost + lost_this
            if metrics.evidence(won, lost) >= limit:
                ended = at
                break
        yield ended


def test_looking_after_every_entry_switches_a_good_scorer_off_no_more_often_than_the_level() -> None:
    ended = [at for at in runs_to(20, 0.5, 500, seed=3) if at is not None]
    # The bound is 25 of 500; a fixed test at each look would pass for nearly half.
    assert len(ended) <= 25


def test_a_worse_scorer_is_found_in_time() -> None:
    ended = list(runs_to(20, 0.75, 200, seed=4))
    assert None not in ended
    assert 20 <= np.median([at for at in ended if at]) <= 40
