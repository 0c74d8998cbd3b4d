"""The statistics of a comparison, against values worked out by hand and as properties."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.reports import confidence_intervals
from producers.reports.matched_questions import Match, RunAnswer
from producers.reports.paired_comparison import agreement, difference, mcnemar
from shared import dataset
from shared.dataset import Entry

FLIPS = st.integers(0, 60)
LETTER = st.sampled_from("ABC")
ANSWERS = st.lists(st.tuples(LETTER, LETTER, LETTER), min_size=1, max_size=12)


def matches(answers: list[tuple[str, str, str]]) -> list[Match]:
    """Make questions, two an entry: the right letter, and the letters of two runs."""
    return [
        Match(
            f"p{at // 2}#{at % 2}", f"p{at // 2}", "", 3, [RunAnswer(gold, one, 0.6, 10) for one in letters]
        )
        for at, (gold, *letters) in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (2, 0, 0.5),
        (5, 0, 2 / 32),
        (5, 1, 2 * (1 + 6) / 64),
        (7, 2, 2 * (1 + 9 + 36) / 512),
        (3, 3, 1.0),
        (16, 30, 0.0541),
    ],
)
def test_p_is_that_of_the_binomial_test(won: int, lost: int, p: float) -> None:
    assert mcnemar(won, lost) == pytest.approx(p, abs=5e-5)


@given(FLIPS, FLIPS)
def test_p_is_the_exact_two_sided_tail_whichever_run_comes_first(won: int, lost: int) -> None:
    flips, rarer = won + lost, min(won, lost)
    tail = sum(Fraction(math.comb(flips, at), 2**flips) for at in range(rarer + 1))
    assert mcnemar(won, lost) == mcnemar(lost, won) == pytest.approx(float(min(Fraction(1), 2 * tail)))


@given(st.integers(0, 200))
def test_as_many_flips_in_both_directions_are_no_evidence(flips: int) -> None:
    assert mcnemar(flips, flips) == 1.0


@pytest.mark.parametrize(
    ("share", "group"),
    [
        (0.2, "  0 to under 40 %"),
        (0.4, " 40 to under 60 %"),
        (3 / 5, " 60 to under 80 %"),
        (4 / 5, " 80 to under 100 %"),
        (1.0, "100 %"),
        (None, "unknown"),
    ],
)
def test_an_agreement_at_a_bound_belongs_above_it(share: float | None, group: str) -> None:
    assert agreement(share) == group


def test_questions_without_a_problem_are_not_one_entry() -> None:
    def unit(name: str, problem: str, question: str = "谁？", options: tuple[str, ...] = ("甲", "乙")) -> str:
        questions = [{"question": question, "options": options}]
        return dataset.unit(Entry.model_validate({"id": name, "problem": problem, "questions": questions}))

    assert len({unit("p1", " "), unit("p1", "", "谁高？"), unit("p1", "", options=("甲", "丙"))}) == 3
    assert unit("p1", " ") == unit("p2", "", "谁 ？")
    assert unit("p1", "甲高。") == unit("p2", "甲 高。", "谁高？")


def test_intervals_resample_units_whole() -> None:
    # Two problems with ten questions each, one all right: any resample is 0, 1/2 or 1.
    units, right = ["a"] * 10 + ["b"] * 10, [1] * 10 + [0] * 10
    assert confidence_intervals.by_unit(units, right) == (0.0, 1.0)
    low, high = confidence_intervals.by_unit([str(at) for at in range(20)], right) or (0, 0)
    assert 0.2 <= low < 0.5 < high <= 0.8
    assert confidence_intervals.by_unit(["a"] * 10, [1] * 10) is None


@settings(max_examples=25)
@given(ANSWERS)
def test_a_run_does_not_differ_from_itself(answers: list[tuple[str, str, str]]) -> None:
    found = difference(matches([(gold, first, first) for gold, first, _ in answers]), 1)
    assert (found.gain, found.p, found.won, found.lost, found.both_wrong) == (0.0, 1.0, [], [], [])
    assert found.interval in (None, (0.0, 0.0))


@settings(max_examples=25)
@given(ANSWERS)
def test_the_comparison_the_other_way_round_is_its_mirror(answers: list[tuple[str, str, str]]) -> None:
    there = difference(matches(answers), 1)
    back = difference(matches([(gold, second, first) for gold, first, second in answers]), 1)
    assert (there.gain, there.p) == (-back.gain, back.p)
    assert [flip.key for flip in there.won] == [flip.key for flip in back.lost]
    assert len(there.both_wrong) == len(back.both_wrong)
    if there.interval is not None:
        assert there.interval[0] <= there.gain <= there.interval[1]
    for by in ("right letter", "options", "agreement"):
        groups = [group for group in there.groups if group.by == by]
        assert sum(group.won for group in groups) == len(there.won)
        assert sum(group.before.of for group in groups) == len(answers)
