"""Rounds over fakes and a real ledger: what becomes of a question, whatever becomes of its batch."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shared import broker, dataset, prompts, settings
from shared.errors import EngineDied, Refused, ServiceUnreachable, UserError
from shared.jobs import Infer
from shared.ledger import claims, engine, outbox, runs, schema
from shared.ledger.claims import Claim, Settled
from shared.ledger.runs import Run
from shared.ledger.schema import State
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.voting import Rule, VotingMode
from tests import fakes
from tests.fakes import CharacterEmbedder, FakeGenerator, FakeRetriever, FakeScorer, Reply, Request
from tests.integration import model_fixtures
from workers import infer, retries
from workers.inference import rounds
from workers.inference.batcher import Batcher, Ended
from workers.inference.rounds import Rounds
from workers.ports import Retriever

MAX_LOSSES = 4
LEASE = 60.0
SAMPLING = Sampling(
    votes=3,
    max_attempts=3,
    batch=16,
    max_tokens=64,
    temperature=0.7,
    top_p=0.9,
    seed=None,
    num_examples=2,
    same_problem=False,
    fallback="majority",
    reader="conclusion",
)
EXAMPLE = FewShotExample(PromptQuestion("丙比丁高。", "谁高？", ("丙", "丁")), "因为丙比丁高。", "A")
fresh = itertools.count()


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a broker that answers and an empty ledger, in this order: the former empties the environment.

    A scorer called s1 is in use, as the gate of the recipe.
    """
    assert engine.engine().dialect.name == any_ledger
    monkeypatch.setenv("VOTEQUEUE_MAX_LOSSES", str(MAX_LOSSES))
    settings.load.cache_clear()
    model_fixtures.put("s1")


def open_run(folder: Path, questions: int, examples: str | None = None, **changes: Any) -> str:
    """Open a run of entries 题0, 题1, ... with one question each, whose gold answer is B."""
    name = f"run{next(fresh)}"
    path = folder / f"{name}.jsonl"
    question = {"question": "谁高？", "options": ["甲", "乙", "丙"], "answer": "B"}
    with path.open("w", encoding="utf-8") as file:
        for at in range(questions):
            asked = {**question, "reasoning": f"金标{at}：乙比甲高。\n答案是：B"}
            entry = {"id": f"p{at}", "problem": f"题{at}：乙比甲高。", "questions": [asked]}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    options = SAMPLING.model_copy(update=changes).model_dump()
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    runs.open_run(Run(name, "infer", str(path), "d", examples, options), lines)
    return name


def votes(letters: str) -> list[str]:
    """Write a text for each letter; "-" has none."""
    return [f"因为如此。\n答案是：{letter}" if letter != "-" else "我不知道。" for letter in letters]


def playing(
    generator: FakeGenerator, scorer: FakeScorer | None = None, retriever: Retriever | None = None
) -> Rounds:
    return Rounds(generator, scorer or FakeScorer(), lambda _: retriever or FakeRetriever())


def claim(run: str, count: int = 1, worker: str = "one", lease: float = LEASE) -> list[Claim]:
    return claims.claim([Infer(run=run, item=number) for number in range(count)], worker, lease)


def play(rounds_of: Rounds, batch: list[Claim]) -> list[str]:
    return asyncio.run(infer.run_round(rounds_of, batch))


def scored(**letters: float) -> FakeScorer:
    """Score texts by their letters; a text with another one, or none, scores 0."""
    return FakeScorer(lambda _, text: letters.get(text[-1], 0.0))


def rows(table: sa.Table, run: str) -> list[dict[str, Any]]:
    with engine.reading() as connection:
        found = connection.execute(sa.select(table).where(table.c.run == run).order_by(*table.primary_key))
        return [dict(row) for row in found.mappings()]


def standing(run: str, number: int = 0) -> tuple[str, int, int]:
    """Give an item's state, attempts charged, and losses."""
    item = rows(schema.items, run)[number]
    return item["state"], item["attempt"], item["losses"]


def answered(run: str) -> list[tuple[str, str, int, int]]:
    return [(row["letter"], row["how"], row["support"], row["attempt"]) for row in rows(schema.answers, run)]


# What becomes of votes


def test_an_accepted_majority_is_answered_and_all_its_votes_are_recorded(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    generator = FakeGenerator({"题0：": [votes("BAB-")]})
    assert play(playing(generator, scored(A=0.2, B=0.9)), claim(run)) == ["B: majority, 2 of 4 votes"]
    assert answered(run) == [("B", "majority", 2, 1)]
    assert standing(run) == (State.DONE, 1, 0)
    texts = votes("BAB-")
    assert rows(schema.votes, run) == [
        {
            "run": run,
            "number": 0,
            "attempt": 1,
            "place": place,
            "text": text,
            "letter": letter,
            "score": score,
            "accepted": score == 0.9,
            "tokens": len(text),
            "scorer": "s1",
            "finish_reason": "stop",
            "mean_logprob": -0.25,
            "thinking": None,
            "letter_source": letter and "read",
            "voice": "reasoning",
            **dict.fromkeys(("outcome", "output", "detail", "first_text", "first_outcome")),
        }
        for place, (text, letter, score) in enumerate(
            zip(texts, ["B", "A", "B", None], [0.9, 0.2, 0.9, 0.0], strict=True)
        )
    ]
    assert rows(schema.attempts, run)[0]["outcome"] == "B: majority, 2 of 4 votes"
    assert broker.waiting("infer") == 0


def test_votes_and_tokens_are_counted_for_those_who_watch(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2)
    rounds_of = playing(FakeGenerator({"题0：": [votes("BAB")], "题1：": [EngineDied("gone")]}))
    play(rounds_of, claim(run, 2))
    (figures,) = rounds_of.meter.figures()
    assert (figures.run, figures.votes, figures.tokens) == (run, 3, sum(map(len, votes("BAB"))))
    # Whatever became of the questions, none of them is in play any more.
    assert (figures.votes_in_play, figures.votes_under_way) == (0, 0)


def test_the_scorer_sees_the_question_and_the_text_up_to_the_next_problem(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    scorer = FakeScorer()
    play(playing(FakeGenerator(otherwise=["答案是：A\n\n### 题目\n……"]), scorer), claim(run))
    assert scorer.seen == [(PromptQuestion("题0：乙比甲高。", "谁高？", ("甲", "乙", "丙")), "答案是：A")]


def test_the_scorer_sees_no_thinking_and_no_letter_is_read_from_it(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    scorer = FakeScorer()
    (said,) = play(
        playing(FakeGenerator(otherwise=["<think>答案是：A？</think>答案是：B"]), scorer), claim(run)
    )
    assert said.startswith("B: majority")
    assert [text for _, text in scorer.seen] == ["答案是：B"]


@pytest.mark.parametrize(("reader", "letter"), [("conclusion", "B"), ("reference", "A")])
def test_votes_are_read_by_the_reader_that_the_run_names(tmp_path: Path, reader: str, letter: str) -> None:
    run = open_run(tmp_path, 1, reader=reader)
    (said,) = play(playing(FakeGenerator(otherwise=["答案是：A。更正：答案是：B"])), claim(run))
    assert said.startswith(f"{letter}: majority")


def test_a_run_that_is_older_than_the_readers_keeps_the_one_there_was() -> None:
    older = {name: value for name, value in SAMPLING.model_dump().items() if name != "reader"}
    assert Sampling.of_record(older).reader == "reference"


def test_a_question_with_no_accepted_vote_goes_again_and_is_charged_its_attempt(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    said = play(playing(FakeGenerator(otherwise=votes("BBB")), scored(B=0.4)), claim(run))
    assert said == ["again: none of 3 votes was accepted"]
    assert standing(run) == (State.PENDING, 1, 0)
    assert broker.waiting("infer") == 1
    assert outbox.unsent(10) == []
    assert claim(run)[0].attempt == 2


def test_without_a_broker_the_question_waits_in_the_ledger_and_that_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = open_run(tmp_path, 1)
    monkeypatch.setattr(broker.app.conf, "broker_url", "redis://127.0.0.1:1/0")
    said = play(playing(FakeGenerator(otherwise=votes("---"))), claim(run))
    assert said == ["again: none of 3 votes was accepted"]
    assert standing(run) == (State.PENDING, 1, 0)
    assert outbox.unsent(10) == [Infer(run=run, item=0)]
    assert "1 messages wait in the ledger" in caplog.text


@pytest.mark.parametrize(
    ("fallback", "rounds_of_votes", "answer"),
    [
        ("majority", ["CCA", "A--", "A-C"], ("C", "unscored majority", 3, 3)),
        ("majority", ["---", "B--", "---"], ("B", "unscored majority", 1, 3)),
        ("majority", ["---", "-E-", "---"], ("A", "default", 0, 3)),
        ("constant", ["CCC", "CCC", "CCC"], ("A", "default", 0, 3)),
    ],
)
def test_after_the_last_round_the_fallback_answers_from_the_letters_of_all_rounds(
    fallback: str, rounds_of_votes: list[str], answer: tuple[str, str, int, int], tmp_path: Path
) -> None:
    run = open_run(tmp_path, 1, fallback=fallback)
    # C scores higher than A, and neither is accepted: of three letters each, C's sum is the higher.
    play_on = playing(FakeGenerator({"题0：": [votes(v) for v in rounds_of_votes]}), scored(A=0.1, C=0.2))
    for attempt in (1, 2):
        assert play(play_on, claim(run))[0].startswith("again")
        assert standing(run) == (State.PENDING, attempt, 0)
    play(play_on, claim(run))
    assert answered(run) == [answer]
    assert standing(run) == (State.DONE, 3, 0)
    assert [row["attempt"] for row in rows(schema.votes, run)] == [1] * 3 + [2] * 3 + [3] * 3


def test_without_a_scorer_every_readable_vote_is_accepted(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    model_fixtures.take_away()
    play(playing(FakeGenerator(otherwise=votes("-CD"))), claim(run))
    assert answered(run) == [("C", "unscored majority", 1, 1)]
    recorded = rows(schema.votes, run)
    assert [(row["accepted"], row["score"], row["scorer"]) for row in recorded] == [
        (False, None, None),
        (True, None, None),
        (False, None, None),  # D is beyond the three options
    ]


@pytest.mark.parametrize(
    ("letters", "scores", "winner"),
    [("ABBA", {"A": 0.6, "B": 0.9}, "B"), ("ABBA", {"A": 0.9, "B": 0.6}, "A"), ("CABACB", {}, "C")],
)
def test_a_tie_goes_to_the_higher_summed_score_then_to_the_first_seen(
    letters: str, scores: dict[str, float], winner: str, tmp_path: Path
) -> None:
    run = open_run(tmp_path, 1)
    scorer = scored(**scores) if scores else FakeScorer()
    play(playing(FakeGenerator(otherwise=votes(letters)), scorer), claim(run))
    assert answered(run)[0][:3] == (winner, "majority", 2)


# Which models are used, and how


def play_scored(
    tmp_path: Path, letters: str, known: FakeScorer, /, **changes: Any
) -> list[tuple[str, str, int, int]]:
    run = open_run(tmp_path, 1, **changes)
    play(playing(FakeGenerator(otherwise=votes(letters)), known), claim(run))
    return answered(run)


def test_scores_are_used_as_the_scorers_held_out_part_says(tmp_path: Path) -> None:
    known = scored(A=0.4, B=0.15)
    assert play_scored(tmp_path, "ABB", known) == []
    model_fixtures.put("s2", rule=Rule(VotingMode.WEIGHTED, 0.0))
    assert play_scored(tmp_path, "ABB", known) == [("A", "weighted majority", 1, 1)]
    model_fixtures.put("s3", rule=Rule(VotingMode.GATE, 0.1))
    assert play_scored(tmp_path, "ABB", known) == [("B", "majority", 2, 1)]
    assert known.names == ["s1", "s2", "s3"]


def test_a_run_may_say_otherwise(tmp_path: Path) -> None:
    known = scored(A=0.4, B=0.15)
    assert play_scored(tmp_path, "ABB", known, use=VotingMode.WEIGHTED) == [("A", "weighted majority", 1, 1)]
    assert play_scored(tmp_path, "ABB", known, threshold=0.3) == [("A", "majority", 1, 1)]
    assert play_scored(tmp_path, "ABB", known, use=VotingMode.MAJORITY) == [("B", "unscored majority", 2, 1)]
    assert play_scored(tmp_path, "ABB", known, scorer="none") == [("B", "unscored majority", 2, 1)]
    assert known.names == ["s1"] * 3


def test_another_use_has_the_threshold_that_suits_it(tmp_path: Path) -> None:
    model_fixtures.put("s2", rule=Rule(VotingMode.WEIGHTED, 0.0), thresholds={"gate": 0.3})
    assert play_scored(tmp_path, "ABB", scored(A=0.4, B=0.15), use=VotingMode.GATE) == [
        ("A", "majority", 1, 1)
    ]


def test_a_run_that_names_its_scorer_keeps_to_it(tmp_path: Path) -> None:
    model_fixtures.put("s2")
    known = scored(A=0.9)
    play_scored(tmp_path, "AAA", known, scorer="s1")
    assert known.names == ["s1"]


def test_a_round_records_what_its_votes_were_sampled_from(tmp_path: Path) -> None:
    model_fixtures.put("l1", "lora")
    run = open_run(tmp_path, 1, seed=7, model=fakes.GENERATOR.model, prompt="1783896d")
    generator, begun = FakeGenerator(otherwise=votes("AAB")), time.time()
    play(playing(generator, scored(A=0.9)), claim(run))
    [request] = generator.requests
    [sampled] = rows(schema.rounds, run)
    assert sampled["sampled_at"] >= begun
    assert sampled["seconds"] >= 0
    assert {name: sampled[name] for name in sampled if name not in ("sampled_at", "seconds", "run")} == {
        "number": 0,
        "attempt": 1,
        "generator": fakes.GENERATOR.name,
        "adapter": "l1",
        "prompt": prompts.digest(request.prompt),
        "prompt_tokens": len(request.prompt),
        "style": "completion",
        "voice": "reasoning",
        "examples": [],
        "seed": request.seed,
        "unfinished": None,
        "aborted_tokens": None,
    }


@pytest.mark.parametrize("other", [{"model": "another"}, {"prompt": "00000000"}])
def test_a_run_for_another_model_or_prompt_is_given_back_and_the_worker_goes_on(
    tmp_path: Path, other: dict[str, str]
) -> None:
    run = open_run(tmp_path, 1, **other)
    generator = FakeGenerator()
    [outcome] = play(playing(generator), claim(run))
    assert outcome.startswith("given back: the run is for the ")
    assert generator.requests == []
    assert standing(run) == (State.PENDING, 0, 0)


def test_a_run_whose_options_cannot_be_read_is_dead_with_the_reason(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    with engine.writing() as connection:
        connection.execute(schema.runs.update().where(schema.runs.c.name == run).values(options={"votes": 0}))
    [outcome] = play(playing(FakeGenerator()), claim(run))
    assert outcome.startswith("dead: the run's options are of another votequeue: ")
    assert standing(run)[0] == State.DEAD


def test_a_model_that_comes_into_use_is_followed_by_the_next_batch(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    generator, known = FakeGenerator(otherwise=votes("BBB")), scored(A=0.9)
    play_on = playing(generator, known)
    play(play_on, claim(run))
    model_fixtures.put("s2")
    model_fixtures.put("l1", "lora")
    play(play_on, claim(run))
    model_fixtures.take_away("lora")
    play(play_on, claim(run))
    assert known.names == ["s1", "s2", "s2"]
    assert [request.adapter for request in generator.requests] == [None, "l1", None]
    assert [row["scorer"] for row in rows(schema.votes, run)] == ["s1"] * 3 + ["s2"] * 6


# Votes that were sampled before


def test_a_run_over_anothers_votes_judges_them_round_by_round_and_samples_none(tmp_path: Path) -> None:
    model_fixtures.take_away()
    source = open_run(tmp_path, 2)
    script = {"题0：": [votes("---"), votes("AAB")], "题1：": [votes("ABB")]}
    play_on = playing(FakeGenerator(script))
    play(play_on, claim(source, 2))
    play(play_on, claim(source))
    assert [row["letter"] for row in rows(schema.answers, source)] == ["A", "B"]
    model_fixtures.put("s2")
    again = open_run(tmp_path, 2, votes_of=source)
    generator = FakeGenerator(otherwise=AssertionError("sampled"))
    known = scored(A=0.2, B=0.9)
    play_on = playing(generator, known)
    assert play(play_on, claim(again, 2)) == [
        "again: none of 3 votes was accepted",
        "B: majority, 2 of 3 votes",
    ]
    assert play(play_on, claim(again, 2)) == ["B: majority, 1 of 3 votes"]
    assert generator.requests == []
    of_first = [(row["attempt"], row["letter"]) for row in rows(schema.votes, again) if row["number"] == 0]
    assert of_first == [(1, None)] * 3 + [(2, "A"), (2, "A"), (2, "B")]


def test_where_the_votes_on_record_end_the_fallback_answers(tmp_path: Path) -> None:
    source = open_run(tmp_path, 1, scorer="none")
    play(playing(FakeGenerator(otherwise=votes("AAB"))), claim(source))
    again = open_run(tmp_path, 1, votes_of=source)
    play(playing(FakeGenerator(), scored(B=0.4)), claim(again))
    assert answered(again) == [("A", "unscored majority", 2, 1)]


def test_votes_of_another_run_are_read_anew_as_this_run_says(tmp_path: Path) -> None:
    model_fixtures.take_away()
    source = open_run(tmp_path, 1, reader="reference")
    echo = "答案是：A，但这与条件3矛盾。\n答案是：B"
    play(playing(FakeGenerator(otherwise=[echo] * 3)), claim(source))
    again = open_run(tmp_path, 1, votes_of=source, reader="conclusion")
    play(playing(FakeGenerator()), claim(again))
    letters = [[row["letter"] for row in rows(schema.votes, run)] for run in (source, again)]
    assert letters == [["A"] * 3, ["B"] * 3]


# What a question is asked with


def test_a_prompt_holds_the_nearest_others_in_full_and_never_its_own_gold_reasoning(tmp_path: Path) -> None:
    from qdrant_client import QdrantClient

    from workers.models.retrieval import QdrantRetriever

    run = open_run(tmp_path, 4, examples="digest")
    solved = [
        FewShotExample(
            PromptQuestion(f" 题{at}： 乙比甲高。", "谁高？\n", ("甲", "乙", "丙")),
            f"金标{at}：乙比甲高。",
            "B",
        )
        for at in range(4)
    ]
    runs.add_examples("digest", solved)
    index = QdrantRetriever(QdrantClient(":memory:"), CharacterEmbedder(), "characters", runs.load_examples)
    generator = FakeGenerator()
    play(playing(generator, retriever=index), claim(run, 4))
    for at, request in enumerate(generator.requests):
        assert f"题{at}：" in request.asks
        assert f"金标{at}" not in request.prompt
        assert request.prompt.count(fakes.LAST_CASE) == 3
        shown = [other for other in range(4) if f"金标{other}：乙比甲高。\n答案是：B" in request.prompt]
        assert len(shown) == 2
        assert at not in shown
        assert "答案是" not in request.asks


def test_a_run_without_examples_asks_no_index(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    generator = FakeGenerator()
    play(playing(generator, retriever=FakeRetriever(error=AssertionError("asked"))), claim(run))
    assert generator.requests[0].prompt.count(fakes.LAST_CASE) == 1


def test_a_prompt_that_is_too_long_gives_up_examples_one_by_one(tmp_path: Path) -> None:
    lengths = []
    for count in (0, 1, 2):
        run = open_run(tmp_path, 1, examples="x", num_examples=count)
        generator = FakeGenerator()
        play(playing(generator, retriever=FakeRetriever([EXAMPLE] * 2)), claim(run))
        lengths.append(len(generator.requests[0].prompt))
    for shown, room in enumerate(lengths):
        run = open_run(tmp_path, 1, examples="x")
        generator = FakeGenerator(room=room)
        play(playing(generator, retriever=FakeRetriever([EXAMPLE] * 2)), claim(run))
        assert generator.requests[0].prompt.count(fakes.LAST_CASE) == shown + 1
        assert standing(run)[0] == State.DONE


def test_a_question_too_long_by_itself_is_dead_and_says_what_to_do(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, examples="x")
    generator = FakeGenerator(room=10)
    (said,) = play(playing(generator, retriever=FakeRetriever([EXAMPLE])), claim(run))
    assert said.startswith("dead: the question does not fit the engine with 64 tokens of answer")
    assert standing(run)[0] == State.DEAD
    assert "raise VOTEQUEUE_MAX_MODEL_LEN" in rows(schema.items, run)[0]["reason"]
    assert generator.requests == []


def test_a_seeded_run_gives_each_question_and_round_a_seed_of_its_own_and_the_same_again(
    tmp_path: Path,
) -> None:
    seeds = []
    for _ in range(2):
        run = open_run(tmp_path, 2, seed=7)
        generator = FakeGenerator(otherwise=votes("-"))
        for _attempt in (1, 2):
            play(playing(generator), claim(run, 2))
        seeds.append([request.seed for request in generator.requests])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 4
    run = open_run(tmp_path, 1)
    generator = FakeGenerator()
    play(playing(generator), claim(run))
    assert generator.requests[0].seed is None


# What goes wrong


def test_questions_whose_engine_died_are_lost_without_charge_and_the_others_settle(tmp_path: Path) -> None:
    run = open_run(tmp_path, 3)
    generator = FakeGenerator({"题1：": [EngineDied("gone")]}, otherwise=votes("BBB"))
    said = play(playing(generator), claim(run, 3))
    assert said == ["B: majority, 3 of 3 votes", "lost: gone", "B: majority, 3 of 3 votes"]
    assert [standing(run, at) for at in range(3)] == [
        (State.DONE, 1, 0),
        (State.PENDING, 0, 1),
        (State.DONE, 1, 0),
    ]
    assert broker.waiting("infer") == 1


def test_a_refused_question_is_dead_with_its_reason_and_the_others_settle(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2)
    generator = FakeGenerator({"题0：": [Refused("vLLM refuses the prompt: too long")]})
    said = play(playing(generator), claim(run, 2))
    assert said == ["dead: vLLM refuses the prompt: too long", "A: majority, 1 of 1 votes"]
    item = rows(schema.items, run)[0]
    assert (item["state"], item["reason"]) == (State.DEAD, "vLLM refuses the prompt: too long")
    assert standing(run, 1)[0] == State.DONE
    assert broker.waiting("infer") == 0


def test_an_unexplained_error_loses_its_batch_which_goes_on_smaller_then_alone_then_is_dead(
    tmp_path: Path,
) -> None:
    run = open_run(tmp_path, 1)
    play_on = playing(FakeGenerator({"题0：": [RuntimeError("bug")]}))
    seen = []
    for losses in range(2 + MAX_LOSSES):
        batch = claim(run)
        seen.append((rounds.batching(run).size_of(batch[0]), rounds.is_exclusive(batch[0])))
        assert play(play_on, batch) == ["lost: an unexplained error"]
        assert standing(run)[1:] == (0, losses + 1)
    assert seen == [(16, False), (8, False), (4, True), (2, True), (1, True), (1, True)]
    item = rows(schema.items, run)[0]
    assert (item["state"], item["reason"]) == (
        State.DEAD,
        "the work on it died 6 times in a row, 4 of them with nothing else in play; "
        "last: an unexplained error, see the worker's log",
    )
    assert rows(schema.votes, run) == []


def test_what_is_refused_for_a_whole_batch_buries_none_before_it_is_alone(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2, examples="x")
    refusing = playing(FakeGenerator(), retriever=FakeRetriever(error=Refused("no such examples")))
    assert play(refusing, claim(run, 2)) == ["lost: no such examples"] * 2
    assert standing(run) == (State.PENDING, 0, 1)
    assert play(refusing, claim(run)) == ["dead: no such examples"]
    assert [standing(run, at)[0] for at in (0, 1)] == [State.DEAD, State.PENDING]


def test_an_unreachable_index_gives_the_batch_back_for_later_and_charges_nothing(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2, examples="x")
    away = FakeRetriever(error=ServiceUnreachable("Qdrant does not answer"))
    said = play(playing(FakeGenerator(), retriever=away), claim(run, 2))
    assert said == ["given back: Qdrant does not answer"] * 2
    assert standing(run) == (State.PENDING, 0, 0)
    assert claim(run, 2) == []
    assert outbox.unsent(10) == []
    wait = rows(schema.items, run)[0]["not_before"] - time.time()
    assert 0 < wait <= infer.ERROR_POLICIES.patience


def test_a_ledger_that_is_away_when_a_round_ends_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path, 2)
    settle, away = claims.settle, [ServiceUnreachable("the ledger does not answer")] * 2

    def unsteady(*given: Any) -> list[Settled]:
        if away:
            raise away.pop()
        return settle(*given)

    monkeypatch.setattr(retries, "PAUSE", 0.01)
    monkeypatch.setattr(claims, "settle", unsteady)
    generator = FakeGenerator()
    assert play(playing(generator), claim(run, 2)) == ["A: majority, 1 of 1 votes"] * 2
    assert away == []
    assert len(generator.requests) == 2
    assert standing(run) == (State.DONE, 1, 0)


def test_what_only_a_person_can_mend_gives_the_batch_back_and_stops_the_worker(tmp_path: Path) -> None:
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        run = open_run(tmp_path, 1, examples="x")
        broken = FakeRetriever(error=UserError("no scorer is called 's9'"))
        said = play(playing(FakeGenerator(), retriever=broken), claim(run))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said == ["given back: this worker cannot work"]
    assert stopped == [signal.SIGTERM]
    assert standing(run) == (State.PENDING, 0, 0)


def test_a_cancelled_batch_is_given_back_untouched_and_rung_for_again(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2)

    async def scene() -> None:
        generator = FakeGenerator(hold=asyncio.Event())
        task = asyncio.create_task(infer.run_round(playing(generator), claim(run, 2)))
        while len(generator.requests) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert [standing(run, at) for at in (0, 1)] == [(State.PENDING, 0, 0)] * 2
    assert broker.waiting("infer") == 2
    assert rows(schema.votes, run) == []
    assert len(claim(run, 2)) == 2


class OneWaits(FakeGenerator):
    """Answers all questions at once, except the one whose text has a mark: this one waits for `go`."""

    def __init__(self, mark: str, reply: Reply) -> None:
        super().__init__({mark: [reply]}, otherwise=votes("CCC"))
        self.mark, self.go = mark, asyncio.Event()

    async def _share_the_engine(self, request: Request) -> None:
        if self.mark in request.asks:
            await self.go.wait()


@pytest.mark.parametrize(
    ("reply", "outcome", "left"),
    [
        (votes("BBB"), "B: majority, 3 of 3 votes", (State.DONE, 1, 0)),
        (Refused("no"), "dead: no", (State.DEAD, 1, 0)),
        (OSError(), "lost: an unexplained error", (State.PENDING, 0, 1)),
    ],
)
def test_a_question_is_settled_before_the_slowest_of_its_batch(
    reply: Reply, outcome: str, left: tuple[str, int, int], tmp_path: Path
) -> None:
    run = open_run(tmp_path, 3)
    early: dict[int, str] = {}

    async def scene() -> list[str]:
        generator = OneWaits("题1：", reply)
        task = asyncio.create_task(infer.run_round(playing(generator), claim(run, 3), early.__setitem__))
        while len(early) < 2:
            await asyncio.sleep(0.01)
        assert answered(run) == [("C", "majority", 3, 1)] * 2
        assert standing(run, 1) == (State.LEASED, 1, 0)
        generator.go.set()
        return await task

    ends = asyncio.run(scene())
    assert ends == [early[0], outcome, early[2]]
    assert [standing(run, at) for at in (0, 1, 2)] == [(State.DONE, 1, 0), left, (State.DONE, 1, 0)]


def test_a_cancelled_batch_keeps_the_questions_that_are_settled(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2)
    early: dict[int, str] = {}

    async def scene() -> None:
        task = asyncio.create_task(
            infer.run_round(playing(OneWaits("题1：", votes("BBB"))), claim(run, 2), early.__setitem__)
        )
        while not early:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert answered(run) == [("C", "majority", 3, 1)]
    assert [standing(run, at) for at in (0, 1)] == [(State.DONE, 1, 0), (State.PENDING, 0, 0)]


@pytest.mark.parametrize("reply", [votes("BBB"), votes("---"), Refused("no"), EngineDied("gone"), OSError()])
def test_a_claim_that_ran_out_and_was_taken_by_another_writes_nothing(reply: Reply, tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    late = claim(run, lease=0.001)
    time.sleep(0.02)
    assert claims.expire(MAX_LOSSES) == [late[0].job]
    taken = claim(run, worker="two")
    before = rows(schema.items, run), rows(schema.attempts, run)
    said = play(playing(FakeGenerator(otherwise=reply)), late)
    if isinstance(reply, list):
        assert said == ["too late: another worker has it, or its run was cancelled or reached its deadline"]
    assert (rows(schema.items, run), rows(schema.attempts, run)) == before
    assert rows(schema.votes, run) == rows(schema.answers, run) == []
    assert broker.waiting("infer") == 0
    play(playing(FakeGenerator(otherwise=votes("CCC"))), taken)
    assert answered(run) == [("C", "majority", 3, 1)]


# Many questions, as a worker takes them


def work_off(run: str, count: int, rounds_of: Rounds, size: int, in_flight: int) -> list[list[str]]:
    """Claim and play what is pending until nothing is, as `infer` does; give the batches played."""
    played: list[list[str]] = []

    async def note_and_play(batch: list[Claim], ended: Ended) -> Sequence[str]:
        played.append([held.key for held in batch])
        return await infer.run_round(rounds_of, batch, ended)

    async def work() -> None:
        batches: Batcher[Claim, str] = Batcher(note_and_play, size=size, in_flight=in_flight, linger=0.01)
        while held := claim(run, count):
            await asyncio.gather(
                *(
                    batches.submit(
                        one, one.job.run, rounds.batching(run).size_of(one), rounds.is_exclusive(one)
                    )
                    for one in held
                )
            )

    asyncio.run(asyncio.wait_for(work(), 60))
    return played


Killer = Callable[[], FakeGenerator]


@pytest.mark.parametrize(
    "killer",
    [
        lambda: FakeGenerator(otherwise=votes("BBB"), poison="题5："),
        lambda: FakeGenerator({"题5：": [RuntimeError("bug")]}, otherwise=votes("BBB")),
    ],
    ids=["kills the engine", "breaks the batch"],
)
def test_a_poison_question_ends_dead_and_its_neighbours_answered(killer: Killer, tmp_path: Path) -> None:
    run = open_run(tmp_path, 40)
    played = work_off(run, 40, playing(killer()), size=16, in_flight=2)
    states = [row["state"] for row in rows(schema.items, run)]
    assert [at for at, state in enumerate(states) if state != State.DONE] == [5]
    dead = rows(schema.items, run)[5]
    assert (dead["state"], dead["losses"]) == (State.DEAD, 4 + MAX_LOSSES)
    assert dead["reason"].startswith(
        "the work on it died 8 times in a row, 4 of them with nothing else in play"
    )
    assert answered(run) == [("B", "majority", 3, 1)] * 39
    assert len(rows(schema.votes, run)) == 39 * 3
    assert [len(batch) for batch in played if "p5#1" in batch] == [16, 8, 4, 2, 1, 1, 1, 1]


def test_batches_stay_full_while_rejected_questions_go_round_again(tmp_path: Path) -> None:
    run = open_run(tmp_path, 32)
    script = {f"题{at}：": [votes("---"), votes("BBB")] for at in range(0, 32, 4)}
    played = work_off(run, 32, playing(FakeGenerator(script, otherwise=votes("AAA"))), 16, 4)
    assert [len(batch) for batch in played] == [16, 16, 8]
    assert [(letter, attempt) for letter, _, _, attempt in answered(run)] == [
        ("B", 2) if at % 4 == 0 else ("A", 1) for at in range(32)
    ]


def test_a_vote_with_a_nul_in_it_is_recorded_like_any_other(tmp_path: Path) -> None:
    run = open_run(tmp_path, 2)
    play(playing(FakeGenerator({"题0：": [["\0因为\0\n答案是：B"]]})), claim(run, 2))
    assert [letter for letter, *_ in answered(run)] == ["B", "A"]
    assert rows(schema.votes, run)[0]["text"] == "\ufffd因为\ufffd\n答案是：B"
