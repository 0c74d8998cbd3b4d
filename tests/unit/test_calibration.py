"""From margins to scores, and from scores to the best way of answering."""

from collections.abc import Sequence

import numpy as np
import pytest

from shared.kind_weights import BY_KIND
from shared.training_examples import Text, TrainingExample
from shared.vote_weights import FOLDS, UNLABELLED, log_odds
from shared.voting import Rule, VotingMode
from workers.models import calibration
from workers.models.calibration import Calibration, Case, Chosen

ANSWER, TEXT = "question+answer", "question+reasoning"


def lesson(letters: str, answer: str = "A", rounds: int = 1) -> TrainingExample:
    """Make a question with votes for letters ("-" for none), the same ones in every round."""
    texts = tuple(
        Text(text=letter, letter=None if letter == "-" else letter, attempt=attempt, place=place)
        for attempt in range(1, rounds + 1)
        for place, letter in enumerate(letters)
    )
    return TrainingExample(
        problem="题",
        question="谁？",
        options=("甲", "乙", "丙"),
        answer=answer,
        group="g",
        source="r",
        kind="votes",
        texts=texts,
    )


def case(letters: str, margins: Sequence[float], answer: str = "A", rounds: int = 1) -> Case:
    return Case(lesson(letters, answer, rounds), np.array(margins, float))


# Scores


def test_the_scores_of_one_questions_answers_add_up_to_one() -> None:
    scores = Calibration(temperature=2.0).scores(case("ABC", [2.0, 0.0, -2.0]), ANSWER)
    assert sum(scores) == pytest.approx(1)
    assert scores[0] / scores[1] == pytest.approx(np.e)


def test_a_vote_without_a_letter_scores_nought() -> None:
    assert Calibration().scores(case("-A", [0.0, 0.0, 0.0]), ANSWER) == [0.0, pytest.approx(1 / 3)]


def test_a_text_that_is_read_itself_scores_by_itself() -> None:
    scores = Calibration(temperature=0.5, bias=-1.0).scores(case("AB", [0.5, -3.0]), TEXT)
    assert scores == [pytest.approx(0.5), pytest.approx(1 / (1 + np.exp(7)))]


def test_a_temperature_brings_boastful_margins_down_to_what_they_are_worth() -> None:
    # Twice as sure as right: of ten questions with these odds, eight are right.
    odds = float(np.log(8))
    cases = [case("ABC", [2 * odds, 0, 0], answer="A" if at < 8 else "B") for at in range(10)]
    found = calibration.calibrate(cases, ANSWER)
    assert found.bias == 0
    assert found.scores(cases[0], ANSWER)[0] == pytest.approx(0.8, abs=0.01)
    assert calibration.loss(cases, found, ANSWER) < calibration.loss(cases, Calibration(), ANSWER)


def test_margins_of_texts_get_a_bias_too() -> None:
    cases = [case("A", [3.0], answer="A" if at < 5 else "B") for at in range(10)]
    cases += [case("A", [-3.0], answer="A" if at < 1 else "B") for at in range(10)]
    found = calibration.calibrate(cases, TEXT)
    assert found.scores(cases[0], TEXT)[0] == pytest.approx(0.5, abs=0.01)
    assert found.scores(cases[-1], TEXT)[0] == pytest.approx(0.1, abs=0.01)


def test_a_scorer_that_makes_no_mistake_does_not_break_the_fit() -> None:
    cases = [case("AB", [9.0, -9.0]) for _ in range(10)]
    found = calibration.calibrate(cases, TEXT)
    assert np.isfinite([found.temperature, found.bias]).all()
    assert found.scores(cases[0], TEXT) == [pytest.approx(1, abs=0.01), pytest.approx(0, abs=0.01)]


# Figures


def test_auc_is_over_all_texts_or_over_the_readable_ones() -> None:
    cases, scores = [case("AB-", [0, 0, 0])], [[0.4, 0.6, 0.0]]
    assert calibration.auc(cases, scores, readable=True) == 0.0
    assert calibration.auc(cases, scores, readable=False) == 0.5
    assert calibration.auc([case("AA", [0, 0, 0])], [[0.4, 0.6]], readable=True) is None


def test_bins_say_how_often_a_score_was_right() -> None:
    cases = [case("AB-", [0, 0, 0]), case("AA", [0, 0, 0])]
    bins = calibration.reliability(cases, [[0.95, 0.11, 0.0], [1.0, 0.19]])
    assert bins == [[pytest.approx(0.15), 0.5, 2.0], [pytest.approx(0.975), 1.0, 2.0]]
    assert calibration.expected_error(bins) == pytest.approx((0.35 + 0.025) / 2)
    assert calibration.expected_error([]) == 0.0


# Ways of answering


def test_scores_that_know_better_beat_the_majority_and_the_cheapest_use_wins() -> None:
    cases = [case("ABB", [0, 0, 0]) for _ in range(4)]
    found = calibration.answered(cases, [[0.9, 0.1, 0.1]] * 4)
    assert found.by_use["majority"] == 0.0
    assert found.by_use["weighted"] == found.by_use["gate"] == found.by_use["gate-weighted"] == 1.0
    assert found.rule.use is VotingMode.WEIGHTED
    assert found.best == 1.0
    assert (found.by_use["one vote"], found.by_use["oracle"]) == (pytest.approx(1 / 3), 1.0)


def test_scores_that_know_nothing_do_not_beat_the_majority() -> None:
    cases = [case("AAB", [0, 0, 0]) for _ in range(4)]
    found = calibration.answered(cases, [[0.5, 0.5, 0.5]] * 4)
    assert found.by_use["majority"] == found.by_use[found.rule.use] == 1.0
    assert found.best == 1.0


def test_a_gate_can_do_what_weights_cannot() -> None:
    # Three votes for a wrong letter weigh more than the one for the right, and none is above the threshold.
    cases = [case("ABBB", [0, 0, 0]) for _ in range(4)]
    found = calibration.answered(cases, [[0.6, 0.35, 0.35, 0.35]] * 4)
    assert found.by_use["weighted"] == 0.0
    assert found.rule.use is VotingMode.GATE_WEIGHTED
    assert 0.35 < found.rule.threshold <= 0.9


def test_a_lone_peak_among_thresholds_is_luck() -> None:
    shares = dict.fromkeys(calibration.THRESHOLDS, 0.5) | {0.1: 0.62, 0.6: 0.6, 0.65: 0.6, 0.7: 0.6}
    assert calibration._best(shares.__getitem__) == 0.65


def test_what_was_chosen_elsewhere_is_used_as_it_is() -> None:
    given = Chosen({"gate": 0.5, "gate-weighted": 0.2}, Rule(VotingMode.GATE, 0.5), None)
    found = calibration.answered([case("AAB", [0, 0, 0])], [[0.1, 0.1, 0.4]], given)
    assert (found.thresholds, found.rule) == (given.thresholds, given.rule)
    # No vote is above the gate, so that the majority of all decides, as it would for a worker.
    assert found.by_use["gate"] == 1.0
    assert found.by_use["gate-weighted"] == 0.0


def test_a_void_round_is_followed_by_the_next_one_on_record() -> None:
    asked_twice = case("AB", [0, 0, 0], rounds=2)
    given = Chosen({"gate": 0.5}, Rule(VotingMode.GATE, 0.5), None)
    found = calibration.answered([asked_twice], [[0.1, 0.3, 0.8, 0.3]], given)
    assert found.by_use["gate"] == 1.0


# Votes of several kinds


def mixed(at: int, words: str, results: str) -> Case:
    """Make a question of its own group, with reasonings for letters and programs with results for others."""
    found = lesson(words + results)
    texts = tuple(
        text if place < len(words) else text.model_copy(update={"voice": "program", "outcome": "result"})
        for place, text in enumerate(found.texts)
    )
    return Case(found.model_copy(update={"texts": texts, "group": f"g{at}"}), np.zeros(len(texts)))


def test_votes_count_what_their_kind_is_worth_and_the_majority_may_win_by_it() -> None:
    # Two of three words are wrong, and every result is right.
    cases = [mixed(at, "BBA", "AA") for at in range(10)]
    found = calibration.answered(cases, [[0.5] * 5] * 10)
    assert found.kinds is not None
    assert found.kinds.weights["reasoning"] == (0.0,) * (FOLDS + 1)
    assert found.kinds.weights["program result"][UNLABELLED] == pytest.approx(log_odds(20, 20, 20 / 3))
    assert (found.by_use["majority"], found.by_use[BY_KIND]) == (1.0, 1.0)
    assert found.best == found.by_use["majority"]
    cases = [mixed(at, "BBB", "A") for at in range(10)]
    found = calibration.answered(cases, [[0.5] * 4] * 10)
    assert (found.by_use["majority"], found.by_use[BY_KIND], found.best) == (0.0, 1.0, 1.0)


def test_a_question_is_voted_on_with_what_was_learned_without_its_fold() -> None:
    cases = [mixed(0, "B", "A"), *(mixed(at, "A", "B") for at in range(1, 6))]
    found = calibration.answered(cases, [[0.5] * 2] * 6)
    assert found.kinds is not None
    alone = cases[0].labelled.fold
    others = [case for case in cases if case.labelled.fold != alone]
    assert len(others) < 6
    assert found.kinds.weights["program result"][alone] == 0.0
    assert found.kinds.weights["reasoning"][alone] == pytest.approx(
        log_odds(len(others), len(others), len(others) / 3)
    )


def test_on_tests_votes_count_what_was_learned_elsewhere() -> None:
    learned = calibration.answered([mixed(at, "BBB", "A") for at in range(10)], [[0.5] * 4] * 10)
    given = Chosen(learned.thresholds, learned.rule, learned.kinds)
    found = calibration.answered([mixed(11, "AAA", "B")], [[0.5] * 4], given)
    assert (found.best, found.by_use["majority"]) == (0.0, 1.0)


def test_without_programs_nothing_is_weighed_by_kind() -> None:
    found = calibration.answered([case("AAB", [0, 0, 0])], [[0.5] * 3])
    assert found.kinds is None
    assert BY_KIND not in found.by_use


def test_the_scores_of_programs_are_not_measured() -> None:
    cases = [mixed(0, "AB", "AB")]
    assert calibration.auc(cases, [[0.9, 0.1, 0.1, 0.9]], readable=True) == 1.0
    assert sum(texts for _, _, texts in calibration.reliability(cases, [[0.9, 0.1, 0.1, 0.9]])) == 2
    assert calibration.loss(cases, Calibration(), TEXT) == pytest.approx(np.log(2))
