"""What runs have made, taken out: entries in the recipe's format, as files and as trainings."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producers import collect, formats, generated_entries
from shared import json_text
from shared.dataset import Entry
from shared.errors import UserError
from shared.ledger import claims, runs
from tests.conftest import Command
from tests.integration import call_fixtures, run_fixtures
from tests.integration.call_fixtures import drop, text

pytestmark = pytest.mark.usefixtures("home")
MADE = {"origin": "reason", "provider": "chat", "model": "m1", "prompt": "1a2b3c4d"}
Read = Callable[[Path], list[dict[str, Any]]]


def from_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def from_folder(path: Path) -> list[dict[str, Any]]:
    import datasets

    return list(datasets.load_from_disk(path))


FORMATS: list[tuple[str, Read]] = [
    ("out.jsonl", run_fixtures.read),
    ("out.parquet", from_parquet),
    ("out.hf", from_folder),
]


@pytest.mark.usefixtures("any_ledger")
def test_a_correct_run_gives_its_texts_as_reasonings_and_nothing_else(home: Path) -> None:
    source = run_fixtures.solved("p1", "AB", origin="web", votequeue={"group": "p0"}, extra=[1.5, None])
    source["questions"][1] |= {"topic": {"x": 1}, "made": 2024}
    run = call_fixtures.reason_run(home, source, run_fixtures.entry("p2", "C"), run_fixtures.entry("p3", "A"))
    call_fixtures.explain(run, 3, text("A"))
    call_fixtures.explain(run, 1, text("B", "乙。\n答案是：B", reused=True))
    claims.bury(call_fixtures.claim(run, 0), "no reasoning")
    first, second = generated_entries.entries(run)
    made = {"reasoning": "乙。\n答案是：B", "votequeue": {"label": "correct", **MADE}}
    assert json_text.dumps(first) == json_text.dumps(
        {**source, "questions": [{**source["questions"][1], **made}]}
    )
    assert (second["id"], len(second["questions"])) == ("p3", 1)


@pytest.mark.usefixtures("any_ledger")
def test_a_wrong_run_gives_its_texts_as_wrong_ones_and_no_reasoning(home: Path) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.solved("p1", "A"), label="wrong", letters="every")
    call_fixtures.explain(run, 0, text("B"), text("C", model="m2"), dropped=(drop("D"),))
    (question,) = next(generated_entries.entries(run))["questions"]
    assert question["answer"] == "A"
    assert "reasoning" not in question
    assert [
        (one["answer"], one["votequeue"]["label"], one["votequeue"]["model"]) for one in question["wrong"]
    ] == [
        ("B", "wrong", "m1"),
        ("C", "wrong", "m2"),
    ]


@pytest.mark.usefixtures("any_ledger")
def test_a_translation_gives_its_entries_in_the_order_of_the_data(home: Path) -> None:
    sources = [run_fixtures.solved(name) for name in ("p1", "p2", "p3")]
    run = call_fixtures.translate_run(home, *sources)
    for number in (2, 0):
        call_fixtures.translate(run, number, call_fixtures.new_entry(sources[number]))
    assert [entry["id"] for entry in generated_entries.entries(run)] == [
        "p1~back-translation",
        "p3~back-translation",
    ]
    assert all(Entry.model_validate(entry).augmented for entry in generated_entries.entries(run))


def test_what_an_older_version_made_comes_out_in_the_present_way(home: Path) -> None:
    source = run_fixtures.solved("p1")
    run = call_fixtures.translate_run(home, source)
    new = call_fixtures.new_entry(source)
    old = {**{name: value for name, value in new.items() if name != "votequeue"}, **new["votequeue"]}
    old["questions"] = [
        {**{name: value for name, value in one.items() if name != "votequeue"}, "made": one["votequeue"]}
        for one in new["questions"]
    ]
    call_fixtures.translate(run, 0, old)
    assert list(generated_entries.entries(run)) == [new]


def test_reasonings_of_an_older_export_stay_with_their_original(home: Path) -> None:
    made = {"label": None, "origin": "synonym", "provider": None, "model": None, "prompt": None}
    old = run_fixtures.entry("p1~synonym", "A", origin="synonym", group="g")
    old["questions"][0]["made"] = made
    run = call_fixtures.reason_run(home, old)
    call_fixtures.explain(run, 0, text("A"))
    (entry,) = (Entry.model_validate(one) for one in generated_entries.entries(run))
    assert (entry.augmented, entry.group) == (True, "g")


def test_a_run_of_another_kind_makes_no_texts() -> None:
    with pytest.raises(UserError, match="is a train run: only reason and translate runs make texts"):
        generated_entries.entries(runs.Run("x", "train", "", "", None, {}))


# Files


@pytest.mark.parametrize(("name", "read"), FORMATS)
def test_every_format_gives_the_same_entries_back(
    name: str, read: Read, home: Path, votequeue: Command
) -> None:
    plain, wrong = run_fixtures.entry("p1", "A-"), run_fixtures.solved("p2", "A")
    run = call_fixtures.translate_run(home, plain, wrong, run_fixtures.entry("p3"))
    made = {"label": "wrong", "origin": "back-translation", "provider": None, "model": None, "prompt": None}
    wrong["questions"][0]["wrong"] = [{"answer": None, "reasoning": "不知道", "votequeue": made}]
    results = [call_fixtures.new_entry(source) for source in (plain, wrong)]
    for number, entry in enumerate(results):
        call_fixtures.translate(run, number, entry)
    claims.bury(call_fixtures.claim(run, 2), "option X is empty")
    ended = votequeue("collect", "t", "-o", name)
    assert ended.out == f"{name}: 2 of 3 entries with a new version\n"
    assert [Entry.model_validate(row) for row in read(home / name)] == list(
        map(Entry.model_validate, results)
    )


@pytest.mark.parametrize(("name", "read"), FORMATS[1:])
def test_a_table_names_the_fields_it_has_no_place_for(
    name: str, read: Read, home: Path, votequeue: Command
) -> None:
    run = call_fixtures.reason_run(home, {**run_fixtures.entry("p1"), "id": 17, "topic": {"a": 1}})
    call_fixtures.explain(run, 0, text("A", "半个\ud800。\n答案是：A"))
    ended = votequeue("collect", "r", "-o", name)
    assert (ended.code, ended.err) == (0, "fields dropped (not in the table schema): topic\n")
    (row,) = read(home / name)
    assert (row["id"], "topic" in row) == ("17", False)
    assert row["questions"][0]["reasoning"] == "半个\\ud800。\n答案是：A"


def test_parquet_is_read_by_datasets_with_its_types(home: Path) -> None:
    import datasets

    run = call_fixtures.reason_run(home, run_fixtures.entry("p1"))
    call_fixtures.explain(run, 0, text("A"))
    collect.collect("r", home / "out.parquet")
    loaded = datasets.Dataset.from_parquet(str(home / "out.parquet"), cache_dir=str(home / "cache"))
    assert loaded.features == formats._features()
    assert loaded[0]["questions"][0]["votequeue"]["label"] == "correct"


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_unfinished_run_is_written_as_far_as_it_is(name: str, home: Path, votequeue: Command) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C"))
    claims.bury(call_fixtures.claim(run, 0), "no reasoning for A: chat/m1 said C, C, C")
    ended = votequeue("collect", "r", "-o", name)
    assert ended.code == 1
    assert ended.out == f"{name}: 0 of 3 questions with a text\n"
    assert "p1#1 is dead: no reasoning for A" in ended.err
    lack = "3 of 3 questions have no text (2 still open: use `--wait`; 1 given up: see `votequeue"
    assert lack in ended.err
    assert (home / name).exists()


def test_what_was_dropped_of_done_questions_is_said(home: Path, votequeue: Command) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1"), label="wrong", letters="every")
    call_fixtures.explain(run, 0, text("B"), dropped=(drop("C"),))
    ended = votequeue("collect", "r", "-o", "out.jsonl", "--json")
    said = json.loads(ended.out)
    assert (ended.code, said["items"], said["done"], said["dropped"], said["entries"]) == (0, 1, 1, 1, 1)
    assert "1 of their letters dropped, see the report" in votequeue("collect", "r", "-o", "out.jsonl").out


def test_a_folder_of_ours_is_replaced_and_any_other_refused(home: Path) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1", "AB"))
    with pytest.raises(UserError, match="nothing to write yet"):
        collect.collect("r", home / "out.hf")
    for number, letter in enumerate("AB"):
        call_fixtures.explain(run, number, text(letter))
        collect.collect("r", home / "out.hf")
        assert len(from_folder(home / "out.hf")[0]["questions"]) == number + 1
    (home / "mine.hf").mkdir()
    with pytest.raises(UserError, match="was not written by `votequeue collect`: choose another"):
        collect.collect("r", home / "mine.hf", wait=True)
    assert not [path.name for path in home.iterdir() if path.name.startswith(".out")]


def test_a_folder_from_before_survives_a_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = call_fixtures.reason_run(home, run_fixtures.entry("p1", "AB"))
    call_fixtures.explain(run, 0, text("A"))
    collect.collect("r", home / "out.hf")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    call_fixtures.explain(run, 1, text("B"))
    monkeypatch.setattr(formats, "_save", full)
    with pytest.raises(UserError, match=r"cannot write .*out\.hf: No space left"):
        collect.collect("r", home / "out.hf")
    assert len(from_folder(home / "out.hf")[0]["questions"]) == 1
    assert sorted(path.name for path in home.glob("*out*")) == ["out.hf"]


def test_without_datasets_the_extra_is_named(
    home: Path, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_fixtures.reason_run(home, run_fixtures.entry("p1"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    ended = votequeue("collect", "r", "-o", "out.parquet", "--wait")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "pip install 'votequeue[collect]'" in ended.err
