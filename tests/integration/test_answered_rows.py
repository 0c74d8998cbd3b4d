"""Rows in their own layout: of added questions, of questions asked again, and with fields of the answers."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from shared.ledger import runs
from tests import format_fixtures
from tests.conftest import Command
from tests.format_fixtures import OPTIONS, PROBLEM, QUESTION, SAMPLES
from tests.integration import run_fixtures
from tests.integration.test_redo import settle

pytestmark = pytest.mark.usefixtures("on_broker")
FIELDS = "confidence,support,outcome"


def agieval(answer: str | None, at: int = 0) -> dict[str, Any]:
    return {"passage": None, "question": f"{QUESTION}{at}", "options": OPTIONS, "label": answer}


def lsat(answer: int, at: int, problem: str = PROBLEM) -> dict[str, Any]:
    name = f"2000_1-G_{problem[0]}_{at}"
    return {
        "context": problem,
        "question": f"{QUESTION}{at}",
        "answers": OPTIONS,
        "label": answer,
        "id_string": name,
    }


def enqueue(votequeue: Command, path: Path, *words: object) -> str:
    ended = votequeue("enqueue", "infer", path, *words)
    assert ended.code == 0, ended.err
    return ended.out


def collect(votequeue: Command, run: str, path: Path, *words: object) -> list[Any]:
    ended = votequeue("collect", run, "-o", path, *words)
    assert ended.code == 0, ended.err
    return format_fixtures.read(path)


# Added questions


@pytest.mark.usefixtures("any_ledger")
def test_added_rows_come_out_in_their_layout_after_the_others(home: Path, votequeue: Command) -> None:
    first = format_fixtures.write(home / "one.jsonl", [agieval("A", 1), agieval(None, 2)])
    more = format_fixtures.write(home / "two.jsonl", [agieval("A", 3), {}, agieval("C", 4), agieval("D", 5)])
    enqueue(votequeue, first, "--run", "r")
    words = ("--append-to", "r", "--skip-bad", "--limit", 2, "--format", "agieval")
    assert "2 questions added, 2 messages sent" in enqueue(votequeue, more, *words)
    # The same rows are added once, even as a part of more.
    assert "0 questions added" in enqueue(votequeue, more, *words)
    assert "1 question added" in enqueue(votequeue, more, "--append-to", "r", "--skip-bad")
    run_fixtures.answer_all("r", 5, "B")
    expected = [agieval("B", 1), agieval("B", 2), agieval("B", 3), {}, agieval("B", 4), agieval("B", 5)]
    assert collect(votequeue, "r", home / "out.jsonl") == expected


def test_ids_that_the_run_has_are_made_others(home: Path, votequeue: Command) -> None:
    first = format_fixtures.write(home / "one.jsonl", [agieval("A", 1), agieval("A", 2)])
    more = format_fixtures.write(home / "two.jsonl", [agieval("A", 1), agieval("A", 3)])
    enqueue(votequeue, first, "--run", "r")
    # The first row is the run's own first question.
    assert "1 question added" in enqueue(votequeue, more, "--append-to", "r")
    ids = [json.loads(text)["id"] for text in runs.load_entries("r")]
    assert ids[:2] == ["q1", "q2"]
    assert ids[2].startswith("q2-")
    assert len(ids) == 3


def test_rows_of_several_layouts_each_come_out_in_their_own(home: Path, votequeue: Command) -> None:
    ours = run_fixtures.write(home / "ours.jsonl", run_fixtures.entry("p1", "A"))
    theirs = format_fixtures.write(home / "theirs.jsonl", [lsat(0, 1), lsat(0, 2)])
    enqueue(votequeue, ours, "--run", "r")
    assert "2 questions added" in enqueue(votequeue, theirs, "--append-to", "r")
    run_fixtures.answer_all("r", 3, "B")
    own = run_fixtures.entry("p1", "B")
    assert collect(votequeue, "r", home / "out.jsonl") == [own, lsat(1, 1), lsat(1, 2)]
    entries = collect(votequeue, "r", home / "entries.jsonl", "--format", "votequeue")
    assert [len(entry["questions"]) for entry in entries] == [1, 2]


# Questions asked again


@pytest.mark.usefixtures("any_ledger")
def test_new_answers_come_out_in_the_rows_of_the_origin(home: Path, votequeue: Command) -> None:
    rows = [lsat(0, 1), lsat(2, 2), {"context": "x"}, lsat(0, 1, "乙"), lsat(0, 1, "丙")]
    path = format_fixtures.write(home / "in.jsonl", rows)
    enqueue(votequeue, path, "--run", "r", "--skip-bad")
    for number, letters in enumerate(("AAA", "B--", "CCC", "D--")):
        settle("r", number, letters)
    path.unlink()
    assert votequeue("enqueue", "infer", "r", "--only", "unread", "--run", "again").code == 0
    # The sources of the chosen entries stand at their new positions.
    assert [len(json.loads(source or "{}")["rows"]) for _, source in runs.load_sources("again")] == [3, 1]
    settle("again", 0, "CCC")
    ended = votequeue("collect", "again", "-o", "out.jsonl")
    assert (ended.code, "1 of 4 questions have no answer" in ended.err) == (1, True)
    settle("again", 1, "A--")
    expected = [lsat(0, 1), lsat(2, 2), {"context": "x"}, lsat(2, 1, "乙"), lsat(0, 1, "丙")]
    assert collect(votequeue, "again", home / "out.jsonl") == expected
    assert collect(votequeue, "r", home / "before.jsonl")[1] == lsat(1, 2)
    # Once more, from the new run.
    assert votequeue("enqueue", "infer", "again", "--only", "unread", "--run", "third").code == 0
    settle("third", 0, "DDD")
    with_fields = collect(votequeue, "third", home / "out.jsonl", "--fields", "support")
    last = {**lsat(3, 1, "丙"), "support": 3}
    assert with_fields[0] == {**lsat(0, 1), "support": 3}
    assert with_fields[2:] == [{"context": "x"}, {**lsat(2, 1, "乙"), "support": 3}, last]


def test_a_run_is_asked_again_with_the_data_that_it_has(home: Path, votequeue: Command) -> None:
    enqueue(votequeue, format_fixtures.write(home / "in.jsonl", [agieval("A")]), "--run", "r")
    settle("r", 0, "A--")
    for words in (["--only", "unread"], []):
        ended = votequeue("enqueue", "infer", "r", *words, "--limit", 1)
        assert (ended.code, "--limit" in ended.err) == (2, True)


# Fields


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_fields_stand_in_the_row_of_their_question(suffix: str, home: Path, votequeue: Command) -> None:
    from pyarrow import parquet

    sample = next(sample for sample in SAMPLES if sample.layout == "mmlu")
    enqueue(votequeue, format_fixtures.write(home / f"in{suffix}", sample.before), "--run", "r")
    # A field without any value has its type nevertheless.
    assert votequeue("collect", "r", "-o", f"none{suffix}", "--fields", FIELDS).code == 1
    run_fixtures.answer_all("r", 2, "B")
    added = {"confidence": 1.0, "support": 5, "outcome": "majority"}
    rows = collect(votequeue, "r", home / f"out{suffix}", "--fields", FIELDS)
    assert [{**row, "outcome": added["outcome"]} for row in rows] == [
        {**row, **added} for row in sample.after
    ]
    if suffix == ".parquet":
        schemas = [parquet.read_schema(home / f"{name}.parquet") for name in ("none", "out")]
        assert schemas[0] == schemas[1]
        assert (
            schemas[0].field("answer").type == parquet.read_schema(home / "in.parquet").field("answer").type
        )
        assert [str(schemas[0].field(name).type) for name in added] == ["double", "int64", "string"]


def test_fields_are_columns_of_a_table(home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == "cmmlu")
    enqueue(votequeue, format_fixtures.write(home / "in.csv", sample.before), "--run", "r")
    run_fixtures.answer_all("r", 1, "B")
    assert votequeue("collect", "r", "-o", "out.csv", "--fields", "support,confidence").code == 0
    with (home / "out.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header == [*sample.before[0], "support", "confidence"]
    assert row == [*map(str, sample.after[0].values()), "5", "1.0"]


@pytest.mark.parametrize("layout", ["race-article", "mmlu-csv", "logiqa-text"])
def test_fields_without_a_place_are_refused_at_once(layout: str, home: Path, votequeue: Command) -> None:
    sample = next(sample for sample in SAMPLES if sample.layout == layout)
    suffix = {"mmlu-csv": ".csv", "logiqa-text": ".txt"}.get(layout, ".jsonl")
    enqueue(votequeue, format_fixtures.write(home / f"in{suffix}", sample.before), "--run", "r")
    # Before the wait for a run without workers.
    ended = votequeue("collect", "r", "-o", f"out{suffix}", "--fields", "support", "--wait")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "no place for them: use --format votequeue" in ended.err
    assert not (home / f"out{suffix}").exists()
    run_fixtures.answer_all("r", len(sample.letters), "B")
    words = ("--fields", "support", "--format", "votequeue")
    entries = collect(votequeue, "r", home / "out.jsonl", *words)
    assert {question["support"] for entry in entries for question in entry["questions"]} == {5}


def test_a_field_that_a_row_has_is_not_overwritten(home: Path, votequeue: Command) -> None:
    rows = [{**agieval("A"), "support": "mine"}]
    enqueue(votequeue, format_fixtures.write(home / "in.jsonl", rows), "--run", "r")
    ended = votequeue("collect", "r", "-o", "out.jsonl", "--fields", "support")
    assert (ended.code, "q1#1 has a field 'support' of its own" in ended.err) == (1, True)


# Votes


def test_votes_have_no_layout(home: Path, votequeue: Command) -> None:
    enqueue(votequeue, format_fixtures.write(home / "in.jsonl", [agieval("A")]), "--run", "r")
    ended = votequeue("collect", "r", "-o", "out.jsonl", "--votes", "--format", "votequeue")
    assert (ended.code, "does not apply to --votes" in ended.err) == (2, True)
    run_fixtures.answer_all("r", 1, "B")
    assert votequeue("collect", "r", "-o", "votes.csv", "--votes").out.startswith("votes.csv: 5 votes, ")
    with (home / "votes.csv").open(newline="", encoding="utf-8") as file:
        assert [row["letter"] for row in csv.DictReader(file)] == ["B"] * 5


# The prompt


def test_a_prompt_is_previewed_for_data_in_any_layout(home: Path, votequeue: Command) -> None:
    english = {"question": "Who is tallest?", "choices": ["Ann", "Bob"], "answer": 0}
    format_fixtures.write(home / "in.parquet", [english, {**english, "question": "Who is second?"}])
    ended = votequeue("prompts", "preview", "in.parquet")
    assert ended.code == 0, ended.err
    assert "Who is tallest?" in ended.out
    assert "question q1#1, data in en" in ended.err
    format_fixtures.write(home / "in.tsv", [{"stem": "Who?", "one": "Ann", "two": "Bob"}] * 9)
    words = ("--map", "question=stem", "--map", "options=one,two", "--sample", 1, "--json")
    shown = json.loads(votequeue("prompts", "preview", "in.tsv", *words).out)
    enqueued = votequeue("enqueue", "infer", "in.tsv", "--run", "r", *words)
    assert enqueued.code == 0, enqueued.err
    (text,) = runs.load_entries("r")
    assert shown["key"] == f"{json.loads(text)['id']}#1"
    assert runs.get_run("r").options["language"] == "en"
