"""`enqueue reason --as program`: programs are asked for without a letter, executed, and kept if right."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers import collect, generated_entries
from producers.enqueue import inputs, train, workload
from producers.reports import generation_report
from producers.reports.shares import Share
from shared import prompt_files, prompts, settings
from shared.dataset import Entry
from shared.errors import Refused, UserError
from shared.ledger import prompt_store, runs
from shared.ledger.schema import State
from shared.options import Reasoning
from shared.prompts import PromptQuestion
from tests import fakes
from tests.conftest import Command
from tests.fakes import FakeChat
from tests.integration import provider_fixtures, run_fixtures
from tests.integration.provider_fixtures import (
    Stage,
    agreeing,
    open_run,
    result,
    standing,
    steps,
    texts,
    work,
)
from workers import wiring

PROMPT = prompt_files.built_in("zh-program")
AS_PROGRAM = {"voice": "program", "prompt": PROMPT.digest}
RIGHT = "heights = {'甲': 3, '乙': 2, '丙': 1}\nprint(sorted(heights, key=lambda name: heights[name])[1])"
WRONG = RIGHT.replace("[1]", "[0]")
HANGING = "while True:\n    pass"


@pytest.fixture
def stage(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("VOTEQUEUE_PROGRAM_LIMITS", '{"seconds": 0.2}')
    settings.load.cache_clear()
    with provider_fixtures.staged(monkeypatch) as stage:
        yield stage


def reply(program: str) -> str:
    return f"先比身高。\n\n```python\n{program}\n```\n\n答案是：C"


def program_run(*entries: dict[str, Any], **changes: Any) -> str:
    return open_run(*entries, **{**AS_PROGRAM, **changes})


# What is asked, and what is kept


def test_a_program_is_asked_for_without_a_letter_and_kept_alone(stage: Stage) -> None:
    chat, run = stage.says(reply(RIGHT)), program_run()
    assert work(run) == "B: agreed, asked once"
    assert result(run)["texts"] == [
        {
            "letter": "B",
            "text": RIGHT,
            "provider": "chat",
            "model": "a",
            "prompt": PROMPT.digest,
            "reused": False,
        }
    ]
    asked = PromptQuestion("甲比乙高，乙比丙高。(p0)", "谁高？", ("甲", "乙", "丙"))
    assert [prompt.text for prompt in chat.prompts] == [PROMPT.completion(asked).strip()]


def test_the_prompt_is_the_same_whatever_the_label_is(stage: Stage) -> None:
    chat = stage.says(reply(RIGHT))
    for letter in "ABC":
        work(program_run(run_fixtures.entry("p0", letter), asks=1))
    assert len(chat.prompts) == 3
    assert len(set(chat.prompts)) == 1


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (reply(WRONG), "C"),
        (reply("total = 1 + 1"), "silent"),
        (reply("print(1 + 1)"), "no option"),
        (reply("print(heights)"), "NameError"),
        ("我不会写程序。答案是：B", "SyntaxError"),
        (reply(HANGING), "time"),
        (reply("import os\nprint(os.listdir('/'))\nprint('乙')"), "PermissionError"),
        (reply("# 答案是：B\nanswer = 'B'"), "silent"),
        (reply("print('B')"), "constant"),
        (reply("# 甲比乙高。\nanswer = '乙'\nprint(f'答案是：{answer}')"), "constant"),
    ],
)
def test_a_program_without_the_right_letter_is_not_kept_and_the_reason_says_how_it_ended(
    stage: Stage, said: str, heard: str
) -> None:
    stage.says(said)
    run = program_run(asks=1)
    assert work(run) == f"dead: no program for B: chat/a said {heard}"
    assert standing(run)[0] == State.DEAD


def test_another_program_is_asked_for_until_one_is_right(stage: Stage) -> None:
    chat, run = stage.says(reply(WRONG), reply("print(x)"), reply(RIGHT)), program_run()
    assert work(run) == "B: agreed, asked 3 times"
    assert steps(run) == ["B:1:a", "B:2:a", "B:3:a"]
    assert len(set(chat.prompts)) == 1
    report = generation_report.figures(run)
    assert (report.asks, report.models) == ({3: 1}, {"chat/a": Share(1, 3)})


def test_a_right_program_is_executed_again_instead_of_being_asked_for_again(stage: Stage) -> None:
    chat, first = stage.says(reply(RIGHT)), program_run()
    work(first)
    second = program_run()
    assert work(second) == "B: on record already"
    assert texts(second) == [("B", RIGHT, "a", True)]
    assert len(chat.prompts) == 1


def test_reasonings_and_programs_do_not_replace_each_other(stage: Stage) -> None:
    stage.plays(FakeChat({"": [agreeing(), reply(RIGHT)]}, service=fakes.service(model="a")))
    reasoned, programmed = open_run(), program_run()
    assert [work(run) for run in (reasoned, programmed)] == ["B: agreed, asked once"] * 2
    assert [texts(run)[0][1] for run in (reasoned, programmed)] == [agreeing(), RIGHT]


def test_a_worker_without_the_package_gives_the_question_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, run = stage.says(reply(RIGHT)), program_run()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "the voice program needs the package pydantic_monty" in work(run)
    assert (standing(run)[0], chat.prompts) == (State.PENDING, [])


def test_a_run_for_an_unknown_prompt_is_refused(stage: Stage) -> None:
    chat, run = stage.says(reply(RIGHT)), program_run(prompt="0" * 64)
    assert "enqueue it again" in work(run)
    assert chat.prompts == []
    with pytest.raises(Refused, match="the run wants prompt 0000"):
        prompt_store.generating("0" * 64, PromptQuestion("", "", ()), "A")


# Enqueuing


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(
        home / "d.jsonl", run_fixtures.entry("p1", "A-"), run_fixtures.entry("p2", "CB")
    )


def plain(told: str) -> str:
    """Give what a usage error says, without its frame."""
    return " ".join(told.replace("│", " ").split())


FLAGS = ("--provider", "chat", "--model", "m", "--run", "r", "--as", "program")


@pytest.mark.usefixtures("on_broker")
def test_the_prompt_is_that_of_programs_in_the_datas_language(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, "--label", "correct", *FLAGS)
    assert ended.out == "run r enqueued: 3 questions, 3 messages sent\n"
    recorded = runs.get_run("r").options
    assert (recorded["voice"], recorded["prompt"]) == ("program", PROMPT.digest)
    english = run_fixtures.write(
        data.with_name("en.jsonl"),
        {
            "id": 1,
            "problem": "Ann is tall.",
            "questions": [{"question": "Who?", "options": ["Ann", "Ben"], "answer": "A"}],
        },
    )
    votequeue("enqueue", "reason", english, "--label", "correct", *FLAGS[:-3], "s", "--as", "program")
    assert runs.get_run("s").options["prompt"] == prompt_files.built_in("en-program").digest


@pytest.mark.usefixtures("on_broker")
def test_without_as_a_run_is_recorded_as_before(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "reason", data, "--label", "correct", *FLAGS[:-2])
    recorded = runs.get_run("r").options
    assert "voice" not in recorded
    assert recorded["prompt"] == prompts.version("explaining")


@pytest.mark.usefixtures("on_broker")
def test_programs_for_wrong_letters_are_refused(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "reason", data, "--label", "wrong", *FLAGS)
    assert ended.code == 2
    assert "takes correct only: no letter is shown to the model" in " ".join(
        ended.err.replace("│", " ").split()
    )
    ended = votequeue("enqueue", "reason", data, "--label", "correct", *FLAGS[:-1], "poem")
    assert ended.code == 2
    assert "the voices are: reasoning, program" in plain(ended.err)


@pytest.mark.usefixtures("on_broker")
def test_without_the_package_nothing_is_enqueued(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ended = votequeue("enqueue", "reason", data, "--label", "correct", *FLAGS)
    assert (ended.code, "pip install 'votequeue[programs]'" in ended.err) == (1, True)


@pytest.mark.usefixtures("home")
def test_the_estimate_is_of_the_prompts_of_programs() -> None:
    options = Reasoning.model_validate(
        {**provider_fixtures.OPTIONS.model_dump(mode="json"), **AS_PROGRAM, "asks": 2}
    )
    (load,) = workload.reasonings([Entry.model_validate(run_fixtures.entry("p0", "B"))], options).loads
    asked = PromptQuestion("甲比乙高，乙比丙高。(p0)", "谁高？", ("甲", "乙", "丙"))
    assert load.expected.calls == pytest.approx(1 + 0.6)
    assert load.expected.input_tokens == pytest.approx(1.6 * prompts.tokens(PROMPT.completion(asked).strip()))


# Export, examples and training


def solved(name: str = "p0") -> dict[str, Any]:
    return run_fixtures.solved(name, "B")


def test_an_export_has_the_program_beside_the_datas_own_reasoning(stage: Stage, tmp_path: Path) -> None:
    source = solved()
    source["questions"][0]["votequeue"] = {"label": "correct", "origin": "reason"}
    stage.says(reply(RIGHT))
    run = program_run(source, run_fixtures.entry("p1", "A"))
    work(run)
    (entry,) = generated_entries.entries(runs.get_run(run))
    (question,) = entry["questions"]
    made = {
        "label": "correct",
        "origin": "reason",
        "provider": "chat",
        "model": "a",
        "prompt": PROMPT.digest,
    }
    assert question == {
        **source["questions"][0],
        "program": RIGHT,
        "votequeue": {"label": "correct", "origin": "reason", "program": made},
    }
    for name in ("out.jsonl", "out.parquet"):
        collect.collect(run, tmp_path / name)
    (line,) = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == entry
    # Data again: a reasoning run over it keeps the program and its source.
    stage.says(agreeing(), model="b")
    again = open_run(entry, models=["b"])
    work(again)
    (kept,) = next(generated_entries.entries(runs.get_run(again)))["questions"]
    assert (kept["reasoning"], kept["program"]) == (agreeing(), RIGHT)
    assert kept["votequeue"]["program"] == made
    assert kept["votequeue"]["model"] == "b"


def test_programs_of_a_run_are_examples_of_programs(stage: Stage) -> None:
    stage.says(reply(RIGHT))
    bare, both = program_run(), program_run(solved())
    assert [work(run) for run in (bare, both)] == ["B: agreed, asked once", "B: on record already"]
    for run, reasoned in ((bare, False), (both, True)):
        examples = inputs.examples_of(inputs.from_run(runs.get_run(run)))
        runs.add_examples(run, examples.read())
        (example,) = runs.load_examples(run)
        assert (example.program, example.answer, bool(example.reasoning)) == (RIGHT, "B", reasoned)
        assert PROMPT.shows(example)
        assert prompt_files.built_in("zh").shows(example) == reasoned
        shown = PROMPT.chat(PromptQuestion("", "？", ("一", "二")), [example])
        assert f"```python\n{RIGHT}\n```" in [turn.content for turn in shown]


def test_a_program_is_text(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = run_fixtures.entry("p1", "A")
    entry["questions"][0]["program"] = 3
    with pytest.raises(UserError, match="1 bad line"):
        inputs.check([run_fixtures.write(home / "d.jsonl", entry)])
    told = "line 1, questions[0].program: found 3, expected text: rename the field if it is your own"
    assert told in capsys.readouterr().err


def test_a_lora_learns_reasonings_and_programs_and_a_scorer_reasonings_only(stage: Stage) -> None:
    stage.says(reply(RIGHT))
    run = program_run(solved())
    work(run)
    path = run_fixtures.write(Path("more.jsonl"), solved("p5"))
    sources = train.sources([path], [run], [], [])
    kinds = [[(text.voice, text.letter) for text in each.texts] for each in train.gather(sources)]
    assert kinds == [[("reasoning", "B")], []]
    from producers.commands import training_options

    enqueued = train.lora(training_options.lora({}), sources, "t")
    assert (enqueued.questions, enqueued.right, enqueued.wrong) == (2, 2, 0)
    options = runs.get_run("t").options
    assert options["voice_prompts"] == {"program": PROMPT.digest}
    assert options["prompt"] == prompt_files.built_in("zh").digest


def test_the_executor_is_built_once(stage: Stage) -> None:
    executors = wiring.executors(settings.load())
    assert executors("program") is executors("program")
