"""`enqueue translate`: three strategies, from a file or from a run, with what is left out told."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from producers.enqueue import publish
from shared import broker, prompts, settings
from shared.jobs import Reason
from shared.ledger import calls, claims, engine, runs, schema
from shared.options import Augmentation
from shared.strategies import STRATEGIES
from tests.conftest import Command
from tests.integration import run_fixtures

pytestmark = pytest.mark.usefixtures("on_broker")
BACK = ("--strategy", "back-translation", "--provider", "tencent", "--run", "t")
VARIANT = ("--strategy", "variant", "--provider", "chat", "--model", "m", "--run", "t")


@pytest.fixture
def data(home: Path) -> Path:
    task = run_fixtures.entry("p3", "A", problem="把“甲比乙高”译成日文。")
    return run_fixtures.write(
        home / "d.jsonl",
        run_fixtures.solved("p1", "AB"),
        run_fixtures.entry("p2", "-C"),
        run_fixtures.entry("p1~synonym", "A", votequeue={"origin": "synonym"}),
        task,
    )


def items() -> list[str]:
    columns = schema.items.c
    with engine.reading() as connection:
        return list(connection.scalars(sa.select(columns.key).order_by(columns.run, columns.number)))


def chosen(run: str = "t") -> dict[str, Any]:
    """Give a run's options, but for those that its strategy has no use for."""
    options = runs.get_run(run).options
    assert Augmentation.model_validate(options)
    return {name: value for name, value in options.items() if value is not None}


def reasoned(home: Path, votequeue: Command, count: int = 1) -> None:
    """Make a reason run ``r`` whose first questions are done."""
    data = run_fixtures.write(
        home / "labelled.jsonl", run_fixtures.entry("q1", "A-"), run_fixtures.entry("q2", "B")
    )
    told = ("--label", "wrong", "--provider", "chat", "--model", "m", "--run", "r")
    assert votequeue("enqueue", "reason", data, *told).code == 0
    for held in claims.claim([Reason(run="r", item=number) for number in range(count)], "one", 60):
        text = {
            "letter": "C",
            "text": "丙最高。\n答案是：C",
            "provider": "chat",
            "model": "m",
            "prompt": "1a",
        }
        claims.complete(held, {"texts": [{**text, "reused": False}], "dropped": []})


# Strategies


def test_back_translation_has_an_item_an_entry(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "translate", data, *BACK)
    assert ended.out == "run t enqueued: 2 entries, 2 messages sent\n"
    assert items() == ["p1", "p2"]
    assert broker.waiting("translate") == 2
    assert chosen() == {
        "strategy": "back-translation",
        "provider": "tencent",
        "model": "TextTranslateBatch",
        "language": "zh",
        "pivot": "ja",
        "skip": STRATEGIES["back-translation"].options["skip"],
        "shortest": 0.4,
        "longest": 2.5,
    }


def test_a_prompted_translator_carries_its_prompts_version(data: Path, votequeue: Command) -> None:
    told = "--strategy back-translation --provider chat --model m --from zh --pivot en --run t"
    assert votequeue("enqueue", "translate", data, *told.split()).code == 0
    assert chosen()["prompt"] == prompts.version("translating")
    assert (chosen()["model"], chosen()["pivot"]) == ("m", "en")


def test_synonyms_need_nobody(data: Path, votequeue: Command) -> None:
    told = ("--strategy", "synonym", "--share", 0.3, "--seed", 7, "--run", "t")
    ended = votequeue("enqueue", "translate", data, *told)
    assert ended.out == "run t enqueued: 3 entries, 3 messages sent\n"
    assert items() == ["p1", "p2", "p3"]
    assert chosen() == {"strategy": "synonym", "share": 0.3, "seed": 7}
    assert "not set here" not in ended.err


def test_variants_have_an_item_a_labelled_question(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "translate", data, *VARIANT, "--samples", 7)
    assert items() == ["p1#1", "p1#2", "p2#2", "p3#1"]
    assert "left out (no answer): 1 question\n" in ended.err
    assert chosen() == {
        "strategy": "variant",
        "provider": "chat",
        "model": "m",
        "prompt": prompts.version("varying"),
        "samples": 7,
        "agree": 4,
        "near_copy": 0.97,
        "max_tokens": 1024,
        "temperature": 0.7,
        "reader": "conclusion",
    }


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("--strategy rhyme", "Input should be 'back-translation', 'synonym' or 'variant'"),
        ("--strategy back-translation", "name one of: local, chat, qianfan, tencent"),
        ("--strategy variant", "name one of: local, chat, qianfan"),
        (
            "--strategy variant --provider tencent",
            "does not support chat; choose one of: local, chat, qianfan",
        ),
        ("--strategy back-translation --provider deepl", "does not exist"),
        ("--strategy back-translation --provider chat", "has no default model: name one"),
        ("--strategy variant --provider chat --model m --samples 3", "4 of 3 samples cannot agree"),
        ("--strategy variant --provider chat --model m --agree 0", "greater than or equal to 1"),
        ("--strategy variant --provider chat --model m --near-copy 2", "less than or equal to 1"),
        ("--strategy variant --provider chat --model m --pivot en", "not used by strategy variant"),
        ("--strategy synonym --provider chat", "not used by strategy synonym"),
        ("--strategy synonym --skip-pattern x", "not used by strategy synonym"),
        ("--strategy synonym --budget 3", "synonym costs nothing"),
        ("--strategy synonym --share 0", "greater than 0"),
        ("--strategy back-translation --provider tencent --seed 3", "not used by strategy back-translation"),
        ("--strategy back-translation --provider tencent --pivot zh", "the data are already in zh"),
        ("--strategy back-translation --provider tencent --skip-pattern (", "is not a regular expression"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(
    told: str, said: str, data: Path, votequeue: Command
) -> None:
    ended = votequeue("enqueue", "translate", data, *told.split())
    assert ended.code == 2
    # The frame that usage errors are printed in breaks their lines.
    assert said in re.sub(r"[\s│]+", " ", ended.err)


# What is left out


def test_what_is_left_out_is_told_and_listed(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "translate", data, *BACK, "--json")
    assert "left out (generated): 1 entries" in ended.err
    assert "left out (translation tasks): p3" in ended.err
    assert json.loads(ended.out)["left_out"] == {
        "unlabelled": 0,
        "augmented": 1,
        "translation_tasks": ["p3"],
    }
    assert [json.loads(text)["id"] for text in runs.load_entries("t")] == ["p1", "p2"]


@pytest.mark.parametrize(("pattern", "kept"), [("p1", ["p2", "p3"]), ("", ["p1", "p2", "p3"])])
def test_what_a_translation_task_is_can_be_set(
    pattern: str, kept: list[str], data: Path, votequeue: Command
) -> None:
    votequeue("enqueue", "translate", data, *BACK, "--skip-pattern", pattern)
    assert items() == kept


def test_another_rule_under_the_same_name_is_named(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "translate", data, *BACK, "--skip-pattern", "a")
    ended = votequeue("enqueue", "translate", data, *BACK, "--skip-pattern", "b", "--pivot", "en")
    assert ended.code == 1
    assert "its pivot is ja, not en; its skip is a, not b" in ended.err


def test_data_of_which_nothing_is_left_are_refused(data: Path, votequeue: Command) -> None:
    ended = votequeue("enqueue", "translate", data, *BACK, "--skip-pattern", ".")
    assert ended.code == 1
    assert "none of its 4 entries can be used: 1 generated, 3 translation tasks" in ended.err
    assert runs.list_runs() == []


def test_variants_of_data_without_an_answer_are_refused(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "d.jsonl", run_fixtures.entry("p1", "-"))
    ended = votequeue("enqueue", "translate", data, *VARIANT)
    assert (ended.code, "it has no labelled question" in ended.err) == (1, True)


# Continuing, and money


def test_the_same_command_continues_its_run(data: Path, votequeue: Command) -> None:
    first = votequeue("enqueue", "translate", data, *BACK[:-2], "--json")
    second = votequeue("enqueue", "translate", data, *BACK[:-2], "--json")
    assert json.loads(first.out)["run"] == json.loads(second.out)["run"]
    assert (json.loads(second.out)["continued"], json.loads(second.out)["sent"]) == (True, 0)


def test_a_translation_has_a_budget_too(
    data: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = votequeue("enqueue", "translate", data, *BACK, "--budget", 3)
    assert "needs a price for tencent/TextTranslateBatch" in ended.err
    monkeypatch.setenv("VOTEQUEUE_PRICES", '{"tencent/TextTranslateBatch": {"characters": 58}}')
    settings.load.cache_clear()
    assert votequeue("enqueue", "translate", data, *BACK, "--budget", 3).code == 0
    assert calls.spent("t") == calls.Spending(3.0, 0.0)


# Runs as sources


def test_what_a_reason_run_has_made_can_be_augmented(home: Path, votequeue: Command) -> None:
    reasoned(home, votequeue)
    ended = votequeue("enqueue", "translate", "r", *BACK[:-2])
    assert ended.code == 0
    assert "run r: 1 item still open; their results are not included" in ended.err
    run = runs.list_runs()[-1]
    assert (run.source, run.name.startswith("r-")) == ("run r", True)
    (entry,) = map(json.loads, runs.load_entries(run.name))
    assert entry["id"] == "q1"
    assert entry["questions"][0]["wrong"][0]["reasoning"] == "丙最高。\n答案是：C"


def test_a_run_that_has_made_more_is_other_data(home: Path, votequeue: Command) -> None:
    reasoned(home, votequeue)
    votequeue("enqueue", "translate", "r", *BACK)
    held = claims.claim([Reason(run="r", item=1)], "one", 60)[0]
    text = {"letter": "C", "text": "丙", "provider": "chat", "model": "m", "prompt": "1a", "reused": False}
    claims.complete(held, {"texts": [text], "dropped": []})
    ended = votequeue("enqueue", "translate", "r", *BACK)
    assert (ended.code, "its data is not the same (run r)" in ended.err) == (1, True)


def test_the_data_of_an_answering_run_can_be_augmented(data: Path, home: Path, votequeue: Command) -> None:
    assert votequeue("enqueue", "infer", data, "--run", "i").code == 0
    assert votequeue("enqueue", "translate", "i", *BACK).out.startswith("run t enqueued: 2 entries")
    assert runs.get_run("t").digest == runs.get_run("i").digest


@pytest.mark.parametrize(
    ("source", "said"),
    [("r", "run 'r' has no results yet"), ("nothing", "nothing: there is no such file and no such run")],
)
def test_a_source_that_has_nothing_is_refused(source: str, said: str, home: Path, votequeue: Command) -> None:
    reasoned(home, votequeue, count=0)
    ended = votequeue("enqueue", "translate", source, *BACK)
    assert (ended.code, said in ended.err) == (1, True)


def test_a_training_has_nothing_to_augment(home: Path) -> None:
    runs.open_single(runs.Run("train", "train", "x", "d", None, {}), "scorer")
    ended = subprocess.run(
        [sys.executable, "-m", "producers.enqueue", "translate", "train", "--strategy", "synonym"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "'train' is a train run" in ended.stderr


def test_what_a_reason_run_has_made_can_be_the_examples(home: Path, votequeue: Command) -> None:
    data = run_fixtures.write(home / "labelled.jsonl", run_fixtures.entry("q1", "A"))
    told = ("--label", "correct", "--provider", "chat", "--model", "m", "--run", "r")
    votequeue("enqueue", "reason", data, *told)
    ended = votequeue("enqueue", "infer", data, "--examples", "r")
    assert (ended.code, "run 'r' has no results yet" in ended.err) == (1, True)
    held = claims.claim([Reason(run="r", item=0)], "one", 60)[0]
    text = {"letter": "A", "text": "甲最高。\n答案是：A", "provider": "chat", "model": "m", "prompt": "1a"}
    claims.complete(held, {"texts": [{**text, "reused": False}], "dropped": []})
    ended = votequeue("enqueue", "infer", data, "--examples", "r", "--run", "i")
    assert ended.out.endswith("with 1 few-shot example\n")
    (example,) = runs.load_examples(str(runs.get_run("i").examples))
    assert example.reasoning.startswith("甲最高")


def test_resume_of_a_run_that_asks_nobody_lifts_no_pause(data: Path, votequeue: Command) -> None:
    votequeue("enqueue", "translate", data, "--strategy", "synonym", "--run", "t")
    calls.pause("chat@1f0c22aa", "arrears", None)
    broker.client().flushall()
    assert publish.resume("t") == 3
    assert len(calls.pauses("chat")) == 1
