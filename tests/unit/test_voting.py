"""Votes to one answer: majorities by count and by weight, ties, voids, and the fallback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import voting
from shared.voting import GATE, PLAIN, Answer, Outcome, Rule, Vote, VotingMode

WEIGHTED = Rule(VotingMode.WEIGHTED, 0.5)
GATE_WEIGHTED = Rule(VotingMode.GATE_WEIGHTED, 0.5)
RULES = [PLAIN, GATE, WEIGHTED, GATE_WEIGHTED]


def votes(letters: str, *scores: float) -> list[Vote]:
    """Make votes from letters ("-" is none) and as many scores as there are."""
    padded: list[float | None] = [*scores, *[None] * (len(letters) - len(scores))]
    return [
        Vote(None if letter == "-" else letter, score) for letter, score in zip(letters, padded, strict=True)
    ]


@pytest.mark.parametrize("rule", RULES)
def test_the_majority_is_the_answer_where_nothing_is_scored(rule: Rule) -> None:
    assert voting.decide(votes("ABBCB"), rule) == Answer("B", Outcome.UNSCORED, 3)


@pytest.mark.parametrize("rule", RULES)
def test_votes_without_a_letter_do_not_count(rule: Rule) -> None:
    assert voting.decide(votes("---B-"), rule) == Answer("B", Outcome.UNSCORED, 1)


@pytest.mark.parametrize("rule", RULES)
def test_with_no_letter_at_all_the_question_is_asked_again(rule: Rule) -> None:
    assert voting.decide([], rule) is None
    assert voting.decide(votes("--", 0.9, 0.9), rule) is None


def test_the_gate_voids_votes_below_its_threshold() -> None:
    mixed = votes("AAB", 0.1, 0.49, 0.5)
    assert voting.decide(mixed, GATE) == Answer("B", Outcome.MAJORITY, 1)
    assert voting.decide(mixed[:2], GATE) is None


def test_the_gate_counts_what_it_lets_pass() -> None:
    assert voting.decide(votes("ABB", 1.0, 0.6, 0.6), GATE) == Answer("B", Outcome.MAJORITY, 2)


def test_weights_count_every_vote_by_its_odds() -> None:
    mixed = votes("ABBA", 0.9, 0.3, 0.3, 0.1)
    assert voting.decide(mixed, WEIGHTED) == Answer("A", Outcome.WEIGHTED, 2)
    assert voting.decide(votes("ABB", 0.9, 0.3, 0.3), WEIGHTED) == Answer("A", Outcome.WEIGHTED, 1)
    assert voting.decide(votes("ABB", 0.6, 0.4, 0.4), WEIGHTED) == Answer("A", Outcome.WEIGHTED, 1)
    assert voting.decide(votes("ABB", 0.5, 0.4, 0.4), WEIGHTED) == Answer("B", Outcome.WEIGHTED, 2)


def test_no_vote_outweighs_a_hundred_others() -> None:
    assert voting.decide(votes("A" + "B" * 100, 1.0, *[0.5] * 100), WEIGHTED) == Answer(
        "B", Outcome.WEIGHTED, 100
    )


def test_weights_void_no_vote_however_low_its_score() -> None:
    assert voting.decide(votes("A", 0.01), WEIGHTED) == Answer("A", Outcome.WEIGHTED, 1)


def test_gate_then_weighted_voids_first_and_weighs_then() -> None:
    mixed = votes("AAABB", 0.4, 0.4, 0.6, 0.5, 0.5)
    assert voting.decide(mixed, GATE_WEIGHTED) == Answer("B", Outcome.WEIGHTED, 2)
    assert voting.decide(mixed, WEIGHTED) == Answer("A", Outcome.WEIGHTED, 3)
    assert voting.decide(mixed[:2], GATE_WEIGHTED) is None


def test_the_plain_majority_heeds_no_score() -> None:
    assert voting.decide(votes("ABB", 1.0, 0.0, 0.0), PLAIN) == Answer("B", Outcome.UNSCORED, 2)
    assert voting.decide(votes("AB", 0.1, 0.9), PLAIN) == Answer("A", Outcome.UNSCORED, 1)


def test_a_tie_of_counts_goes_to_the_higher_summed_weight() -> None:
    assert voting.decide(votes("ABBA", 0.6, 0.9, 0.9, 0.6), GATE) == Answer("B", Outcome.MAJORITY, 2)


def test_a_tie_of_weights_goes_to_more_votes() -> None:
    assert voting.decide(votes("ABBBB", 0.5, *[0.2] * 4), WEIGHTED) == Answer("B", Outcome.WEIGHTED, 4)


@pytest.mark.parametrize("rule", RULES)
def test_a_tie_of_everything_goes_to_the_letter_seen_first(rule: Rule) -> None:
    found = voting.decide(votes("CABAC", *[0.75] * 5), rule)
    assert found is not None
    assert (found.letter, found.support) == ("C", 2)


def test_the_fallback_is_the_majority_of_all_letters_ever_read() -> None:
    assert voting.fall_back(votes("-ACC", 0.1, 0.9, 0.1, 0.1), "majority") == Answer("C", Outcome.UNSCORED, 2)


def test_the_constant_fallback_is_a() -> None:
    assert voting.fall_back(votes("CC"), "constant") == Answer("A", Outcome.DEFAULT, 0)


def test_with_no_letter_at_all_the_answer_is_a_and_says_so() -> None:
    assert voting.fall_back(votes("--"), "majority") == Answer("A", Outcome.DEFAULT, 0)
    assert voting.fall_back([], "majority") == Answer("A", Outcome.DEFAULT, 0)


def test_a_replay_takes_rounds_until_one_gives_an_answer() -> None:
    rounds = [votes("AA", 0.1, 0.1), votes("B", 0.9), votes("C", 0.9)]
    assert voting.revote(rounds, GATE, "majority") == (Answer("B", Outcome.MAJORITY, 1), 2)
    assert voting.revote(rounds, PLAIN, "majority") == (Answer("A", Outcome.UNSCORED, 2), 1)


def test_a_replay_without_an_answer_falls_back_on_all_rounds() -> None:
    rounds = [votes("AB", 0.1, 0.2), votes("B", 0.3)]
    assert voting.revote(rounds, GATE, "majority") == (Answer("B", Outcome.UNSCORED, 2), 2)
    assert voting.revote(rounds, GATE, "constant") == (Answer("A", Outcome.DEFAULT, 0), 2)
    assert voting.revote([], GATE, "majority") == (Answer("A", Outcome.DEFAULT, 0), 0)


def odds(score: float) -> float:
    """Give the odds of a score, as far from nought and one as votes are heard."""
    sure = min(max(score, 0.01), 0.99)
    return sure / (1 - sure)


@given(st.lists(st.tuples(st.sampled_from("ABC-"), st.floats(0, 1)), min_size=1), st.sampled_from(RULES))
def test_the_answer_has_the_most_of_what_its_rule_counts(told: list[tuple[str, float]], rule: Rule) -> None:
    made = votes("".join(letter for letter, _ in told), *(score for _, score in told))
    answer = voting.decide(made, rule)
    counted = [vote for vote in made if rule.accepts(vote.letter, vote.score)]
    assert (answer is None) == (not counted)
    if answer is not None:
        weight = {vote.letter: 0.0 for vote in counted}
        for vote in counted:
            weight[vote.letter] += odds(vote.score or 0.0) if rule.use.weighs else 1
        assert weight[answer.letter] == max(weight.values())
        assert answer.support == sum(vote.letter == answer.letter for vote in counted)


@given(st.lists(st.sampled_from("ABC-"), min_size=1))
def test_equal_scores_change_no_answer(letters: list[str]) -> None:
    made = votes("".join(letters), *[0.5] * len(letters))
    plain = voting.decide(made, PLAIN)
    for rule in (GATE, WEIGHTED, GATE_WEIGHTED):
        found = voting.decide(made, rule)
        assert (found and found.letter) == (plain and plain.letter)


# Weights of votes


def weighed(letters: str, *weights: float) -> list[Vote]:
    return [Vote(letter, weight=weight) for letter, weight in zip(letters, weights, strict=True)]


@pytest.mark.parametrize("rule", RULES)
def test_a_vote_counts_its_weight_and_support_counts_votes(rule: Rule) -> None:
    assert voting.decide(weighed("ABB", 2.5, 1, 1), rule) == Answer("A", Outcome.WEIGHTED, 1)
    assert voting.decide(weighed("ABB", 1.5, 1, 1), rule) == Answer("B", Outcome.WEIGHTED, 2)


def test_weights_that_differ_by_rounding_only_are_a_tie() -> None:
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ as sums in this order.
    assert voting.decide(weighed("BAAABB", 0.1, 0.3, 0.2, 0.1, 0.2, 0.3), PLAIN) == Answer(
        "B", Outcome.WEIGHTED, 3
    )


def test_votes_of_weight_zero_break_no_tie_but_count_as_support() -> None:
    assert voting.decide(weighed("BBAB", 0, 0, 1, 1), PLAIN) == Answer("A", Outcome.WEIGHTED, 1)
    assert voting.decide(weighed("AAB", 0, 1, 0.5), PLAIN) == Answer("A", Outcome.WEIGHTED, 2)
    unread = [Vote("B", 0.1, weight=0), Vote(None)]
    assert voting.decide(unread, PLAIN) == Answer("B", Outcome.WEIGHTED, 1)
    assert voting.fall_back(unread, "majority") == Answer("B", Outcome.UNSCORED, 1)


def test_where_all_votes_have_weight_zero_the_letter_with_more_votes_wins() -> None:
    assert voting.decide(weighed("ABB", 0, 0, 0), PLAIN) == Answer("B", Outcome.WEIGHTED, 2)
    assert voting.decide(weighed("ABB", 0.1, 0, 0), PLAIN) == Answer("A", Outcome.WEIGHTED, 1)


def test_a_weight_multiplies_the_odds_and_the_gate_still_voids() -> None:
    mixed = [Vote("A", 0.6, 1.0), Vote("B", 0.6, 3.0), Vote("A", 0.6, 1.0)]
    assert voting.decide(mixed, WEIGHTED) == Answer("B", Outcome.WEIGHTED, 1)
    assert voting.decide(mixed, GATE) == Answer("B", Outcome.MAJORITY, 1)
    assert voting.decide([Vote("A", 0.4, 9.0), Vote("B", 0.6)], GATE) == Answer("B", Outcome.MAJORITY, 1)


@given(
    st.lists(st.tuples(st.sampled_from("ABC-"), st.sampled_from([None, 0.2, 0.6, 0.9]))),
    st.sampled_from(RULES),
)
def test_equal_weights_give_the_same_letter_as_none(cast: list[tuple[str, float | None]], rule: Rule) -> None:
    plain = [Vote(None if letter == "-" else letter, score) for letter, score in cast]
    doubled = [Vote(vote.letter, vote.score, 2.0) for vote in plain]
    once, twice = voting.decide(plain, rule), voting.decide(doubled, rule)
    assert (once and (once.letter, once.support)) == (twice and (twice.letter, twice.support))
