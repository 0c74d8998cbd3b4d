"""Several voices in one round: prompts, programs and their outcomes, repairs, and what is shown of them.

votes ("reasoning", "A"), ("program", "B", outcome "result", output "乙\\n")
"""

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from producers import trace, vote_rows
from producers.enqueue import rescore
from producers.reports import inference_report, render_reports
from producers.reports.voice_figures import VoiceReport
from shared import prompt_files, prompts
from shared.dataset import EntryText
from shared.errors import NotServedHere
from shared.ledger import runs, schema, votes
from shared.options import Sampling
from shared.prompts import FewShotExample, Message, PromptQuestion
from shared.settings import Settings
from shared.voices import VOICES
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeRetriever, FakeScorer
from tests.integration import run_fixtures
from tests.integration.test_rounds import answered, claim, open_run, play, rows, standing
from workers import wiring
from workers.inference.rounds import Rounds
from workers.program_executor import MontyExecutor

pytestmark = pytest.mark.usefixtures("any_ledger", "on_broker")
ZH, PROGRAM = prompt_files.built_in("zh"), prompt_files.built_in("zh-program")
MIXED: dict[str, Any] = {
    "voices": "reasoning=2,program=3",
    "votes": 5,
    "voice_prompts": {"program": PROGRAM.digest},
}


@pytest.fixture(scope="module")
def executor() -> MontyExecutor:
    return MontyExecutor(Settings())


@pytest.fixture
def rounds_of(executor: MontyExecutor) -> Callable[[FakeGenerator], Rounds]:
    def executors(voice: str) -> MontyExecutor | None:
        return executor if VOICES[voice].executor else None

    def built(generator: FakeGenerator) -> Rounds:
        return Rounds(generator, FakeScorer(), lambda _: FakeRetriever(), executors=executors)

    return built


def program(text: str) -> str:
    return f"```python\n{text}\n```"


def generator(*replies: Sequence[str], **more: Any) -> FakeGenerator:
    return FakeGenerator({"题0：": replies}, chats=True, **more)


def votes_of(run: str, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows(schema.votes, run)]


WORDS = ["因为如此。\n答案是：A", "因为如此。\n答案是：B"]
PROGRAMS = [program("print('乙')"), program("print('C')  # 答案是：A"), program("print(x)")]


def test_both_voices_are_asked_in_one_round(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, **MIXED)
    asked = generator(WORDS, PROGRAMS)
    assert play(rounds_of(asked), claim(run)) == ["B: unscored majority, 2 of 5 votes"]
    question = runs.asked(runs.load_entry(run, 0), 0)
    words, programs = asked.requests
    assert (words.prompt, words.sampling.votes) == (ZH.completion(question), 2)
    assert (programs.prompt, programs.sampling.votes) == (PROGRAM.chat(question), 3)
    assert votes_of(run, "place", "voice", "letter", "outcome", "output", "detail", "letter_source") == [
        (0, "reasoning", "A", None, None, None, "read"),
        (1, "reasoning", "B", None, None, None, "read"),
        (2, "program", "B", "result", "乙\n", None, "read"),
        (3, "program", "C", "letter", "C\n", None, "read"),
        (4, "program", None, "NameError", "", "name 'x' is not defined", None),
    ]
    sampled = {row["voice"]: row for row in rows(schema.rounds, run)}
    assert {voice: row["style"] for voice, row in sampled.items()} == {
        "reasoning": "completion",
        "program": "chat",
    }
    assert sampled["program"]["prompt"] == prompts.digest(programs.prompt)


def test_each_voice_shows_the_nearest_examples_with_a_text_of_its_own(
    tmp_path: Path, executor: MontyExecutor
) -> None:
    solved = [
        FewShotExample(
            PromptQuestion(f"例{at}。", "谁高？", ("甲", "乙")),
            f"理由{at}。" if at % 3 != 1 else "",
            "A",
            at,
            f"print({at} + 1)" if at % 3 else "",
        )
        for at in range(12)
    ]
    run = open_run(tmp_path, 1, examples="x", num_examples=2, **MIXED)
    asked = generator(WORDS, PROGRAMS)
    retriever = FakeRetriever(solved)
    playing = Rounds(
        asked,
        FakeScorer(),
        lambda _: retriever,
        executors=lambda voice: executor if VOICES[voice].executor else None,
    )
    play(playing, claim(run))
    question = runs.asked(runs.load_entry(run, 0), 0)
    words, programs = asked.requests
    assert words.prompt == ZH.completion(question, [solved[0], solved[2]])
    assert programs.prompt == PROGRAM.chat(question, [solved[1], solved[2]])
    shown = {row["voice"]: row["examples"] for row in rows(schema.rounds, run)}
    assert shown == {"reasoning": [0, 2], "program": [1, 2]}


def test_the_progress_of_all_voices_is_counted(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, **MIXED)
    playing = rounds_of(generator(WORDS, PROGRAMS))
    play(playing, claim(run))
    (figures,) = playing.meter.figures()
    assert (figures.votes, figures.tokens) == (5, sum(map(len, WORDS + PROGRAMS)))


def test_programs_alone_answer_questions(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, **{**MIXED, "voices": "program=2", "votes": 2})
    asked = generator([program("print('丙')"), program("print('丙')")])
    assert play(rounds_of(asked), claim(run)) == ["C: unscored majority, 2 of 2 votes"]
    assert len(asked.requests) == 1


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("答案是：A", "SyntaxError"),
        (program("# 答案是：A"), "silent"),
        (program("answer = 'A'"), "silent"),
        (program("print('丁')"), "no option"),
        (program("while True: print('A')"), "output"),
        (program("print('A')\nraise ValueError('答案是：A')"), "ValueError"),
        (program("import os\nprint('A')\nos.kill(1, 9)"), "AttributeError"),
        ("", "silent"),
        ("```python\nprint('A'", "SyntaxError"),
    ],
)
def test_a_program_without_a_result_has_no_letter(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds], text: str, outcome: str
) -> None:
    changes = {**MIXED, "voices": "program=1", "votes": 1, "ask_letter": "always", "max_attempts": 1}
    run = open_run(tmp_path, 1, **changes)
    asked = generator([text])
    play(rounds_of(asked), claim(run))
    assert votes_of(run, "letter", "outcome", "accepted") == [(None, outcome, False)]
    # A letter that is asked for would be a guess.
    assert asked.asked_letters == []


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("程序如下：\n```python\nprint('乙')\n```\n输出：\n```\nA\n```\n答案是：A", "B"),
        ("```py\nx = '乙'\n```\n然后：\n```python\nprint(x)\n```", "B"),
        ("```\nprint('乙')\n```", "B"),
        ("```python\nprint('乙')", "B"),
        ("print('乙')", "B"),
        ("<think>```python\nprint('甲')\n```</think>\n```python\nprint('乙')\n```", "B"),
    ],
)
def test_the_program_of_a_reply_is_found(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds], text: str, letter: str
) -> None:
    run = open_run(tmp_path, 1, **{**MIXED, "voices": "program=1", "votes": 1})
    play(rounds_of(generator([text])), claim(run))
    assert votes_of(run, "letter") == [(letter,)]


def test_a_program_without_a_letter_is_asked_for_once_more(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, **{**MIXED, "voices": "program=4", "votes": 4, "repair": 1})
    first = [program(text) for text in ("print('乙')", "print(x)", "pass", "print('丁')")]
    again = [[program("print('乙')")], [program("print('甲')")], [program("print('丁')")]]
    asked = generator(first, *again)
    assert play(rounds_of(asked), claim(run)) == ["B: unscored majority, 2 of 4 votes"]
    _, *repairs = asked.requests
    told = ["NameError: name 'x' is not defined", "什么也没有打印", "与任何选项都不相符：丁"]
    for request, text, what in zip(repairs, first[1:], told, strict=True):
        assert request.sampling.votes == 1
        assert request.prompt[-2] == Message("assistant", text)
        assert what in request.prompt[-1].content
    assert votes_of(run, "letter", "outcome", "first_outcome") == [
        ("B", "result", None),
        ("B", "result", "NameError: name 'x' is not defined"),
        ("A", "result", "silent"),
        (None, "no option", "no option"),
    ]
    assert votes_of(run, "text", "first_text", "tokens")[1] == (
        again[0][0],
        first[1],
        len(first[1]) + len(again[0][0]),
    )


def test_a_model_without_a_chat_template_is_refused_with_the_reason(
    tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, **MIXED)
    (said,) = play(rounds_of(FakeGenerator(chats=False)), claim(run))
    assert "the voice program needs a model with a chat template: leave it out of --voices" in said
    assert standing(run)[0] == "dead"


def test_a_worker_without_the_package_leaves_the_run_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    executors = wiring.executors(Settings())
    assert executors("reasoning") is None
    with pytest.raises(NotServedHere, match=r"pip install 'votequeue\[programs\]'"):
        executors("program")


def test_recorded_programs_are_read_again_and_not_run_again(tmp_path: Path) -> None:
    def no_executors(voice: str) -> MontyExecutor | None:
        raise AssertionError(voice)

    run = open_run(tmp_path, 1, **MIXED)
    executor = MontyExecutor(Settings())
    first = Rounds(
        generator(WORDS, PROGRAMS),
        FakeScorer(),
        lambda _: FakeRetriever(),
        executors=lambda voice: executor if VOICES[voice].executor else None,
    )
    play(first, claim(run))
    rescore.rescore(run, {"scorer": "none"}, "again")
    second = Rounds(FakeGenerator(), FakeScorer(), lambda _: FakeRetriever(), executors=no_executors)
    play(second, claim("again"))
    names = ("place", "voice", "letter", "outcome", "output", "detail", "text")
    assert votes_of("again", *names) == votes_of(run, *names)
    assert answered("again") == [("B", "unscored majority", 2, 1)]
    assert len(rows(schema.rounds, "again")) == 2


# What is shown


@pytest.fixture
def mixed(tmp_path: Path, rounds_of: Callable[[FakeGenerator], Rounds]) -> str:
    run = open_run(tmp_path, 1, **MIXED, repair=1)
    play(rounds_of(generator(WORDS, PROGRAMS, [program("print('A')")])), claim(run))
    return run


def test_the_report_tells_the_voices_apart(mixed: str, votequeue: Command) -> None:
    figures = inference_report.figures(mixed)
    words, programs = (figures.voices.voices[name] for name in ("reasoning", "program"))
    assert (words.votes, words.one_vote.right, words.majority.value) == (2, 1, 0.0)
    assert (programs.read.right, programs.one_vote.right, programs.some_vote_right.right) == (3, 1, 1)
    assert programs.outcomes == {"result": 1, "letter": 2}
    assert (programs.repaired.right, programs.repaired.of) == (1, 1)
    # The first votes are A and B.
    assert figures.voices.agree.of == 0
    shown = dict(render_reports.inference_rows(figures))
    assert shown["program: outcomes"] == "letter 2, result 1"
    assert shown["program: right of those with a letter"] == "1/3  33.3 %"
    assert shown["program: asked for again"] == "1 vote, 1 with a letter then"
    told = json.loads(votequeue("report", mixed, "--json").out)
    assert told["voices"]["voices"]["program"]["outcomes"] == {"result": 1, "letter": 2}


def test_a_voice_without_a_letter_has_no_majority(mixed: str) -> None:
    (result,) = votes.of_run(mixed)
    silent = [vote._replace(voice="program", letter=None) for vote in result.votes]
    # The run's fallback would guess the letter A.
    guessable = result.entry.questions[0].model_copy(update={"answer": "A"})
    entry = result.entry.model_copy(update={"questions": [guessable]}).model_dump_json()
    report = VoiceReport()
    report.count(result._replace(text=EntryText(entry), votes=silent))
    share = report.voices["program"].majority
    assert (share.right, share.of) == (0, 1)


def test_the_report_of_reasonings_alone_says_nothing_of_voices(tmp_path: Path) -> None:
    run = open_run(tmp_path, 1)
    play(Rounds(FakeGenerator(), FakeScorer(), lambda _: FakeRetriever()), claim(run))
    shown = [name for name, _ in render_reports.inference_rows(inference_report.figures(run))]
    assert not any(name.startswith(("reasoning", "program")) for name in shown)


def test_the_history_shows_prompts_programs_and_outputs(mixed: str, votequeue: Command) -> None:
    sampled = {each.voice: each for each in trace.history(mixed, "0").rounds}
    question = runs.asked(runs.load_entry(mixed, 0), 0)
    assert sampled["program"].prompt == prompts.plain_text(PROGRAM.chat(question))
    assert sampled["reasoning"].prompt == ZH.completion(question)
    shown = votequeue("trace", mixed, "0").out
    for said in ("round 1, voice program", "voice program, outcome result", "  output:\n  | 乙\n"):
        assert said in shown
    assert "asked for again, because the first one ended in: NameError: name 'x' is not defined" in shown


def test_every_vote_is_a_row_with_its_voice(mixed: str) -> None:
    listed = list(vote_rows.of_run(mixed))
    assert [row["voice"] for row in listed] == ["reasoning"] * 2 + ["program"] * 3
    assert (listed[2]["outcome"], listed[2]["output"], listed[4]["first_text"]) == (
        "result",
        "乙\n",
        PROGRAMS[2],
    )


# Enqueueing


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))


def recorded(run: str) -> Sampling:
    return Sampling.of_record(runs.get_run(run).options)


def test_a_run_records_the_votes_and_the_prompt_of_each_voice(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "infer", data, "--run", "r", "--voices", "reasoning=3, program=2")
    assert ended.code == 0, ended.err
    sampling = recorded("r")
    assert (sampling.voices, sampling.votes) == ("reasoning=3,program=2", 5)
    assert sampling.votes_by_voice == {"reasoning": 3, "program": 2}
    assert sampling.voice_prompts == {"program": PROGRAM.digest}
    assert (sampling.of_voice("program").prompt, sampling.of_voice("program").prompt_style) == (
        PROGRAM.digest,
        "chat",
    )
    assert sampling.of_voice("reasoning").prompt == ZH.digest
    # The same command continues the run; other votes are another run.
    assert votequeue("enqueue", "infer", data, "--run", "r", "--voices", "reasoning=3,program=2").code == 0
    ended = votequeue("enqueue", "infer", data, "--run", "r", "--voices", "program=5")
    assert "its voices is reasoning=3,program=2, not program=5" in ended.err


def test_reasonings_alone_are_as_many_votes_as_ever(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "infer", data, "--run", "one", "--voices", "reasoning=5")
    votequeue("enqueue", "infer", data, "--run", "two", "--votes", "5")
    one, two = recorded("one"), recorded("two")
    assert one.votes_by_voice == two.votes_by_voice == {"reasoning": 5}
    assert one.model_copy(update={"voices": None}) == two
    assert two.of_voice("reasoning") == two


def test_a_dry_run_counts_the_prompts_of_all_voices(data: Path, votequeue: Command) -> None:
    def prompt_tokens(given: str) -> int:
        shown = json.loads(votequeue("enqueue", "infer", data, "--dry-run", "--json", "--voices", given).out)
        return int(shown["prompt_tokens"])

    both = prompt_tokens("reasoning=3,program=2")
    assert both == prompt_tokens("reasoning=3") + prompt_tokens("program=2")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--voices", "poem=3"], "'poem' is no voice; the voices are: reasoning, program"),
        (["--voices", "program"], "give each voice once, with 1 to 1000 votes, as in program=2"),
        (["--voices", "program=0"], "give each voice once"),
        (["--voices", "program=1,program=2"], "give each voice once"),
        (["--voices", "program=2", "--votes", "3"], "it cannot be given with --voices"),
        (["--repair", "1"], "it needs votes that are programs"),
        (["--repair", "2", "--voices", "program=2"], "less than or equal to 1"),
        (["--prompt", "zh-program"], "is for the voice program, which gets no votes: see --voices"),
        (["--prompt", "zh,en"], "is for the voice reasoning, which has another prompt"),
    ],
)
def test_what_does_not_go_together_is_refused(
    data: Path, votequeue: Command, given: list[str], said: str
) -> None:
    ended = votequeue("enqueue", "infer", data, "--run", "r", *given)
    assert ended.code in (1, 2)
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert runs.find_run("r") is None


def test_a_prompt_of_ones_own_may_be_for_either_voice(home: Path, data: Path, votequeue: Command) -> None:
    mine = home / "mine.toml"
    mine.write_text(PROGRAM.text.replace("只用标准库", "只用 math"), "utf-8")
    given = ("--voices", "reasoning=1,program=1", "--prompt", f"en,{mine}")
    assert votequeue("enqueue", "infer", data, "--run", "r", *given).code == 0
    sampling = recorded("r")
    assert sampling.prompt == prompt_files.built_in("en").digest
    assert sampling.voice_prompts == {"program": prompt_files.read(mine).digest}


def test_the_voice_is_refused_at_the_door_where_its_package_is_missing(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    ended = votequeue("enqueue", "infer", data, "--run", "r", "--voices", "program=2")
    assert (ended.code, runs.find_run("r")) == (1, None)
    assert (
        "the voice program needs the package pydantic_monty: pip install 'votequeue[programs]'" in ended.err
    )


def test_questions_are_asked_again_by_other_voices(
    tmp_path: Path, votequeue: Command, rounds_of: Callable[[FakeGenerator], Rounds]
) -> None:
    run = open_run(tmp_path, 1, max_attempts=1, scorer="none", lora="none")
    play(rounds_of(generator(["我不知道。"])), claim(run))
    ended = votequeue(
        "enqueue", "infer", run, "--only", "default,unread", "--run", "more", "--voices", "program=2"
    )
    assert ended.code == 0, ended.err
    sampling = recorded("more")
    assert (sampling.votes, sampling.voice_prompts) == (2, {"program": PROGRAM.digest})


def test_the_preview_shows_the_prompt_of_programs_as_turns(data: Path, votequeue: Command) -> None:
    ended = votequeue("prompts", "preview", data, "--prompt", "zh-program")
    question = PromptQuestion("甲比乙高，乙比丙高。(p1)", "谁高？", ("甲", "乙", "丙"))
    assert ended.out.strip() == prompts.plain_text(PROGRAM.chat(question)).strip()
    assert "their letters are read by the reader result" in ended.err
