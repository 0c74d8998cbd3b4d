"""Early stop, compared with all ways in which a round can still end."""

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import voting
from shared.early_stop import PendingVote, StopRule
from shared.voting import GATE, PLAIN, SUREST, Answer, Fallback, Rule, Vote, VotingMode

VOID = Vote(None, 0.0)
SCORES = (0.0, 0.3, 0.5, 0.75, 0.9, 1.0)
USES = st.sampled_from(VotingMode)
Decide = Callable[[Sequence[Vote]], Answer | None]


def majority(size: int) -> StopRule:
    return StopRule("ABCDE"[:size], lambda votes: voting.decide(votes, PLAIN), lambda _, letter: Vote(letter))


def round_of(letters: str, size: int = 5) -> list[Vote | PendingVote]:
    """Make a round of some known votes ("-" has no letter, "." is still to come), and the rest to come."""
    kinds: dict[str, Vote | PendingVote] = {"-": Vote(None), ".": PendingVote()}
    known = [kinds.get(letter, Vote(letter)) for letter in letters]
    return known + [PendingVote()] * (size - len(known))


@pytest.mark.parametrize(
    ("letters", "fixed", "fewest"),
    [
        ("", False, 3),
        ("AAA", True, 0),
        ("AA", False, 1),
        ("AAB", False, 1),
        ("AABA", True, 0),
        ("AABB", False, 1),
        # A tie goes to the letter seen first: to A, whose place is the first, and not to B.
        ("AABC", True, 0),
        ("BAAC", False, 1),
        ("ABCA", True, 0),
        ("---", False, 1),
        ("---A", True, 0),
        ("A---", True, 0),
        ("A--", False, 1),
        # The vote at the first place is still to come: if it is B, then B is seen first.
        (".A---", False, 1),
        (".AAB-", False, 1),
        (".AAA", True, 0),
    ],
)
def test_a_majority_of_five_is_fixed_as_soon_as_it_is(letters: str, fixed: bool, fewest: int) -> None:
    votes = round_of(letters)
    assert majority(4).is_fixed(votes) is fixed
    assert majority(4).votes_needed(votes) == fewest


@pytest.mark.parametrize(("size", "first"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (64, 32)])
def test_a_first_wave_is_the_fewest_votes_that_could_decide(size: int, first: int) -> None:
    assert majority(5).votes_needed(round_of("", size)) == first


def test_a_letter_that_outweighs_all_others_needs_one_vote() -> None:
    scores = {"A": 0.05, "B": 0.9, "C": 0.05}
    rule = Rule(VotingMode.WEIGHTED, 0.0)
    stop_rule = StopRule(
        "ABC", lambda votes: voting.decide(votes, rule), lambda _, letter: Vote(letter, scores[letter])
    )
    assert stop_rule.votes_needed([PendingVote()] * 5) == 1
    assert stop_rule.is_fixed([Vote("B", 0.9), *[PendingVote()] * 4])
    assert not stop_rule.is_fixed([Vote("A", 0.05), *[PendingVote()] * 4])


def test_a_scorer_of_texts_may_still_give_every_vote_to_come_the_highest_odds() -> None:
    rule = Rule(VotingMode.WEIGHTED, 0.0)
    stop_rule = StopRule("AB", lambda votes: voting.decide(votes, rule), lambda _, letter: Vote(letter, 1.0))
    assert not stop_rule.is_fixed([Vote("A", 0.98), Vote("A", 0.9), PendingVote()])  # odds 49 + 9 against 99
    assert stop_rule.is_fixed([Vote("A", 1 - SUREST), Vote("A", 0.1), PendingVote()])
    assert stop_rule.is_fixed([Vote("A", 1.0), PendingVote()])  # 99 against 99: A is seen first


def test_a_round_that_can_accept_no_vote_has_no_answer_from_the_beginning() -> None:
    stop_rule = StopRule("AB", lambda votes: voting.decide(votes, GATE), lambda _, letter: Vote(letter, 0.4))
    assert stop_rule.is_fixed([PendingVote()] * 5)
    assert stop_rule.votes_needed([PendingVote()] * 5) == 0


# All ways in which a round can end


def endings(votes: Sequence[Vote | PendingVote], possible: Callable[[str], list[Vote]]) -> list[list[Vote]]:
    """List all rounds that known votes and votes to come can become."""
    ways = [[vote] if isinstance(vote, Vote) else possible(vote.voice) for vote in votes]
    return [list(way) for way in itertools.product(*ways)]


def letter_of(decide: Decide, votes: Sequence[Vote]) -> str | None:
    answer = decide(votes)
    return answer.letter if answer else None


def check(
    stop_rule: StopRule, votes: Sequence[Vote | PendingVote], possible: Callable[[str], list[Vote]]
) -> None:
    """Compare the rule with all endings."""
    letters = {letter_of(stop_rule.decide, ending) for ending in endings(votes, possible)}
    assert stop_rule.is_fixed(votes) == (len(letters) == 1)
    known = [vote for vote in votes if isinstance(vote, Vote)]
    if stop_rule.is_fixed(votes):
        assert letters == {letter_of(stop_rule.decide, known)}
    check_fewest(stop_rule, votes, possible)


def check_fewest(
    stop_rule: StopRule, votes: Sequence[Vote | PendingVote], possible: Callable[[str], list[Vote]]
) -> None:
    """Check that no fewer votes can fix the answer, and that so many can."""
    fewest = stop_rule.votes_needed(votes)
    assert (fewest == 0) == stop_rule.is_fixed(votes)
    coming = [at for at, vote in enumerate(votes) if isinstance(vote, PendingVote)]
    for count in {max(fewest - 1, 0), fewest}:
        drawn = set(coming[:count])
        ways = [
            possible(vote.voice) if at in drawn and isinstance(vote, PendingVote) else [vote]
            for at, vote in enumerate(votes)
        ]
        could = any(stop_rule.is_fixed(list(way)) for way in itertools.product(*ways))
        assert could == (count == fewest)


def deciding(rule: Rule, last: bool, earlier: Sequence[Vote], fallback: Fallback) -> Decide:
    def decide(votes: Sequence[Vote]) -> Answer | None:
        answer = voting.decide(votes, rule)
        return voting.fall_back([*earlier, *votes], fallback) if answer is None and last else answer

    return decide


rules = st.builds(Rule, USES, st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]))
earlier_votes = st.lists(
    st.builds(Vote, st.sampled_from(["A", "B", None]), st.sampled_from(SCORES)), max_size=3
)
fallbacks = st.sampled_from(["majority", "constant"])
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


@settings(max_examples=400)
@given(data=st.data(), rule=rules, last=st.booleans(), earlier=earlier_votes, fallback=fallbacks)
def test_the_answer_is_fixed_exactly_if_all_endings_agree_where_letters_have_known_scores(
    data: st.DataObject, rule: Rule, last: bool, earlier: list[Vote], fallback: Fallback
) -> None:
    letters = "ABC"[: data.draw(st.integers(2, 3))]
    kinds = [(voice, letter) for voice in ("reasoning", "program") for letter in letters]
    scored = {voice: data.draw(st.booleans()) for voice in ("reasoning", "program")}
    scores = {kind: data.draw(st.sampled_from(SCORES)) if scored[kind[0]] else None for kind in kinds}
    weights = {kind: data.draw(WEIGHTS) for kind in kinds}

    def vote(voice: str, letter: str) -> Vote:
        return Vote(letter, scores[voice, letter], weights[voice, letter])

    def possible(voice: str) -> list[Vote]:
        return [VOID, *(vote(voice, letter) for letter in letters)]

    size = data.draw(st.integers(1, 5))
    votes: list[Vote | PendingVote] = []
    for _ in range(size):
        voice = data.draw(st.sampled_from(["reasoning", "program"]))
        votes.append(data.draw(st.sampled_from([PendingVote(voice), *possible(voice)])))
    check(StopRule(letters, deciding(rule, last, earlier, fallback), vote), votes, possible)


@settings(max_examples=200)
@given(data=st.data(), rule=rules, last=st.booleans(), earlier=earlier_votes, fallback=fallbacks)
def test_the_answer_is_fixed_exactly_if_all_endings_agree_where_scores_are_bounded(
    data: st.DataObject, rule: Rule, last: bool, earlier: list[Vote], fallback: Fallback
) -> None:
    letters = "ABC"[: data.draw(st.integers(2, 3))]
    possible = [Vote(letter, score) for letter in letters for score in (0.0, 0.5, 1.0)]
    known = st.builds(Vote, st.sampled_from([*letters, None]), st.sampled_from(SCORES))
    votes = data.draw(st.lists(known, min_size=0, max_size=4))
    places: list[Vote | PendingVote] = [*votes, *[PendingVote()] * data.draw(st.integers(0, 3))]
    check(
        StopRule(letters, deciding(rule, last, earlier, fallback), lambda _, letter: Vote(letter, 1.0)),
        data.draw(st.permutations(places)),
        lambda _: [VOID, *possible],
    )


@settings(max_examples=200)
@given(
    data=st.data(),
    rule=rules,
    last=st.booleans(),
    fallback=fallbacks,
    letters=st.lists(st.sampled_from("ABCD-"), min_size=1, max_size=9),
)
def test_waves_of_the_fewest_votes_give_the_answer_of_the_whole_round(
    data: st.DataObject, rule: Rule, last: bool, fallback: Fallback, letters: list[str]
) -> None:
    scores = {letter: data.draw(st.sampled_from(SCORES)) for letter in "ABCD"}
    whole = [VOID if letter == "-" else Vote(letter, scores[letter]) for letter in letters]
    stop_rule = StopRule(
        "ABCD", deciding(rule, last, [], fallback), lambda _, letter: Vote(letter, scores[letter])
    )
    votes: list[Vote | PendingVote] = [PendingVote()] * len(whole)
    asked = 0
    while wave := stop_rule.votes_needed(votes):
        votes[asked : asked + wave] = whole[asked : asked + wave]
        asked += wave
    assert letter_of(stop_rule.decide, whole[:asked]) == letter_of(stop_rule.decide, whole)
