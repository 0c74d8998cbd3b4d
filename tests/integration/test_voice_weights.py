"""Weights of kinds of votes that are learned on labelled runs, and the stop at agreement.

learn("labelled").weights["program result"][UNLABELLED]  ->  log-odds of its right votes over chance
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from producers.enqueue import train, voice_weights
from producers.reports import revote
from shared import dataset, vote_weights
from shared.errors import UserError
from shared.ledger import runs, schema
from shared.options import Sampling
from shared.voices import VOICES
from shared.vote_weights import FOLDS, UNLABELLED
from shared.voting import PLAIN, Rule, VotingMode
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_rounds import answered, claim, open_run, play, rows
from tests.integration.test_voices import MIXED, PROGRAM, program
from workers.inference.rounds import Rounds
from workers.ports import Step
from workers.program_executor import MontyExecutor

pytestmark = pytest.mark.usefixtures("any_ledger", "on_broker")
Build = Callable[[FakeGenerator], Rounds]
TWO = {**MIXED, "voices": "reasoning=2,program=2", "votes": 4, "max_attempts": 1}


@pytest.fixture(scope="module")
def executor() -> MontyExecutor:
    from shared.settings import Settings

    return MontyExecutor(Settings())


@pytest.fixture
def rounds_of(executor: MontyExecutor) -> Build:
    return lambda generator: Rounds(
        generator,
        FakeScorer(),
        lambda _: FakeRetriever(),
        executors=lambda voice: executor if VOICES[voice].executor else None,
    )


def words(letters: str) -> list[str]:
    return [f"因为如此。\n答案是：{letter}" if letter != "-" else "我不知道。" for letter in letters]


def programs(texts: str) -> list[str]:
    return [program(f"print('{text}')") for text in texts]


def labelled(tmp_path: Path, rounds_of: Build, said: Sequence[tuple[str, str]]) -> str:
    """Finish a run whose right letter is always B (乙), given the letters and the prints of each question."""
    run = open_run(tmp_path, len(said), **TWO)
    script: dict[str, Sequence[Any]] = {
        f"题{at}：": [words(letters), programs(prints)] for at, (letters, prints) in enumerate(said)
    }
    play(rounds_of(FakeGenerator(script, chats=True)), claim(run, len(said)))
    return run


SAID = [("AB", "乙乙"), ("BB", "乙甲"), ("A-", "C乙"), ("BA", "乙丁"), ("BB", "乙乙")]


def test_a_vote_counts_the_log_odds_of_its_kind(tmp_path: Path, rounds_of: Build) -> None:
    learned = voice_weights.learn(labelled(tmp_path, rounds_of, SAID))
    assert set(learned.weights) == {"program letter", "program result", "reasoning"}
    # Of nine words six name B, of eight results seven; the letter C is wrong.
    assert learned.weights["reasoning"][UNLABELLED] == pytest.approx(vote_weights.log_odds(6, 9, 3.0))
    assert learned.weights["program result"][UNLABELLED] == pytest.approx(vote_weights.log_odds(7, 8, 8 / 3))
    assert learned.weights["program letter"][UNLABELLED] == 0
    assert learned.weights["program result"][UNLABELLED] == pytest.approx(math.log(8 / 3) - math.log(1 / 2))


def test_agreement_of_the_first_votes_is_counted(tmp_path: Path, rounds_of: Build) -> None:
    learned = voice_weights.learn(labelled(tmp_path, rounds_of, [*SAID, ("AA", "甲乙")]))
    # The first votes agree on B thrice, once on A; one right and one wrong are added.
    assert (learned.questions, learned.agreeing) == (6, 4)
    assert learned.agreement[UNLABELLED] == pytest.approx(4 / 6)
    # No majority differs; two of four votes are saved for each.
    assert (learned.differing, learned.saved, learned.votes) == (0, 8, 24)


def test_a_labelled_question_gets_what_was_learned_without_its_fold(tmp_path: Path, rounds_of: Build) -> None:
    run = labelled(tmp_path, rounds_of, SAID)
    learned = voice_weights.learn(run)
    folds = [
        vote_weights.fold(dataset.unit(runs.load_entry(run, at)), labelled=True) for at in range(len(SAID))
    ]
    for fold in range(FOLDS):
        counted = [text for at, (_, texts) in enumerate(SAID) if folds[at] != fold for text in texts]
        right, votes = counted.count("乙"), sum(text in "甲乙" for text in counted)
        assert learned.weights["program result"][fold] == pytest.approx(
            vote_weights.log_odds(right, votes, votes / 3)
        )


def test_a_run_without_right_letters_teaches_nothing(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "-"))
    votequeue("enqueue", "infer", data, "--run", "r")
    with pytest.raises(UserError, match="is not finished"):
        voice_weights.learn("r")


def test_recorded_votes_are_counted_with_the_weights(
    tmp_path: Path, rounds_of: Build, votequeue: Command
) -> None:
    run = labelled(tmp_path, rounds_of, [("BA", "乙乙")] * 6)
    other = labelled(tmp_path, rounds_of, [("AA", "乙丙")])
    # One vote each: A. Results are always right, and words half of the time.
    assert answered(other)[0][0] == "A"
    ended = votequeue(
        "enqueue", "infer", other, "--weights-from", run, "--run", "weighed", "--scorer", "none"
    )
    assert ended.code == 0, ended.err
    assert "weights learned on 6 questions: program result 2.56, reasoning 0.56; the first votes" in ended.err
    assert "right with probability 0.88: a stop there would save 12 of 24 votes" in ended.err
    play(rounds_of(FakeGenerator()), claim("weighed"))
    assert answered("weighed") == [("B", "weighted majority", 1, 1)]
    shown = {row.name: row for row in revote.revote("weighed").rows}
    assert (shown["majority"].right.right, shown["weights by kind"].right.right) == (0, 1)
    assert shown["weights by kind"].over_majority == 1.0


@pytest.mark.parametrize(
    ("share", "replies", "places", "answer"),
    [
        (0.8, [words("B"), programs("乙")], [("reasoning", "B"), ("program", "B")], "B"),
        (
            0.8,
            [words("A"), programs("乙"), words("B"), programs("丙")],
            [("reasoning", "A"), ("reasoning", "B"), ("program", "B"), ("program", "C")],
            "B",
        ),
        (
            0.8,
            [words("-"), programs("丁"), words("B"), programs("丁")],
            [("reasoning", None), ("reasoning", "B"), ("program", None), ("program", None)],
            "B",
        ),
        # The agreement of the labelled run is less sure than this: all votes are asked at once.
        (
            0.99,
            [words("BA"), programs("乙丙")],
            [("reasoning", "B"), ("reasoning", "A"), ("program", "B"), ("program", "C")],
            "B",
        ),
    ],
)
def test_a_question_is_settled_where_the_first_votes_agree(
    tmp_path: Path,
    rounds_of: Build,
    share: float,
    replies: list[list[str]],
    places: list[tuple[str, str | None]],
    answer: str,
) -> None:
    learned = {"kind_weights": None, "agreement": (0.9,) * (FOLDS + 1)}
    run = open_run(tmp_path, 1, **TWO, stop=f"agreement={share}", **learned)
    asked = FakeGenerator({"题0：": replies}, chats=True)
    playing = rounds_of(asked)
    play(playing, claim(run))
    assert [(row["voice"], row["letter"]) for row in rows(schema.votes, run)] == places
    assert answered(run)[0][0] == answer
    assert {row["voice"] for row in rows(schema.rounds, run)} == {"reasoning", "program"}
    (figures,) = playing.meter.figures()
    assert figures.votes == len(places)


@pytest.mark.parametrize(
    ("replies", "votes", "unfinished"),
    [
        # A word counts 1, a program at most 3: a program and both words for one letter outweigh the other.
        ([words("BB"), programs("乙")], [(0, "B"), (1, "B"), (2, "B")], 1),
        ([words("AA"), programs("乙"), programs("乙")], [(0, "A"), (1, "A"), (2, "B"), (3, "B")], 0),
    ],
)
def test_an_exact_stop_knows_what_a_vote_of_each_voice_may_count(
    tmp_path: Path,
    rounds_of: Build,
    replies: list[list[str]],
    votes: list[tuple[int, str]],
    unfinished: int,
) -> None:
    weights = {"reasoning": 1.0, "program letter": 0.5, "program result": 3.0}
    learned = {"kind_weights": {kind: (weight,) * (FOLDS + 1) for kind, weight in weights.items()}}
    run = open_run(tmp_path, 1, **TWO, stop="exact", **learned)
    asked = Steps(replies)
    play(rounds_of(asked), claim(run))
    assert [(row["place"], row["letter"]) for row in rows(schema.votes, run)] == votes
    assert sum(row["unfinished"] for row in rows(schema.rounds, run)) == unfinished
    assert answered(run)[0][0] == "B"


class Steps(FakeGenerator):
    """Remembers the steps that it was asked for."""

    def __init__(self, replies: Sequence[Any]) -> None:
        super().__init__({"题0：": replies}, chats=True)
        self.steps: list[Step] = []

    async def sample(self, *given: Any, **more: Any) -> Any:
        self.steps.append(given[-1])
        return await super().sample(*given, **more)


def test_the_requests_of_a_round_are_told_apart(tmp_path: Path, rounds_of: Build) -> None:
    changes = {**TWO, "stop": "agreement=0.5", "agreement": (0.9,) * (FOLDS + 1)}
    asked = Steps([words("A"), programs("乙"), words("A"), programs("乙")])
    play(rounds_of(asked), claim(open_run(tmp_path, 1, **changes)))
    assert asked.steps == [Step(place, "round 1 vote") for place in (0, 2, 1, 3)]
    asked = Steps([words("AA"), programs("乙乙")])
    play(rounds_of(asked), claim(open_run(tmp_path, 1, **TWO)))
    assert asked.steps == [Step(0), Step(2)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--stop", "agreement=0.9", "--voices", "reasoning=1,program=1"], "an agreement needs two voices"),
        (["--stop", "agreement=0.9", "--weights-from", "r"], "an agreement needs two voices or more"),
        (["--stop", "agreement"], "give never, exact, or agreement=P with a probability P from 0 to 1"),
        (["--stop", "agreement=1.5"], "give never, exact, or agreement=P"),
        (["--weights-from", "none"], "no run is called 'none'"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    home: Path, votequeue: Command, given: list[str], said: str
) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))
    ended = votequeue("enqueue", "infer", data, "--run", "new", *given)
    assert ended.code in (1, 2)
    assert said in " ".join(ended.err.replace("│", " ").split())


def of_a_scorer(rule: Rule = PLAIN, **weights: float) -> str:
    """Put a scorer in use that has learned what votes count, and that agreement is right 9 times of 10."""
    learned = {kind.replace("_", " "): [weight] * (FOLDS + 1) for kind, weight in weights.items()}
    return model_fixtures.put(rule=rule, kind_weights=learned, agreement=[0.9] * (FOLDS + 1))


def test_a_scorer_brings_what_votes_of_each_kind_count(tmp_path: Path, rounds_of: Build) -> None:
    scorer = of_a_scorer(reasoning=1.0, program_result=3.0)
    for changes, answer in [
        ({"scorer": scorer}, "B"),
        ({"scorer": "follow"}, "B"),
        ({"scorer": "none"}, "A"),
    ]:
        run = open_run(tmp_path, 1, **{**TWO, **changes})
        play(rounds_of(FakeGenerator({"题0：": [words("AA"), programs("乙C")]}, chats=True)), claim(run))
        assert answered(run)[0][0] == answer
    # What a run has learned itself takes precedence.
    own = {"reasoning": (5.0,) * (FOLDS + 1), "program result": (1.0,) * (FOLDS + 1)}
    run = open_run(tmp_path, 1, **TWO, scorer=scorer, kind_weights=own)
    play(rounds_of(FakeGenerator({"题0：": [words("AA"), programs("乙C")]}, chats=True)), claim(run))
    assert answered(run)[0][0] == "A"


def test_the_weights_of_a_scorer_multiply_its_odds(tmp_path: Path, rounds_of: Build) -> None:
    run = labelled(tmp_path, rounds_of, [("AA", "乙C")])
    assert answered(run)[0][0] == "A"
    scorer = of_a_scorer(Rule(VotingMode.WEIGHTED, 0.0), reasoning=1.0, program_result=3.0)
    again = open_run(tmp_path, 1, **TWO, scorer=scorer, votes_of=run)
    play(rounds_of(FakeGenerator()), claim(again))
    assert answered(again)[0][:2] == ("B", "weighted majority")
    shown = {row.name: row.right.right for row in revote.revote(again).rows}
    assert (shown["majority"], shown["weights by kind"], shown["weighted"]) == (0, 1, 1)


def test_a_scorer_of_mixed_votes_allows_a_stop_at_agreement(
    tmp_path: Path, home: Path, rounds_of: Build, votequeue: Command
) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))
    command = ("enqueue", "infer", data, "--run", "new", "--voices", "reasoning=2,program=2")
    model_fixtures.put("s0")
    ended = votequeue(*command, "--stop", "agreement=0.9")
    assert ended.code == 2
    assert "or a scorer of such votes" in " ".join(ended.err.replace("│", " ").split())
    of_a_scorer(reasoning=1.0, program_result=3.0)
    assert votequeue(*command, "--stop", "agreement=0.9").code == 0
    for share, votes in [(0.9, 1), (0.95, 2)]:
        run = open_run(tmp_path, 1, **TWO, scorer="s1", stop=f"agreement={share}")
        replies = [words("B" * votes), programs("乙" * votes)]
        play(rounds_of(FakeGenerator({"题0：": replies}, chats=True)), claim(run))
        assert len(rows(schema.votes, run)) == 2 * votes


def test_a_scorer_is_judged_with_the_votes_of_all_voices_and_learns_from_reasonings(
    tmp_path: Path, rounds_of: Build
) -> None:
    run = labelled(tmp_path, rounds_of, [("AB", "乙C"), ("BB", "乙乙")])
    sources = train.sources([], [run], [], [])
    survey = train.survey_sources([dataclasses.replace(source, all_votes=True) for source in sources])
    assert (survey.right, survey.wrong) == (3, 1)
    (first, _) = train.gather([dataclasses.replace(source, all_votes=True) for source in sources])
    assert [(text.kind, text.letter) for text in first.texts] == [
        ("reasoning", "A"),
        ("reasoning", "B"),
        ("program result", "B"),
        ("program letter", "C"),
    ]
    assert [text.letter for text in first.reasonings] == ["A", "B"]
    assert [len(example.texts) for example in train.gather(sources)] == [2, 2]


def test_a_run_records_what_was_learned_for_it(
    tmp_path: Path, home: Path, rounds_of: Build, votequeue: Command
) -> None:
    run = labelled(tmp_path, rounds_of, SAID)
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))
    command = (
        *("enqueue", "infer", data, "--run", "new", "--voices", "reasoning=1,program=1"),
        *("--weights-from", run, "--stop", "agreement=0.9"),
    )
    for _ in range(2):  # the second time, it is continued
        ended = votequeue(*command)
        assert ended.code == 0, ended.err
    sampling = Sampling.of_record(runs.get_run("new").options)
    learned = voice_weights.learn(run)
    assert (sampling.kind_weights, sampling.agreement) == (learned.weights, learned.agreement)
    assert sampling.voice_prompts == {"program": PROGRAM.digest}
