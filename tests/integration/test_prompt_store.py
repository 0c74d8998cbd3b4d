"""Prompt files of runs: chosen, stored, and rendered by any worker.

votequeue enqueue infer data.jsonl --prompt my.toml  ->  runs.options {"prompt": "5f2c...", ...}
"""

import asyncio
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from producers.enqueue import preview
from shared import prompt_files, prompts, settings
from shared.errors import UserError
from shared.jobs import Infer
from shared.ledger import claims, engine, prompt_store, runs, schema
from shared.options import Sampling
from shared.prompts import FewShotExample
from tests import fakes, tiny
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeScorer
from tests.integration import run_fixtures
from workers.inference.rounds import Rounds

SAMPLING = Sampling(votes=2, max_attempts=2)
MINE = """head = "Be brief.\\n"
case = '''
## {{ problem }}
{{ question }}
{% for letter, text in options %}{{ letter }}. {{ text }}
{% endfor %}'''
solution = "{{ reasoning }}\\n{{ statement }}\\n"
statement = "Answer: {{ answer }}"
stop = ["\\n## "]
reader = "conclusion"
"""


@pytest.fixture(autouse=True)
def _broker(on_broker: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a broker that answers, and no weights on this machine."""
    monkeypatch.setenv("VOTEQUEUE_CACHE", str(home / "cache"))
    settings.load.cache_clear()
    prompt_store._load.cache_clear()


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A"))


@pytest.fixture
def mine(home: Path) -> Path:
    (home / "mine.toml").write_text(MINE, "utf-8")
    return home / "mine.toml"


def english(path: Path) -> Path:
    question = {"question": "Who is taller?", "options": ["Alice", "Bob"], "answer": "A"}
    return run_fixtures.write(
        path, {"id": "e1", "problem": "Alice is taller than Bob.", "questions": [question]}
    )


def work(run: str, generator: FakeGenerator, *examples: FewShotExample) -> str:
    """Give a run's first question to a worker; return the outcome."""
    rounds = Rounds(generator, FakeScorer(), lambda _: fakes.FakeRetriever(examples))
    [outcome] = asyncio.run(rounds.run(claims.claim([Infer(run=run, item=0)], "one", 60)))
    return str(outcome)


def recorded(run: str, option: str) -> object:
    return runs.get_run(run).options[option]


def test_a_prompt_file_is_stored_with_its_run_and_any_worker_builds_the_prompt(
    data: Path, mine: Path, votequeue: Command
) -> None:
    assert votequeue("enqueue", "infer", data, "--prompt", mine, "--run", "r").code == 0
    mine.unlink()
    assert recorded("r", "prompt") == prompt_files.PromptTemplate("mine", MINE).digest
    generator = FakeGenerator(otherwise=["Short.\nAnswer: B\n## More\nAnswer: A", "Answer: B"])
    assert work("r", generator).startswith("B: ")
    [request] = generator.requests
    assert request.prompt.startswith("Be brief.\n## 甲比乙高，乙比丙高。(p1)\n谁高？\nA. 甲\n")
    assert prompt_store.stops(request.sampling) == ("\n## ",)
    assert request.prompt.splitlines()[0] in votequeue("trace", "r", "p1#1").out


@pytest.mark.parametrize("version", ["1783896d", None])
def test_a_run_of_before_prompt_files_gets_the_prompt_it_was_enqueued_with(
    data: Path, version: str | None
) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    with engine.writing() as connection:
        former = {**runs.get_run("r").options, "prompt": version}
        former.pop("language")
        connection.execute(sa.update(schema.runs).values(options=former))
        connection.execute(schema.prompts.delete())
    assert run_fixtures.infer(data, SAMPLING, "r").continued
    assert run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "zh"}), "r").continued
    generator = FakeGenerator()
    work("r", generator)
    entry = runs.load_entry("r", 0)
    assert generator.requests[0].prompt == prompt_files.built_in("zh").completion(runs.asked(entry, 0))


def test_a_worker_without_the_prompt_gives_the_question_back(data: Path, mine: Path) -> None:
    run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": str(mine)}), "r")
    with engine.writing() as connection:
        connection.execute(schema.prompts.update().values(text="of = 'a later version'"))
    with pytest.raises(Exception, match="the prompt of another version of votequeue"):
        work("r", FakeGenerator())


def test_the_datas_language_chooses_the_prompt_and_is_recorded(
    data: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_fixtures.infer(data, SAMPLING, "chinese")
    run_fixtures.infer(english(home / "english.jsonl"), SAMPLING, "english")
    run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "en"}), "given")
    assert [recorded(run, "language") for run in ("chinese", "english", "given")] == ["zh", "en", None]
    assert capsys.readouterr().err.count("prompt en, by the language of the data") == 1
    names = [
        prompt_store.of_votes(str(recorded(run, "prompt"))).name for run in ("chinese", "english", "given")
    ]
    assert names == ["zh", "en", "en"]
    generator = FakeGenerator(otherwise=["Alice.\nThe answer is: A\n\n### Problem\nThe answer is: B"])
    assert work("english", generator).startswith("A: ")
    assert "### Question\nWho is taller?\nA. Alice\n" in generator.requests[0].prompt


def test_the_name_of_a_run_depends_on_its_prompt_unless_it_is_the_first_one(data: Path) -> None:
    first = run_fixtures.infer(data, SAMPLING).run
    assert run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "zh"})).run == first
    assert run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "en"})).run != first


def test_a_run_keeps_its_prompt_when_the_command_is_repeated_without_it(data: Path, mine: Path) -> None:
    run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": str(mine)}), "r")
    assert run_fixtures.infer(data, SAMPLING, "r").continued
    assert prompt_store.of_votes(str(recorded("r", "prompt"))).name == "mine"
    with pytest.raises(UserError, match="its prompt is"):
        run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "zh"}), "r")


def test_the_prompts_reading_rule_applies_unless_a_reader_is_given(
    data: Path, mine: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = MINE.replace('"conclusion"', '"reference"').replace("Answer: ", "答案是：")
    mine.write_text(rule, "utf-8")
    votequeue("enqueue", "infer", data, "--prompt", mine, "--run", "rule")
    votequeue("enqueue", "infer", data, "--prompt", mine, "--reader", "conclusion", "--run", "given")
    monkeypatch.setenv("VOTEQUEUE_READER", "conclusion")
    settings.load.cache_clear()
    votequeue("enqueue", "infer", data, "--prompt", mine, "--run", "set")
    assert [recorded(run, "reader") for run in ("rule", "given", "set")] == [
        "reference",
        "conclusion",
        "conclusion",
    ]


def test_a_faulty_prompt_is_refused_and_nothing_is_written(
    data: Path, mine: Path, votequeue: Command
) -> None:
    mine.write_text(MINE.replace("{{ question }}", "{{ qeustion }}"), "utf-8")
    ended = votequeue("enqueue", "infer", data, "--prompt", mine, "--run", "r")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "mine.toml line 4: case: unknown placeholder 'qeustion'" in ended.err
    ended = votequeue("enqueue", "infer", data, "--prompt", "none", "--run", "r")
    named = "zh, en, zh-program, en-program"
    assert f"no prompt is called 'none'; there are: {named}; or name a .toml file" in ended.err
    assert runs.find_run("r") is None
    assert prompt_store.stored() == []


# The commands


def test_prompts_are_listed_and_shown(data: Path, mine: Path, votequeue: Command) -> None:
    votequeue("enqueue", "infer", data, "--prompt", mine)
    mine.unlink()
    listed = json.loads(votequeue("prompts", "list", "--json").out)
    assert [(row["name"], row["source"]) for row in listed] == [
        ("zh", "built in"),
        ("en", "built in"),
        ("zh-program", "built in"),
        ("en-program", "built in"),
        ("mine", "stored with runs"),
    ]
    assert votequeue("prompts", "list").out.count("\n") == 6
    assert votequeue("prompts", "show", "mine").out == MINE
    assert votequeue("prompts", "show", listed[4]["digest"][:12]).out == MINE
    assert votequeue("prompts", "show", "en").out == prompt_files.built_in("en").text
    # A stored prompt is used again by its name.
    assert votequeue("enqueue", "infer", data, "--prompt", "mine", "--run", "again").code == 0
    assert recorded("again", "prompt") == listed[4]["digest"]


def test_of_two_stored_prompts_with_one_name_the_digest_chooses(
    data: Path, mine: Path, votequeue: Command
) -> None:
    votequeue("enqueue", "infer", data, "--prompt", mine)
    mine.write_text(MINE.replace("brief", "exact"), "utf-8")
    votequeue("enqueue", "infer", data, "--prompt", mine)
    assert "several stored prompts match 'mine': use a digest" in votequeue("prompts", "show", "mine").err


def test_a_preview_is_exactly_what_a_worker_sends(
    data: Path, home: Path, mine: Path, votequeue: Command
) -> None:
    solved = run_fixtures.write(home / "solved.jsonl", *(run_fixtures.solved(f"s{at}") for at in range(3)))
    run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": str(mine)}), "r", str(solved))
    generator = FakeGenerator()
    work("r", generator, *runs.load_examples(runs.get_run("r").examples or ""))
    shown = votequeue("prompts", "preview", data, "--examples", solved, "--prompt", mine)
    assert shown.out == generator.requests[0].prompt
    assert "question p1#1, data in zh" in shown.err
    assert "estimated: no tokenizer on this machine" in shown.err
    assert "a worker chooses the most similar ones" in shown.err
    own = json.loads(votequeue("prompts", "preview", solved, "--examples", solved, "--json").out)
    assert [own["text"].count(f"(s{at})") for at in range(3)] == [1, 1, 1]
    assert own["text"].rindex("(s0)") > own["text"].index("(s2)")
    told = json.loads(votequeue("prompts", "preview", data, "--num-examples", 0, "--json").out)
    assert told["text"] == prompt_files.built_in("zh").completion(runs.asked(runs.load_entry("r", 0), 0))
    assert (told["prompt"], told["examples"], told["tokenizer"]) == ("zh", 0, None)


def test_tokens_are_counted_exactly_where_the_models_tokenizer_is(
    data: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer

    weights = tiny.make(home / "weights")
    monkeypatch.setenv("VOTEQUEUE_MODEL", str(weights))
    settings.load.cache_clear()
    shown = preview.preview(data, None, "en", 0)
    assert shown.tokenizer == str(weights)
    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    assert shown.tokens == len(tokenizer.encode(shown.text).ids) != prompts.tokens(shown.text)


def test_a_preview_refuses_styles_as_enqueue_does(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1"))
    for words, code, message in (
        (("--prompt-style", "both"), 2, "'completion', 'chat' or 'auto', not 'both'"),
        (("--prompt-style", "auto"), 1, "--prompt-style auto depends on the worker's model"),
        (("--examples-as", "list"), 2, "'turns' or 'text', not 'list'"),
    ):
        ended = votequeue("prompts", "preview", data, *words)
        assert (ended.code, message in " ".join(ended.err.replace("│", " ").split())) == (code, True), (
            ended.err
        )


def test_data_without_a_valid_line_have_no_preview(home: Path, votequeue: Command) -> None:
    (home / "bad.jsonl").write_text('{"id": 1, "problem": "1", "questions": []}\n')
    assert "bad.jsonl has no valid line" in votequeue("prompts", "preview", home / "bad.jsonl").err
    assert "cannot read none.jsonl" in votequeue("prompts", "preview", "none.jsonl").err


def test_the_prompt_follows_the_votes_into_a_lora_training(
    data: Path, mine: Path, votequeue: Command
) -> None:
    run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": str(mine)}), "r")
    generator = FakeGenerator(otherwise=["甲最高。\nAnswer: A\n## 题\nAnswer: B"])
    work("r", generator)
    assert votequeue("enqueue", "train", "lora", "--from", "r", "--run", "tuned").code == 0
    assert recorded("tuned", "prompt") == recorded("r", "prompt")
    # The texts are cut where the prompt's next case would begin.
    [text] = {text["text"] for text in json.loads(next(runs.load_entries("tuned")))["texts"]}
    assert text == "甲最高。\nAnswer: A"
    solved = run_fixtures.write(data.parent / "solved.jsonl", run_fixtures.solved("s1"))
    votequeue("enqueue", "train", "lora", "--data", solved, "--run", "other")
    assert recorded("other", "prompt") == prompt_files.built_in("zh").digest
