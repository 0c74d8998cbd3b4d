"""Vote budgets over a real ledger: the reservations, the rounds that it pays for, and what refuses one."""

import asyncio
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from producers.enqueue import append, budget_gains
from producers.reports import inference_report
from shared import settings
from shared.errors import EngineDied, Throttled, UserError
from shared.jobs import Infer
from shared.ledger import claims, engine, runs, schema, vote_spending
from shared.ledger.claims import Claim
from shared.ledger.schema import State
from shared.options import Sampling
from shared.vote_weights import FOLDS
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING
from tests.integration.test_rounds import answered, claim, open_run, play, playing, rows, standing
from tests.integration.test_stopping import PlacedGenerator, places
from workers.inference.rounds import Rounds

# Two votes that differ are worth a third one, and three different ones a fourth.
GAINS = {"2,1,1,0": ("reasoning", 0.1), "3,1,1,0": ("reasoning", 0.05), "2,0,0,2": ("reasoning", 0.2)}
PRICES = ((2.0, 1.0), (2.5, 0.1), (3.0, 0.05))


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str) -> None:
    """Have a broker that answers and an empty ledger."""
    assert engine.engine().dialect.name == any_ledger
    settings.load.cache_clear()


def budgeted(
    tmp_path: Path, questions: int = 1, budget: float = 3.0, gains: Any = None, **changes: Any
) -> str:
    learned = {"gains": (gains or GAINS,) * (FOLDS + 1), "prices": PRICES, "budget_from": "labelled"}
    changes = {"votes": 5, "max_attempts": 2, **learned, **changes}
    return open_run(tmp_path, questions, vote_budget=budget, **changes)


def spending(run: str) -> tuple[int, int, int]:
    """Give the questions, those that have begun, and the votes reserved."""
    (row,) = rows(schema.vote_spending, run)
    return row["questions"], row["begun"], row["reserved"]


def take(held: Claim, most: int, budget: float, first: int = 2) -> int:
    return vote_spending.reserve(held, most, budget, first)


# Reservations


def test_a_run_without_a_budget_reserves_nothing(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    assert rows(schema.vote_spending, run) == []
    assert vote_spending.balance(run, 3.0) is None


def test_further_votes_leave_the_first_waves_of_the_other_questions(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 3, budget=2.5)
    held = claim(run, 3)
    # Seven votes: two for each question, and one more.
    assert take(held[0], 2, 2.5) == 2
    assert [take(held[0], 1, 2.5) for _ in range(2)] == [1, 0]
    assert [take(other, 2, 2.5) for other in held[1:]] == [2, 2]
    assert take(held[1], 1, 2.5) == 0
    assert spending(run) == (3, 3, 7)


def test_a_lost_claim_reserves_nothing_and_its_votes_stay_charged(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 2, budget=3.0)
    (held,) = claim(run, 1)
    assert take(held, 2, 3.0) == 2
    claims.begin([held])
    claims.lose([held], "the engine died", 8, alone=False)
    assert take(held, 1, 3.0) == 0
    (again,) = claim(run, 1)
    assert take(again, 2, 3.0) == 2
    # Four of six are reserved: one for the other question, and one that a lost wave may take.
    assert spending(run) == (2, 1, 4)
    assert take(again, 1, 3.0) == 0
    claims.lose([again], "the engine died", 8, alone=False)
    (third,) = claim(run, 1)
    assert take(third, 2, 3.0) == 1
    (other,) = claim(run, 2)
    assert take(other, 2, 3.0) == 1
    assert spending(run) == (2, 2, 6)


def test_votes_are_left_for_open_questions_only(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 4, budget=3.0)
    balance = vote_spending.balance(run, 3.0)
    assert balance is not None
    assert (balance.left, balance.per_question) == (12, 3.0)
    first, second = claim(run, 2)
    assert (take(first, 2, 3.0), take(second, 2, 3.0)) == (2, 2)
    balance = vote_spending.balance(run, 3.0)
    # Those in play may still get more.
    assert balance is not None
    assert (balance.left, balance.in_play, balance.per_question) == (8, 2, 3.0)
    run_fixtures.vote(first, [run_fixtures.ballot("A")] * 2)
    balance = vote_spending.balance(run, 3.0)
    assert balance is not None
    assert balance.per_question == pytest.approx(10 / 3)


def test_added_questions_add_votes(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 2)
    append.append(run_fixtures.write(tmp_path / "more.jsonl", run_fixtures.entry("q1", "ABC")), run)
    assert spending(run) == (5, 0, 0)


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), budget=st.floats(2, 5), questions=st.integers(1, 8))
def test_no_order_of_waves_and_losses_exceeds_the_budget(
    tmp_path: Path, seed: int, budget: float, questions: int
) -> None:
    drawn, run = random.Random(seed), budgeted(tmp_path, questions, budget=budget)
    granted, got = 0, dict[int, int]()
    for _ in range(60):
        job = Infer(run=run, item=drawn.randrange(questions))
        (held,) = claims.claim([job], "one", 60) or [None]
        if held is None:
            continue
        wave = 2
        while votes := take(held, wave, budget):
            assert votes <= wave
            granted += votes
            got[job.item] = votes
            wave = 1
            if drawn.random() < 0.4:
                break
        claims.begin([held])
        claims.lose([held], "the engine died", 100, alone=False)
    assert granted == spending(run)[2] <= budget * questions + 1e-6
    # Whatever was lost, each question got a vote.
    assert all(got.get(at, 1) >= 1 for at in range(questions))


def test_workers_that_reserve_at_the_same_time_share_one_budget(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 16, budget=3.0)
    held = claim(run, 16)

    def work(mine: Claim) -> int:
        votes = take(mine, 2, 3.0)
        return votes + sum(take(mine, 1, 3.0) for _ in range(3))

    with ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(work, held))
    assert sum(granted) == 48
    assert min(granted) >= 2
    assert spending(run) == (16, 16, 48)


# Rounds


@pytest.mark.parametrize(
    ("letters", "waves", "letter"),
    [
        ("AABBB", [(0, 2)], "A"),
        ("ABBAA", [(0, 2), (2, 1)], "B"),
        ("ABCCC", [(0, 2), (2, 1), (3, 1)], "C"),
        # Votes without a letter.
        ("--BAA", [(0, 2), (2, 1)], "B"),
    ],
)
def test_further_votes_are_asked_for_while_they_are_worth_the_price(
    letters: str, waves: list[tuple[int, int]], letter: str, tmp_path: Path
) -> None:
    run = budgeted(tmp_path, 1, budget=4.0)
    generator = PlacedGenerator({"题0：": [letters]})
    (outcome,) = play(playing(generator), claim(run))
    asked = sum(votes for _, votes in waves)
    assert generator.waves == waves
    assert answered(run)[0][0] == letter
    assert outcome.endswith(f"of {asked} votes, {5 - asked} not asked for")
    assert [row["unfinished"] for row in rows(schema.rounds, run)] == [5 - asked]
    assert spending(run) == (1, 1, asked)
    assert [row["reserved"] for row in rows(schema.attempts, run)] == [asked]


def test_the_price_follows_from_what_is_left(tmp_path: Path) -> None:
    # 2.5 votes a question: the third vote of a tie is worth it, the fourth is not.
    run = budgeted(tmp_path, 4, budget=2.5)
    generator = PlacedGenerator({f"题{at}：": ["ABCAA"] for at in range(4)})
    play(playing(generator), claim(run, 1))
    assert spending(run) == (4, 1, 3)
    # 7 votes for 3 questions, then 5 for 2: less than 2.5 each for the first of them.
    for number, reserved in ((1, 5), (2, 8), (3, 10)):
        play(playing(generator), claims.claim([Infer(run=run, item=number)], "one", 60))
        assert spending(run)[2] == reserved


def test_a_question_without_an_accepted_vote_is_asked_again_within_the_budget(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 1, budget=4.0, gains={"9": ("reasoning", 0.1)})
    generator = PlacedGenerator({"题0：": ["-----", "B----"]})
    rounds_of = playing(generator)
    assert play(rounds_of, claim(run)) == ["again: none of 2 votes was accepted"]
    assert play(rounds_of, claim(run)) == ["B: unscored majority, 1 of 2 votes, 3 not asked for"]
    assert spending(run) == (1, 1, 4)


def test_without_votes_left_the_fallback_answers(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 1, budget=2.0, gains={"9": ("reasoning", 0.1)}, max_attempts=5)
    rounds_of = playing(PlacedGenerator({"题0：": ["-----"]}))
    assert play(rounds_of, claim(run)) == ["again: none of 2 votes was accepted"]
    assert play(rounds_of, claim(run)) == ["A: default, 0 of 0 votes"]
    assert standing(run)[0] == State.DONE
    assert spending(run) == (1, 1, 2)


def test_what_a_dead_engine_sampled_is_not_given_back(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 2, budget=3.0)
    generator = FakeGenerator({"题0：": [EngineDied("the engine's process died"), ["答案是：B"] * 2]})
    play(playing(generator), claim(run))
    assert spending(run) == (2, 1, 2)
    play(playing(generator), claim(run))
    assert answered(run)[0][0] == "B"
    assert spending(run) == (2, 1, 4)
    figures = inference_report.figures(run)
    assert figures.balance is not None
    assert (figures.balance.left, figures.votes) == (2, 2)


def test_a_failed_call_of_a_service_charges_no_votes(tmp_path: Path) -> None:
    run = budgeted(tmp_path, 2, budget=3.0, generator="openai", provider="local")
    generator = FakeGenerator({"题0：": [Throttled("slow down", 0.0), ["答案是：B"] * 2]})
    rounds_of = Rounds(generator, FakeScorer(), lambda _: FakeRetriever(), kind="openai")
    (outcome,) = asyncio.run(rounds_of.run(claim(run)))
    assert isinstance(outcome, Throttled)
    assert spending(run) == (2, 1, 0)


def test_the_next_voice_is_chosen_by_the_state(tmp_path: Path) -> None:
    from tests.integration.test_voices import MIXED, program
    from workers.program_executor import MontyExecutor

    executor = MontyExecutor(settings.load())
    # Two voices that differ get another program.
    gains = {"1,1,1,0,1,0": ("program", 0.2), "1,2,0,2,1,0": ("reasoning", 0.0)}
    options = {**MIXED, "voices": "reasoning=3,program=3", "votes": 6}
    run = budgeted(tmp_path, 1, budget=4.0, gains=gains, **options)
    replies = [["答案是：A"], [program("print('乙')")], [program("print('乙')")]]
    generator = FakeGenerator({"题0：": replies}, chats=True)
    rounds_of = Rounds(generator, FakeScorer(), lambda _: FakeRetriever(), executors=lambda _: executor)
    play(rounds_of, claim(run))
    assert [(row["place"], row["voice"]) for row in rows(schema.votes, run)] == [
        (0, "reasoning"),
        (3, "program"),
        (4, "program"),
    ]
    assert answered(run)[0][0] == "B"


# Enqueueing


def labelled(home: Path, said: Sequence[str], name: str = "labelled") -> Path:
    """Finish a run over questions whose right letter is A, given the letters of their votes."""
    data = run_fixtures.write(
        home / f"{name}.jsonl", *(run_fixtures.entry(f"p{at}") for at in range(len(said)))
    )
    run_fixtures.infer(data, SAMPLING.model_copy(update={"votes": len(said[0])}), name)
    for held, letters in zip(run_fixtures.claim(name, *range(len(said))), said, strict=True):
        run_fixtures.vote(held, [run_fixtures.ballot(letter) for letter in letters])
    return data


SAID = ["AAAAA", "ABAAA", "BAAAA", "BBABB", "AABAA", "ABABA"] * 5


def test_a_run_records_what_was_learned_and_is_continued(home: Path, votequeue: Command) -> None:
    data = labelled(home, SAID)
    command = ("enqueue", "infer", data, "--run", "new", "--votes", 5, "--vote-budget", 3)
    forecast = votequeue(*command, "--budget-from", "labelled", "--max-tokens", 100, "--dry-run", "--json")
    assert [json.loads(forecast.out)[each] for each in ("votes", "vote_tokens")] == [3, 30 * 3 * 100]
    for _ in range(2):
        ended = votequeue(*command, "--budget-from", "labelled")
        assert ended.code == 0, ended.err
    assert "vote budget learned on 30 questions, cross-validated" in " ".join(ended.err.split())
    sampling = Sampling.of_record(runs.get_run("new").options)
    assert (sampling.gains, sampling.prices) == budget_gains.learn("labelled", sampling)[:2]
    assert sampling.first_votes == 2
    assert spending("new") == (30, 0, 0)
    # Its recorded votes can be scored again, without a budget.
    for held in run_fixtures.claim("new", *range(30)):
        run_fixtures.vote(held, [run_fixtures.ballot("A")] * 2)
    model_fixtures.put("s1")
    assert votequeue("enqueue", "infer", "new", "--scorer", "s1", "--run", "scored").code == 0
    assert rows(schema.vote_spending, "scored") == []


FROM = ("--budget-from", "labelled")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--vote-budget", 3], "it needs --budget-from RUN"),
        (FROM, "--budget-from needs it"),
        (["--vote-budget", 5, *FROM], "it must be below the most votes per question and round, 5"),
        (["--vote-budget", 0.5, *FROM], "greater than or equal to 1"),
        (["--vote-budget", 3, *FROM, "--first-wave", 4], "it exceeds the vote budget, 3"),
        (["--vote-budget", 3, *FROM, "--stop", "exact"], "--vote-budget ends rounds by itself"),
        (["--vote-budget", 3, *FROM, "--scorer", "follow"], "--vote-budget is learned for one scorer"),
        (["--vote-budget", 3, *FROM, "--votes", 6], "at most 5 votes of the voice reasoning, not 6"),
        (["--first-wave", 2], "it needs --stop exact or --vote-budget"),
    ],
)
def test_what_makes_no_budget_is_refused(
    home: Path, votequeue: Command, given: Sequence[object], said: str
) -> None:
    data = labelled(home, ["AAAAA", "ABAAA"])
    ended = votequeue("enqueue", "infer", data, "--run", "new", *given)
    assert ended.code in (1, 2)
    assert said in " ".join(ended.err.replace("│", " ").split())


def test_a_stopped_or_unscored_or_unlabelled_run_teaches_nothing(home: Path) -> None:
    sampling = Sampling(votes=5, vote_budget=3.0, budget_from="labelled", scorer="none")
    labelled(home, ["AAAAA"])
    model_fixtures.put("s2")
    with pytest.raises(UserError, match="its votes lack scores of s2, which this run uses"):
        budget_gains.learn("labelled", sampling.model_copy(update={"scorer": "s2"}))
    data = run_fixtures.write(home / "unlabelled.jsonl", run_fixtures.entry("p1", "-"))
    run_fixtures.infer(data, SAMPLING, "unlabelled")
    run_fixtures.answer_all("unlabelled", 1)
    with pytest.raises(UserError, match="no question there has a right letter and usable votes"):
        budget_gains.learn("unlabelled", sampling)
    with engine.writing() as connection:
        row = {"run": "labelled", "number": 0, "attempt": 1, "voice": "reasoning", "prompt": "0"}
        more = {"examples": [], "sampled_at": 0.0, "unfinished": 2}
        connection.execute(schema.rounds.insert().values(**row, **more))
    with pytest.raises(UserError, match="--budget-from labelled needs whole rounds"):
        budget_gains.learn("labelled", sampling)


# Reports


def test_a_report_shows_what_is_left_and_leaves_out_single_votes(tmp_path: Path, votequeue: Command) -> None:
    run = budgeted(tmp_path, 2, budget=3.0)
    generator = PlacedGenerator({"题0：": ["AAAAA"], "题1：": ["ABBAA"]})
    play(playing(generator), claim(run, 2))
    assert len(places(run)) == 5
    said = " ".join(votequeue("report", run).out.split())
    assert "votes a question 2.50, of 3: 1 vote left, 0 lost or in play" in said
    assert "questions stopped early 2: 5 votes not asked for" in said
    assert "left out, since their votes are no fair sample" in said
    figures = inference_report.figures(run)
    assert (figures.one_vote.of, figures.final.of) == (0, 2)
