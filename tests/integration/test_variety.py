"""Votes that see other examples or another order of the options, over fakes and a real ledger.

题0 with 甲, 乙, 丙: 乙 is letter B of the data, whatever letter a vote saw it under.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from producers import trace, vote_rows
from producers.enqueue import rescore
from shared import dataset, prompt_files, prompts, settings, variety
from shared.errors import EngineDied
from shared.ledger import claims, engine, runs, schema
from shared.prompts import FewShotExample, PromptQuestion
from shared.settings import Settings
from shared.voices import VOICES
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer, Reply, Request
from tests.integration import model_fixtures, run_fixtures
from tests.integration.test_enqueue import SAMPLING
from tests.integration.test_rounds import answered, claim, open_run, play, rows
from workers.inference.rounds import Rounds
from workers.program_executor import MontyExecutor

OPTIONS: dict[str, Any] = {"votes": 5, "vary": "options", "scorer": "none", "max_attempts": 2}
MIXED = {
    "voices": "reasoning=2,program=3",
    "voice_prompts": {"program": prompt_files.built_in("zh-program").digest},
}
_SHOWN = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _stage(on_broker: str, any_ledger: str) -> None:
    """Have a broker that answers and an empty ledger."""
    assert engine.engine().dialect.name == any_ledger
    settings.load.cache_clear()


class Knowing(FakeGenerator):
    """Answers by content, under whichever letter it stands; ``says`` writes the text of a vote."""

    def __init__(self, content: str = "乙", says: str = "因为如此。\n答案是：{}", **more: Any) -> None:
        super().__init__(**more)
        self._content, self._says = content, says

    def _reply(self, request: Request) -> Reply:
        letter = {text: letter for letter, text in shown(request)}[self._content]
        return [self._says.format(letter)] * request.sampling.votes


def shown(request: Request) -> list[tuple[str, str]]:
    """Give the options that a request shows with their letters."""
    return _SHOWN.findall(request.asks)


def question(run: str) -> PromptQuestion:
    return runs.asked(runs.load_entry(run, 0), 0)


def orders(run: str, count: int = 5) -> list[str]:
    return [variety.order(question(run), place) for place in range(count)]


def rounds_of(
    generator: FakeGenerator, scorer: FakeScorer | None = None, examples: Sequence[FewShotExample] = ()
) -> Rounds:
    executor = MontyExecutor(Settings())
    return Rounds(
        generator,
        scorer or FakeScorer(),
        lambda _: FakeRetriever(examples),
        executors=lambda voice: executor if VOICES[voice].executor else None,
    )


def column(run: str, name: str) -> list[Any]:
    return [row[name] for row in rows(schema.votes, run)]


# Options


def test_an_answer_known_by_content_is_the_same_letter_in_all_orders(tmp_path: Path) -> None:
    run, generator = open_run(tmp_path, 1, **OPTIONS), Knowing()
    assert play(rounds_of(generator), claim(run)) == ["B: unscored majority, 5 of 5 votes"]
    assert len(set(orders(run))) == 5
    assert column(run, "letter") == ["B"] * 5
    # The record keeps what the model wrote.
    assert [text[-1] for text in column(run, "text")] == ["ABC"[order.index("B")] for order in orders(run)]
    texts = dict(zip("ABC", question(run).options, strict=True))
    assert [[text for _, text in shown(request)] for request in generator.requests] == [
        [texts[letter] for letter in order] for order in orders(run)
    ]
    assert [(request.step.first, request.sampling.votes) for request in generator.requests] == [
        (place, 1) for place in range(5)
    ]


def test_a_model_that_always_says_a_votes_for_whatever_stands_first(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, **OPTIONS)
    play(rounds_of(FakeGenerator()), claim(run))
    assert column(run, "letter") == [order[0] for order in orders(run)]
    assert sorted(column(run, "letter")[:3]) == ["A", "B", "C"]


def test_without_variety_all_votes_share_one_request(tmp_path: Path) -> None:
    run, generator = open_run(tmp_path, 1, votes=5, scorer="none"), Knowing()
    play(rounds_of(generator), claim(run))
    (request,) = generator.requests
    assert (request.sampling.votes, shown(request)) == (5, [("A", "甲"), ("B", "乙"), ("C", "丙")])


def test_options_that_refer_to_others_stay_and_their_votes_share_one_request(tmp_path: Path) -> None:
    asked = {"question": "谁高？", "options": ["甲", "乙", "以上都不是"], "answer": "B"}
    path = run_fixtures.write(tmp_path / "d.jsonl", {"id": "p0", "problem": "题0：", "questions": [asked]})
    lines = [line for line in dataset.scan(path) if isinstance(line, dataset.Line)]
    options = SAMPLING.model_copy(update=OPTIONS).model_dump()
    runs.open_run(runs.Run("r", "infer", "d", "d", None, options), lines)
    generator = Knowing()
    assert play(rounds_of(generator), claim("r")) == ["B: unscored majority, 5 of 5 votes"]
    assert [request.sampling.votes for request in generator.requests] == [5]


@pytest.mark.parametrize(("reads", "as_seen"), [("question+reasoning", True), ("question+answer", False)])
def test_a_scorer_of_texts_reads_the_question_as_each_vote_saw_it(
    tmp_path: Path, reads: str, as_seen: bool
) -> None:
    model_fixtures.put("judge", reads=reads)
    run, scorer = open_run(tmp_path, 1, **{**OPTIONS, "scorer": "judge"}), FakeScorer()
    assert play(rounds_of(Knowing(), scorer), claim(run)) == ["B: majority, 5 of 5 votes"]
    asked = question(run)
    seen = [variety.reordered(asked, order) if as_seen else asked for order in orders(run)]
    assert scorer.seen == list(zip(seen, column(run, "text"), strict=True))


def test_a_scorer_of_texts_reads_the_question_as_seen_in_waves_and_over_recorded_votes(
    tmp_path: Path,
) -> None:
    model_fixtures.put("judge", reads="question+reasoning")
    run, scorer = open_run(tmp_path, 1, **{**OPTIONS, "scorer": "judge", "stop": "exact"}), FakeScorer()
    assert play(rounds_of(Knowing(), scorer), claim(run)) == ["B: majority, 3 of 3 votes, 2 not needed"]
    asked = [variety.reordered(question(run), order) for order in orders(run, 3)]
    assert [seen for seen, _ in scorer.seen] == asked
    rescore.rescore(run, {"scorer": "judge"}, "again")
    later = FakeScorer()
    play(rounds_of(FakeGenerator(), later), claim("again"))
    assert later.seen == scorer.seen


def test_scores_stay_with_their_votes(tmp_path: Path) -> None:
    model_fixtures.put("judge", reads="question+reasoning")
    scorer = FakeScorer(lambda asked, _: {"甲": 0.6, "乙": 0.7, "丙": 0.8}[asked.options[0]])
    run = open_run(tmp_path, 2, **{**OPTIONS, "scorer": "judge"})
    play(rounds_of(FakeGenerator(), scorer), claim(run, 2))
    weights = {"A": 0.6, "B": 0.7, "C": 0.8}
    assert column(run, "score") == [weights[letter] for letter in column(run, "letter")]


def test_waves_stop_as_soon_as_the_letters_of_the_data_decide(tmp_path: Path) -> None:
    run, generator = open_run(tmp_path, 1, **OPTIONS, stop="exact"), Knowing()
    assert play(rounds_of(generator), claim(run)) == ["B: unscored majority, 3 of 3 votes, 2 not needed"]
    assert [request.step.first for request in generator.requests] == [0, 1, 2]
    assert column(run, "letter") == ["B"] * 3


def test_votes_of_a_budget_see_the_order_of_their_place(tmp_path: Path) -> None:
    gains = ({"2,2,0,0": ("reasoning", 0.5), "3,3,0,0": ("reasoning", 0.0)},) * 6
    budget = {"vote_budget": 3.0, "gains": gains, "prices": ((2.0, 1.0), (3.0, 0.1)), "budget_from": "x"}
    run, generator = open_run(tmp_path, 1, **OPTIONS, **budget), Knowing()
    assert play(rounds_of(generator), claim(run)) == ["B: unscored majority, 3 of 3 votes, 2 not asked for"]
    assert [request.step.first for request in generator.requests] == [0, 1, 2]
    assert [text[-1] for text in column(run, "text")] == ["ABC"[each.index("B")] for each in orders(run, 3)]


@pytest.mark.parametrize("says", ["print('乙')", "print('{0}')"])
def test_programs_print_a_result_or_a_letter_as_shown(tmp_path: Path, says: str) -> None:
    generator = Knowing(says=f"```python\n{says}\n```\n答案是：{{0}}", chats=True)
    run = open_run(tmp_path, 1, **OPTIONS, **MIXED)
    assert play(rounds_of(generator), claim(run)) == ["B: unscored majority, 5 of 5 votes"]
    assert column(run, "outcome") == [None, None, *["result" if "乙" in says else "letter"] * 3]
    assert column(run, "letter") == ["B"] * 5


def test_a_repaired_program_is_read_in_the_order_of_its_place(tmp_path: Path) -> None:
    class Repairing(Knowing):
        def _reply(self, request: Request) -> Reply:
            return super()._reply(request) if request.step.name == "repair" else ["```python\nx\n```"]

    run = open_run(tmp_path, 1, **{**OPTIONS, **MIXED, "voices": "program=3", "votes": 3, "repair": 1})
    generator = Repairing(says="```python\nprint('{}')\n```", chats=True)
    play(rounds_of(generator), claim(run))
    assert column(run, "letter") == ["B"] * 3


def test_a_first_agreement_is_one_of_the_letters_of_the_data(tmp_path: Path) -> None:
    agreement = {"stop": "agreement=0.5", "agreement": (0.9,) * 6}
    generator = Knowing(says="```python\nprint('{0}')\n```\n答案是：{0}", chats=True)
    run = open_run(tmp_path, 1, **OPTIONS, **agreement, **MIXED)
    assert play(rounds_of(generator), claim(run)) == ["B: unscored majority, 2 of 2 votes, 3 not needed"]
    assert column(run, "place") == [0, 2]


@pytest.fixture
def asked_letters(tmp_path: Path) -> str:
    """Answer a question whose votes end without a letter, and say A when they are asked for one."""
    run = open_run(tmp_path, 1, **OPTIONS, ask_letter="always")
    play(rounds_of(FakeGenerator(otherwise=["我不知道。"], letters="AAAAA")), claim(run))
    return run


def test_a_letter_that_is_asked_for_is_mapped_back(asked_letters: str) -> None:
    assert column(asked_letters, "letter") == [order[0] for order in orders(asked_letters)]
    assert set(column(asked_letters, "letter_source")) == {"forced"}


def again(run: str, **changes: Any) -> str:
    """Vote again over the recorded votes of a run."""
    rescore.rescore(run, changes, "again")
    generator = FakeGenerator(otherwise=AssertionError("sampled"))
    play(rounds_of(generator), claim("again"))
    return "again"


def test_letters_asked_for_are_mapped_back_once(asked_letters: str) -> None:
    assert column(again(asked_letters, scorer="none"), "letter") == column(asked_letters, "letter")


@pytest.mark.parametrize("stop", ["never", "exact"])
def test_recorded_votes_are_read_again_in_the_order_of_their_place(tmp_path: Path, stop: str) -> None:
    # Without 答案是, the reader of the reference reads nothing.
    run = open_run(tmp_path, 1, **OPTIONS, reader="reference", max_tokens=9, stop=stop)
    says = "所以应选{}。"
    play(rounds_of(Knowing(says=says)), claim(run))
    play(rounds_of(Knowing(says=says)), claim(run))
    assert set(column(run, "letter")) == {None}
    rescore.rescore(run, {"scorer": "none", "reader": "conclusion"}, "again")
    play(rounds_of(FakeGenerator(otherwise=AssertionError("sampled"))), claim("again"))
    assert set(column("again", "letter")) == {"B"}
    assert column("again", "place")[:5] == column(run, "place")[:5]
    assert answered("again")[0][0] == "B"


def test_a_run_over_stopped_rounds_keeps_the_places_of_their_votes(tmp_path: Path) -> None:
    agreement = {"stop": "agreement=0.5", "agreement": (0.9,) * 6}
    generator = Knowing(says="```python\nprint('{0}')\n```\n答案是：{0}", chats=True)
    run = open_run(tmp_path, 1, **OPTIONS, **agreement, **MIXED)
    play(rounds_of(generator), claim(run))
    again(run, scorer="none", use="auto")
    assert (column("again", "place"), column("again", "letter")) == ([0, 2], ["B", "B"])


def test_the_worker_that_takes_over_asks_the_same_prompts(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, **OPTIONS)
    first, second = FakeGenerator(otherwise=EngineDied("the engine died")), Knowing()
    play(rounds_of(first), claim(run))
    assert play(rounds_of(second), claim(run, worker="two")) == ["B: unscored majority, 5 of 5 votes"]
    assert [request.prompt for request in first.requests] == [request.prompt for request in second.requests]


def test_a_lost_claim_is_repeated_with_the_same_prompts(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1, **OPTIONS)
    late = claim(run, lease=-1.0)
    claims.expire(4)
    fresh = claim(run, worker="two")
    first, second = Knowing(), Knowing()
    assert play(rounds_of(second), fresh) == ["B: unscored majority, 5 of 5 votes"]
    play(rounds_of(first), late)
    assert [request.prompt for request in first.requests] == [request.prompt for request in second.requests]
    assert len(column(run, "letter")) == 5


# What is shown


def test_the_history_shows_the_order_that_each_vote_saw(tmp_path: Path, votequeue: Command) -> None:
    run, generator = open_run(tmp_path, 1, **OPTIONS), Knowing()
    play(rounds_of(generator), claim(run))
    told = trace.history(run, "0")
    assert [vote["order"] for vote in told.votes] == orders(run)
    assert [round_.prompt for round_ in told.rounds] == [generator.requests[0].prompt]
    out = votequeue("trace", run, "0").out
    for place, order in enumerate(orders(run)):
        assert f"vote 1.{place + 1}: B, " in out
        assert f", options shown in the order {' '.join(order)}," in out


def test_the_history_of_a_voice_has_the_prompt_of_its_first_vote(tmp_path: Path) -> None:
    generator = Knowing(says="```python\nprint('{0}')\n```\n答案是：{0}", chats=True)
    run = open_run(tmp_path, 1, **OPTIONS, **MIXED)
    play(rounds_of(generator), claim(run))
    sampled = {each.voice: each.prompt for each in trace.history(run, "0").rounds}
    assert sampled["program"] == prompts.plain_text(generator.requests[2].prompt)
    assert orders(run)[2] != "ABC"


@pytest.mark.parametrize("vary", ["none", "options"])
def test_rows_of_votes_have_the_order_where_there_may_be_another(tmp_path: Path, vary: str) -> None:
    run = open_run(tmp_path, 1, **{**OPTIONS, "vary": vary})
    play(rounds_of(Knowing()), claim(run))
    told = [(row["letter"], row["order"]) for row in vote_rows.of_run(run)]
    assert told == [("B", order if vary == "options" else None) for order in orders(run)]


# Examples


def solved(at: int, program: bool = False) -> FewShotExample:
    asked = PromptQuestion(f"例{at}。", "谁高？", ("子", "丑"))
    return FewShotExample(asked, "" if program else f"推理{at}。", "A", at, f"print({at})" if program else "")


SOLVED = [solved(at) for at in range(40)]
EXAMPLES: dict[str, Any] = {
    "votes": 5,
    "vary": "examples",
    "scorer": "none",
    "num_examples": 2,
    "examples": "d",
}


def numbers(request: Request) -> list[int]:
    """Give the numbers of the examples that a request shows, in their order."""
    return [int(number) for number in re.findall(r"例(\d+)。", prompts.plain_text(request.prompt))]


def test_each_vote_sees_the_examples_after_those_of_its_predecessor(tmp_path: Path) -> None:
    run, generator = open_run(tmp_path, 1, **EXAMPLES), Knowing()
    assert play(rounds_of(generator, examples=SOLVED), claim(run)) == ["B: unscored majority, 5 of 5 votes"]
    assert [numbers(each) for each in generator.requests] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert {tuple(shown(each)) for each in generator.requests} == {(("A", "甲"), ("B", "乙"), ("C", "丙"))}
    (sampled,) = rows(schema.rounds, run)
    assert sampled["examples"] == list(range(10))


@pytest.mark.parametrize(
    ("count", "seen"),
    [
        (5, [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]),
        (3, [[0, 1]]),
        (1, [[0]]),
        (0, [[]]),
    ],
)
def test_with_too_few_examples_the_nearest_come_again(
    tmp_path: Path, count: int, seen: list[list[int]]
) -> None:
    run, generator = open_run(tmp_path, 1, **EXAMPLES), Knowing()
    play(rounds_of(generator, examples=SOLVED[:count]), claim(run))
    assert [numbers(each) for each in generator.requests] == seen
    assert sum(request.sampling.votes for request in generator.requests) == 5


def test_the_first_vote_of_each_voice_sees_the_nearest_with_a_text_of_the_voice(tmp_path: Path) -> None:
    mixed = [solved(at, program=at % 2 == 1) for at in range(40)]
    run = open_run(tmp_path, 1, **EXAMPLES, **MIXED)
    generator = Knowing(says="```python\nprint('{0}')\n```\n答案是：{0}", chats=True)
    play(rounds_of(generator, examples=mixed), claim(run))
    assert [numbers(each) for each in generator.requests] == [[0, 2], [4, 6], [1, 3], [5, 7], [9, 11]]


def test_waves_see_the_examples_of_their_places(tmp_path: Path) -> None:
    run, generator = open_run(tmp_path, 1, **EXAMPLES, stop="exact"), Knowing()
    play(rounds_of(generator, examples=SOLVED), claim(run))
    assert [numbers(each) for each in generator.requests] == [[0, 1], [2, 3], [4, 5]]


def test_enough_examples_are_retrieved_at_once(tmp_path: Path) -> None:
    class Counting(FakeRetriever):
        def nearest(self, *asked: Any, **more: Any) -> Any:
            wanted.append(asked[2])
            return super().nearest(*asked, **more)

    wanted: list[int] = []
    run = open_run(tmp_path, 1, **EXAMPLES)
    play(Rounds(Knowing(), FakeScorer(), lambda _: Counting(SOLVED)), claim(run))
    assert wanted == [100]


@pytest.mark.parametrize("room", [1 << 30, 620])
def test_the_history_has_the_prompt_of_the_first_vote_with_the_examples_that_fitted(
    tmp_path: Path, room: int
) -> None:
    run, generator = open_run(tmp_path, 1, **EXAMPLES), Knowing(room=room)
    examples = [solved(at) for at in range(10)]
    long = PromptQuestion(f"例1。{'长' * 400}", "谁高？", ("子", "丑"))
    examples[1] = FewShotExample(long, "推理1。", "A", 1)
    runs.add_examples("d", examples)
    play(rounds_of(generator, examples=examples), claim(run))
    first = generator.requests[0]
    assert numbers(first) == ([0, 1] if room > 620 else [0])
    assert [each.prompt for each in trace.history(run, "0").rounds] == [first.prompt]


# The door


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))


def refused(votequeue: Command, *words: Any, code: int = 2) -> str:
    ended = votequeue("enqueue", *words)
    assert ended.code == code, ended.out
    return " ".join(re.sub("[╭╮╰╯│─]", " ", ended.err).split())


def test_a_run_records_what_varies(data: Path, votequeue: Command) -> None:
    assert votequeue("enqueue", "infer", data, "--run", "r", "--vary", "options").code == 0
    assert votequeue("enqueue", "infer", data, "--run", "s").code == 0
    assert [runs.get_run(run).options["vary"] for run in "rs"] == ["options", "none"]


def test_examples_vary_only_where_there_are_some(data: Path, votequeue: Command) -> None:
    assert "--vary: examples needs solved questions to choose from: --examples FILE" in refused(
        votequeue, "infer", data, "--vary", "examples"
    )
    shown = ("--examples", data, "--num-examples", 0)
    assert "--vary: examples needs solved examples in the prompts" in refused(
        votequeue, "infer", data, "--vary", "examples", *shown
    )
    assert "--vary" in refused(votequeue, "infer", data, "--vary", "letters")


@pytest.fixture
def moved(data: Path) -> str:
    """Answer a run whose votes saw the options in other orders."""
    run_fixtures.infer(data, SAMPLING.model_copy(update={"vary": "options", "votes": 5}), "moved")
    run_fixtures.answer_all("moved", 2)
    return "moved"


def test_recorded_votes_do_not_vary(moved: str, votequeue: Command) -> None:
    told = refused(votequeue, "infer", moved, "--vary", "options")
    assert f"--vary: the recorded votes of {moved} are reused" in told
    told = refused(votequeue, "infer", moved, moved, "--combine", "plain", "--vary", "options")
    assert "--vary: recorded votes are combined" in told


def test_votes_that_saw_other_orders_are_not_combined(moved: str, data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "base")
    run_fixtures.answer_all("base", 2)
    told = refused(votequeue, "infer", "base", moved, "--combine", "plain", code=1)
    assert "--combine needs texts about the options in the data's order, and run 'moved' showed other" in told


@pytest.mark.parametrize("reads", ["reasoning", "question+reasoning"])
def test_texts_about_other_orders_train_no_scorer_of_texts(
    moved: str, votequeue: Command, reads: str
) -> None:
    told = refused(votequeue, "train", "scorer", "--from", moved, "--input", reads, code=1)
    assert f"--input {reads} needs texts about the options in the data's order" in told


def test_a_scorer_of_letters_learns_from_votes_that_saw_other_orders(moved: str, votequeue: Command) -> None:
    ended = votequeue("enqueue", "train", "scorer", "--from", moved, "--run", "t")
    assert ended.out == "run t enqueued: 2 questions with 5 right and 5 wrong texts, 1 message sent\n"


def test_texts_about_other_orders_train_no_adapter(moved: str, votequeue: Command) -> None:
    told = refused(votequeue, "train", "lora", "--from", moved, code=1)
    assert "an adapter's training needs texts about the options in the data's order" in told


def test_questions_can_be_asked_again_with_variety(data: Path, votequeue: Command) -> None:
    run_fixtures.infer(data, SAMPLING, "base")
    for held in run_fixtures.claim("base", 0, 1):
        run_fixtures.vote(held, [run_fixtures.ballot("A"), run_fixtures.ballot(None)])
    ended = votequeue("enqueue", "infer", "base", "--only", "unread", "--vary", "options", "--run", "again")
    assert (ended.code, runs.get_run("again").options["vary"]) == (0, "options")
    told = refused(votequeue, "infer", "base", "--only", "unread", "--vary", "examples")
    assert "--vary: examples needs solved questions to choose from" in told


@pytest.mark.parametrize(("vary", "times"), [("none", 1), ("options", 5)])
def test_an_estimate_counts_the_prompt_of_each_vote(
    data: Path, votequeue: Command, vary: str, times: int
) -> None:
    def tokens(*words: str) -> int:
        ended = votequeue("enqueue", "infer", data, "--dry-run", "--json", *words)
        return int(json.loads(ended.out)["prompt_tokens"])

    assert tokens("--vary", vary) == times * tokens()
