"""Rounds that stop early, over fakes and a real ledger: fewer votes, and the answers of whole rounds."""

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared import settings
from shared.ledger import engine, schema
from shared.ledger.schema import State
from shared.prompts import PromptQuestion
from shared.training_examples import Text
from shared.voting import Rule, VotingMode
from tests.fakes import FakeGenerator, FakeScorer, Reply, Request
from tests.integration import model_fixtures
from tests.integration.test_rounds import answered, claim, open_run, play, playing, rows, standing, votes
from workers.ports import Progress

WEIGHTED = Rule(VotingMode.WEIGHTED, 0.0)
LETTERS = "question+answer"


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str) -> None:
    """Have a broker that answers and an empty ledger."""
    assert engine.engine().dialect.name == any_ledger
    settings.load.cache_clear()


class PlacedGenerator(FakeGenerator):
    """Gives each place of a round its vote: marks in the question -> the letters of its rounds.

    The votes at the places ``endless`` never finish.
    """

    def __init__(self, rounds: Mapping[str, Sequence[str]], endless: Sequence[int] = (), **more: Any) -> None:
        super().__init__(**more)
        self._rounds = {mark: itertools.chain(of_mark) for mark, of_mark in rounds.items()}
        self._current: dict[str, str] = {}
        self._endless = endless

    @property
    def waves(self) -> list[tuple[int, int]]:
        """Give the first place and the number of votes of each request."""
        return [(request.step.first, request.sampling.votes) for request in self.requests]

    def _reply(self, request: Request) -> Reply:
        (mark,) = (mark for mark in self._rounds if mark in request.asks)
        first = request.step.first
        if first == 0:
            self._current[mark] = next(self._rounds[mark])
        return votes(self._current[mark][first : first + request.sampling.votes])

    async def sample(self, *asked: Any, **more: Any) -> Any:
        """Give the votes, or some tokens and no end."""
        progress: Progress = asked[4]
        if asked[6].first in self._endless:
            progress.count(0, 7, finished=False)
            await asyncio.Event().wait()
        return await super().sample(*asked, **more)


class LetterScorer(FakeScorer):
    """Scores letters, whatever the text."""

    def __init__(self, **scores: float) -> None:
        super().__init__()
        self._scores = scores

    def score(
        self, name: str, questions: Sequence[tuple[PromptQuestion, Sequence[Text]]]
    ) -> list[list[float]]:
        """Score each letter; none scores 0."""
        self.names.append(name)
        self.seen.extend((asked, vote.text) for asked, texts in questions for vote in texts)
        return [[self._scores.get(vote.letter or "", 0.0) for vote in texts] for _, texts in questions]


def stopping(tmp_path: Path, questions: int = 1, **changes: Any) -> str:
    return open_run(tmp_path, questions, **{"stop": "exact", "votes": 5, "max_attempts": 5, **changes})


def places(run: str) -> list[tuple[int, str | None]]:
    return [(row["place"], row["letter"]) for row in rows(schema.votes, run)]


# Waves


@pytest.mark.parametrize(
    ("letters", "waves", "letter"),
    [
        ("AAABB", [(0, 3)], "A"),
        ("BAACB", [(0, 3), (3, 1), (4, 1)], "B"),
        # C can tie with A, which is seen first.
        ("ABCAC", [(0, 3), (3, 1)], "A"),
        ("---CB", [(0, 3), (3, 1)], "C"),
    ],
)
def test_a_majority_of_five_is_asked_for_in_waves_of_three_one_and_one(
    letters: str, waves: list[tuple[int, int]], letter: str, tmp_path: Path
) -> None:
    run = stopping(tmp_path)
    generator = PlacedGenerator({"题0：": [letters]})
    asked = waves[-1][0] + waves[-1][1]
    (outcome,) = play(playing(generator), claim(run))
    assert generator.waves == waves
    assert answered(run)[0][0] == letter
    assert [letter or "-" for _, letter in places(run)] == list(letters[:asked])
    [sampled] = rows(schema.rounds, run)
    assert (sampled["unfinished"], sampled["aborted_tokens"]) == (5 - asked, 0)
    assert outcome.endswith(f"of {asked} votes" + (f", {5 - asked} not needed" if asked < 5 else ""))


def test_without_it_all_votes_of_a_round_are_asked_for_at_once(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, votes=5)
    generator = PlacedGenerator({"题0：": ["AAAAA"]})
    play(playing(generator), claim(run))
    assert generator.waves == [(0, 5)]
    assert rows(schema.rounds, run)[0]["unfinished"] is None


def test_a_round_without_an_accepted_vote_is_whole_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    run = stopping(tmp_path)
    generator = PlacedGenerator({"题0：": ["-----", "BBBBB"]})
    rounds_of = playing(generator)
    assert play(rounds_of, claim(run)) == ["again: none of 5 votes was accepted"]
    assert play(rounds_of, claim(run)) == ["B: unscored majority, 3 of 3 votes, 2 not needed"]
    assert generator.waves == [(0, 3), (3, 1), (4, 1), (0, 3)]


def test_votes_of_later_waves_have_the_rounds_seed_and_their_places(tmp_path: Path) -> None:
    run = stopping(tmp_path, seed=7)
    generator = PlacedGenerator({"题0：": ["ABCCC"]})
    play(playing(generator), claim(run))
    [sampled] = rows(schema.rounds, run)
    assert {request.seed for request in generator.requests} == {sampled["seed"]}
    assert [request.step.first for request in generator.requests] == [0, 3, 4]


def test_votes_without_a_letter_are_asked_for_it_in_their_wave(tmp_path: Path) -> None:
    run = stopping(tmp_path, ask_letter="always")
    generator = PlacedGenerator({"题0：": ["-A-BB"]}, letters=["A", "A"])
    assert play(playing(generator), claim(run)) == ["A: unscored majority, 3 of 3 votes, 2 not needed"]
    assert [len(texts) for texts, _ in generator.asked_letters] == [2]


def test_a_stopped_question_leaves_no_votes_under_way(tmp_path: Path) -> None:
    run = stopping(tmp_path)
    rounds_of = playing(PlacedGenerator({"题0：": ["AAAAA"]}))
    play(rounds_of, claim(run))
    (figures,) = rounds_of.meter.figures()
    assert (figures.votes, figures.votes_under_way) == (3, 0)


# Aborts


def test_votes_in_flight_are_aborted_when_the_answer_is_fixed_and_keep_their_tokens(tmp_path: Path) -> None:
    run = stopping(tmp_path, first_wave=5)
    generator = PlacedGenerator({"题0：": ["A-AA-"]}, endless=(1, 4))
    assert play(playing(generator), claim(run)) == ["A: unscored majority, 3 of 3 votes, 2 not needed"]
    assert places(run) == [(0, "A"), (2, "A"), (3, "A")]
    [sampled] = rows(schema.rounds, run)
    assert (sampled["unfinished"], sampled["aborted_tokens"]) == (2, 14)
    assert standing(run) == (State.DONE, 1, 0)


# Scores


def test_letters_are_scored_before_votes_where_the_scorer_reads_nothing_else(tmp_path: Path) -> None:
    model_fixtures.put("s1", rule=WEIGHTED, reads=LETTERS)
    run = stopping(tmp_path)
    generator, scorer = PlacedGenerator({"题0：": ["BACAC"]}), LetterScorer(A=0.05, B=0.9, C=0.05)
    assert play(playing(generator, scorer), claim(run)) == [
        "B: weighted majority, 1 of 1 votes, 4 not needed"
    ]
    # Three letters, once: their scores are those of the votes.
    assert [text for _, text in scorer.seen] == ["", "", ""]
    assert [(row["score"], row["accepted"]) for row in rows(schema.votes, run)] == [(0.9, True)]


@pytest.mark.parametrize(
    ("fallback", "waves", "letter"), [("majority", [(0, 3)], "C"), ("constant", [], "A")]
)
def test_a_question_whose_letters_are_all_below_the_threshold_is_not_sampled_again(
    fallback: str, waves: list[tuple[int, int]], letter: str, tmp_path: Path
) -> None:
    model_fixtures.put("s1", reads=LETTERS)
    run = stopping(tmp_path, fallback=fallback)
    generator, scorer = PlacedGenerator({"题0：": ["CCCAA"]}), LetterScorer(A=0.4, B=0.3, C=0.3)
    play(playing(generator, scorer), claim(run))
    assert generator.waves == waves
    assert answered(run)[0][0] == letter
    assert standing(run) == (State.DONE, 1, 0)


def test_a_question_with_one_letter_above_the_threshold_is_sampled_again(tmp_path: Path) -> None:
    model_fixtures.put("s1", reads=LETTERS)
    run = stopping(tmp_path)
    generator, scorer = PlacedGenerator({"题0：": ["CCCAA", "CBAAA"]}), LetterScorer(A=0.1, B=0.8, C=0.1)
    rounds_of = playing(generator, scorer)
    assert play(rounds_of, claim(run)) == ["again: none of 5 votes was accepted"]
    # Nothing but B can be accepted: the first one decides.
    assert play(rounds_of, claim(run)) == ["B: majority, 1 of 2 votes, 3 not needed"]
    assert generator.waves[-2:] == [(0, 1), (1, 1)]


def test_votes_whose_texts_are_scored_are_scored_once_each_in_their_wave(tmp_path: Path) -> None:
    model_fixtures.put("s1")
    run = stopping(tmp_path)
    scorer = FakeScorer(lambda _, text: {"A": 0.9, "B": 0.2}.get(text[-1], 0.0))
    generator = PlacedGenerator({"题0：": ["BABAA"]})
    # The gate voids B: A has 2 votes, and the last vote cannot change it.
    assert play(playing(generator, scorer), claim(run)) == ["A: majority, 2 of 4 votes, 1 not needed"]
    assert generator.waves == [(0, 3), (3, 1)]
    assert [text[-1] for _, text in scorer.seen] == list("BABA")
    assert [row["score"] for row in rows(schema.votes, run)] == [0.2, 0.9, 0.2, 0.9]


def test_scores_that_do_not_count_are_given_when_the_round_is_judged(tmp_path: Path) -> None:
    model_fixtures.put("s1")
    run = stopping(tmp_path, use=VotingMode.MAJORITY)
    scorer = FakeScorer(lambda *_: 0.1)
    play(playing(PlacedGenerator({"题0：": ["BBBAA"]}), scorer), claim(run))
    assert len(scorer.names) == 1
    assert [row["score"] for row in rows(schema.votes, run)] == [0.1] * 3


# The same answers


@pytest.mark.parametrize("reads", [LETTERS, "reasoning"])
@pytest.mark.parametrize("use", list(VotingMode))
def test_stopped_rounds_give_the_answers_of_whole_rounds(use: VotingMode, reads: str, tmp_path: Path) -> None:
    drawn = random.Random(f"{use}{reads}")
    model_fixtures.put("s1", rule=Rule(use, 0.3), reads=reads)
    scorer = LetterScorer(A=0.31, B=0.4, C=0.29)
    letters = {f"题{at}：": ["".join(drawn.choices("ABC-", k=5))] for at in range(30)}
    answers, counts = [], []
    for stop in ("never", "exact"):
        run = open_run(tmp_path, 30, stop=stop, votes=5, max_attempts=1)
        play(playing(PlacedGenerator(letters), scorer), claim(run, 30))
        answers.append([(row["number"], row["letter"]) for row in rows(schema.answers, run)])
        counts.append(len(rows(schema.votes, run)))
    assert answers[0] == answers[1]
    assert len(answers[0]) == 30
    assert counts[0] == 150
    # A text may still get the highest odds: so low as the scores are here, weights need all votes.
    assert (counts[1] < 150) == (reads == LETTERS or not use.weighs)
