"""The bound on wrong answers, and the probabilities, on simulated questions with known error rates."""

import functools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from producers.calibrated_answers import Case, features
from producers.enqueue import calibrate
from shared import options, vote_weights
from shared.ledger.votes import RecordedVote
from shared.options import Sampling

MAX_ERROR = 0.2
RUNS = 100
# With true violations at the level of 5 %, more than these happen with probability 0.001.
MOST = int(stats.binom.ppf(0.999, RUNS, calibrate.LEVEL))
BOUNDARY = math.log(1 / MAX_ERROR - 1) - 0.02  # log-odds of an error rate just above the bound


@functools.cache
def simulate(seed: int, entries: int, sizes: tuple[int, ...], slope: float, base: float) -> list[Case]:
    """Draw entries whose questions share a difficulty; only the first feature tells right answers."""
    rng, cases = random.Random(seed), []
    spread = 0.6 if slope else 0.0
    for at in range(entries):
        unit, shared = f"{seed} {at}", rng.gauss(0, spread)
        for _ in range(rng.choice(sizes)):
            told = rng.gauss(0, 1)
            right = rng.random() < 1 / (1 + math.exp(-base - slope * told - shared))
            noise = (rng.gauss(0, 1), float(rng.random() < 0.2))
            cases.append(Case(unit, vote_weights.fold(unit, labelled=True), right, (told, *noise)))
    return cases


def risk(cases: Sequence[Case], parameters: Sequence[float], threshold: float) -> float | None:
    """Give the true share of wrong answers, each entry counting once; none if nothing is answered."""
    units = np.unique([case.unit for case in cases], return_inverse=True)[1]
    values = parameters[0] + np.array([case.features for case in cases]) @ parameters[1:]
    given = 1 / (1 + np.exp(-values)) >= threshold
    wrong = given & ~np.array([case.right for case in cases])
    answers, errors = (np.bincount(units, each) for each in (given, wrong))
    answered = answers > 0
    return float((errors[answered] / answers[answered]).mean()) if answered.any() else None


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 4)], ids=["one", "several"])
@pytest.mark.parametrize(
    ("slope", "base", "least"),
    [(0.0, BOUNDARY, 0), (1.5, 0.0, 0), (1.5, 2.0, RUNS // 4)],
    ids=["every-threshold-is-wrong", "hard", "easy"],
)
def test_more_than_the_allowed_errors_are_as_rare_as_promised(
    slope: float, base: float, least: int, sizes: tuple[int, ...]
) -> None:
    truth = simulate(10_000, 3000, sizes, slope, base)
    violations = passed = 0
    for seed in range(RUNS):
        found = calibrate.bounded(simulate(seed, 100, sizes, slope, base), MAX_ERROR)
        passed += found[1] < calibrate.NOTHING
        # Where every threshold is wrong, each that passes violates the bound.
        true = risk(truth, *found) if slope else 1.0 if found[1] < calibrate.NOTHING else None
        violations += true is not None and true > MAX_ERROR
    assert violations <= MOST
    # The bound is of use where most answers are right.
    assert passed >= least


def test_questions_of_one_entry_are_no_further_evidence() -> None:
    few = [(0.9, Case(f"{at // 10}", 2, True, ())) for at in range(80)]
    assert calibrate.p_value(few, 0.5, MAX_ERROR) > calibrate.LEVEL
    # Of 80 independent questions, that would be proof.
    independent = [(0.9, Case(f"{at}", 2, True, ())) for at in range(80)]
    assert calibrate.p_value(independent, 0.5, MAX_ERROR) < 1e-7


def test_a_p_value_is_exact_for_entries_of_one_question() -> None:
    scored = [(0.5 + at / 100, Case(f"{at}", 2, at not in (12, 30), ())) for at in range(40)]
    assert calibrate.p_value(scored, 0.6, 0.2) == pytest.approx(stats.binom.cdf(2, 30, 0.2))
    assert calibrate.p_value(scored, 0.95, 0.2) == 1.0
    wrong = [(0.9, Case(f"{at // 2}", 2, False, ())) for at in range(40)]
    assert calibrate.p_value(wrong, 0.5, 0.2) == 1.0


def test_probabilities_are_calibrated() -> None:
    cases = simulate(1, 1500, (1, 2, 4), 1.5, 0.5)
    parameters, threshold = calibrate.learn(cases)
    assert threshold == 0
    new = simulate(2, 1500, (1, 2, 4), 1.5, 0.5)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        chances = [options.logistic(parameters[-1], case.features) for case in new]
        part = [at for at, chance in enumerate(chances) if low <= chance < low + 0.2]
        assert sum(new[at].right for at in part) / len(part) == pytest.approx(
            sum(chances[at] for at in part) / len(part), abs=0.05
        )


@pytest.mark.parametrize("right", [True, False])
def test_answers_that_are_all_right_or_all_wrong_are_no_certainty(right: bool) -> None:
    folds = [vote_weights.fold(f"{at}", labelled=True) for at in range(50)]
    cases = [Case(f"{at}", fold, right, (1.0, at / 50)) for at, fold in enumerate(folds)]
    parameters, _ = calibrate.learn(cases)
    chance = options.logistic(parameters[-1], cases[0].features)
    assert chance == pytest.approx(0.98 if right else 0.02, abs=0.02)
    assert 0 < chance < 1


# Features


def cast(letters: str, **given: object) -> list[RecordedVote]:
    fields = {"score": None, "accepted": True, "tokens": 9, "scorer": None, **given}
    return [
        RecordedVote(0, 1, at, None if letter == "-" else letter, **fields)  # type: ignore[arg-type]
        for at, letter in enumerate(letters)
    ]


def test_an_answer_is_described_by_its_votes() -> None:
    share, weight, lead, score, read, asked, fallback, voices = features(cast("AAB-A"), "A", 4, Sampling(), 5)
    assert share == weight == pytest.approx(math.log(3.25 / 1.75))
    assert (lead, score, read) == (0.5, 0.0, pytest.approx(math.log(5)))
    assert (asked, fallback, voices) == (pytest.approx(math.log(4)), 0.0, 1.0)


def test_scores_and_kinds_weigh_votes() -> None:
    sampling = Sampling(kind_weights={"reasoning": (2.0,) * 6, "program result": (0.5,) * 6})
    votes = cast("AB", score=0.75) + cast("A", voice="program", outcome="result")
    _, weight, _, score, _, _, _, voices = features(votes, "A", 2, sampling, 5)
    assert weight == pytest.approx(math.log((2 * 3 + 0.5 + 0.5) / (2 * 3 + 0.5)))
    assert (score, voices) == (pytest.approx(math.log(3)), 2.0)


def test_the_last_round_counts_unless_none_of_its_votes_was_accepted() -> None:
    first = cast("BB", accepted=False)
    accepted = [RecordedVote(0, 2, at, "A", None, True, 9, None) for at in range(2)]
    assert features([*first, *accepted], "A", 3, Sampling(), 5) == features(cast("AA"), "A", 3, Sampling(), 5)
    void = [RecordedVote(0, 2, at, "A", None, False, 9, None) for at in range(2)]
    share, _, lead, *_, fallback, _ = features([*first, *void], "A", 3, Sampling(), 5)
    assert (share, lead, fallback) == (pytest.approx(math.log((2 + 1 / 3) / (2 + 2 / 3))), 0.0, 1.0)


def test_an_answer_without_any_letter_is_described_too() -> None:
    described = features(cast("--", accepted=False), "A", 4, Sampling(), 5)
    assert described == (pytest.approx(math.log(0.25 / 0.75)),) * 2 + (0, 0, 0, math.log(4), 1.0, 0)
    assert all(map(math.isfinite, features([], "A", 4, Sampling(), 5)))
