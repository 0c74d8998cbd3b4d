"""Votes to one answer: the majority, ties, voids, and what is left when nothing was accepted."""

from hypothesis import given
from hypothesis import strategies as st

from shared import voting
from shared.voting import Answer, Outcome, Vote


def votes(letters: str, *scores: float, accepted: bool = True) -> list[Vote]:
    """Make votes from letters ("-" is none) and as many scores as there are."""
    padded: list[float | None] = [*scores, *[None] * (len(letters) - len(scores))]
    return [
        Vote(None if letter == "-" else letter, accepted, score)
        for letter, score in zip(letters, padded, strict=True)
    ]


def test_the_majority_is_the_answer() -> None:
    assert voting.decide(votes("ABBCB")) == Answer("B", Outcome.UNSCORED, 3)


def test_votes_without_a_letter_do_not_count() -> None:
    assert voting.decide(votes("---B-")) == Answer("B", Outcome.UNSCORED, 1)


def test_void_votes_do_not_count() -> None:
    mixed = votes("AA", 0.1, 0.2, accepted=False) + votes("B", 0.9)
    assert voting.decide(mixed) == Answer("B", Outcome.MAJORITY, 1)


def test_with_no_accepted_letter_the_question_is_asked_again() -> None:
    assert voting.decide([]) is None
    assert voting.decide(votes("AB", accepted=False)) is None
    assert voting.decide(votes("--", 0.9, 0.9)) is None


def test_a_tie_goes_to_the_higher_summed_score() -> None:
    assert voting.decide(votes("ABBA", 0.6, 0.9, 0.9, 0.6)) == Answer("B", Outcome.MAJORITY, 2)


def test_a_tie_of_scores_too_goes_to_the_letter_seen_first() -> None:
    assert voting.decide(votes("CABAC")) == Answer("C", Outcome.UNSCORED, 2)


def test_a_higher_score_does_not_outweigh_the_count() -> None:
    assert voting.decide(votes("ABB", 1.0, 0.1, 0.1)) == Answer("B", Outcome.MAJORITY, 2)


def test_the_fallback_is_the_majority_of_all_letters_ever_read() -> None:
    assert voting.fall_back(votes("-ACC", accepted=False), "majority") == Answer("C", Outcome.UNSCORED, 2)


def test_the_constant_fallback_is_a() -> None:
    assert voting.fall_back(votes("CC", accepted=False), "constant") == Answer("A", Outcome.DEFAULT, 0)


def test_with_no_letter_at_all_the_answer_is_a_and_says_so() -> None:
    assert voting.fall_back(votes("--", accepted=False), "majority") == Answer("A", Outcome.DEFAULT, 0)
    assert voting.fall_back([], "majority") == Answer("A", Outcome.DEFAULT, 0)


@given(st.lists(st.sampled_from("ABC-"), min_size=1))
def test_no_letter_has_more_votes_than_the_answer(letters: list[str]) -> None:
    answer = voting.decide(votes("".join(letters)))
    counts = {letter: letters.count(letter) for letter in letters if letter != "-"}
    assert (answer is None) == (not counts)
    assert answer is None or answer.support == counts[answer.letter] == max(counts.values())
