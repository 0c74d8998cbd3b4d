"""Weights of votes: log-odds over chance, and folds that keep copies of a problem together."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import vote_weights
from shared.vote_weights import FOLDS, UNLABELLED


@pytest.mark.parametrize(("right", "votes", "options"), [(130, 200, 4), (7, 9, 2), (40, 50, 5)])
def test_a_weight_is_the_log_odds_of_the_smoothed_accuracy_over_chance(
    right: int, votes: int, options: int
) -> None:
    accuracy = (right + 1) / (votes + options)
    wanted = math.log(accuracy * (options - 1) / (1 - accuracy))
    assert vote_weights.log_odds(right, votes, votes / options) == pytest.approx(wanted)


def test_votes_at_chance_or_below_count_nothing() -> None:
    assert vote_weights.log_odds(50, 200, 50.0) == pytest.approx(0.0, abs=1e-12)
    assert vote_weights.log_odds(3, 200, 50.0) == 0.0
    assert vote_weights.log_odds(0, 0, 0.0) == 0.0


@given(st.integers(0, 50), st.integers(1, 50), st.integers(2, 6))
def test_weights_are_finite_and_grow_with_the_right_votes(right: int, votes: int, options: int) -> None:
    right = min(right, votes - 1)
    less, more = (vote_weights.log_odds(count, votes, votes / options) for count in (right, right + 1))
    assert 0.0 <= less <= more < math.inf


def test_folds_depend_on_the_unit_alone_and_are_about_equal() -> None:
    folds = Counter(vote_weights.fold(f"unit {at}", labelled=True) for at in range(1000))
    assert set(folds) == set(range(FOLDS))
    assert min(folds.values()) > 150
    assert vote_weights.fold("unit 1", labelled=True) == vote_weights.fold("unit 1", labelled=True)
    assert vote_weights.fold("unit 1", labelled=False) == UNLABELLED
